#include "api/validate_rotary.hpp"

#include <cmath>
#include <string>

#include "api/error.hpp"
#include "api/validate_views.hpp"

namespace headwise::detail {

template <class T>
void validate_rotary(std::string_view name, const RotaryOptions& options, std::string_view dim_name, std::int64_t dim,
                     const std::optional<RotaryTable<T>>& table) {
  const ArgumentName argument(name);
  const auto& [layout, rotary_dim, base, num_threads] = options;
  if (layout != RotaryLayout::half_split && layout != RotaryLayout::interleaved) {
    refuse(argument.text(".layout"), static_cast<std::int64_t>(layout), "half_split (0) or interleaved (1)");
  }
  if (rotary_dim < 0 || rotary_dim > dim || rotary_dim % 2 != 0) {
    refuse(argument.text(".rotary_dim"), rotary_dim,
           "an even number from 0 to " + std::to_string(dim) + " (" + std::string(dim_name) + ")");
  }
  if (rotary_dim == 0 && dim % 2 != 0) {
    refuse(dim_name, dim, "an even number, for " + argument.text(".rotary_dim") + " is 0: all features");
  }
  if (!std::isfinite(base) || base <= 0) {
    refuse(argument.text(".base"), number_text(base), "a finite number above 0");
  }
  if (num_threads < 0) refuse(argument.text(".num_threads"), num_threads, "at least 0");
  if (!table) return;

  const std::int64_t rows = table->cosine.extent(0);
  if (rows < 0) refuse("table.cosine.extent(0)", rows, "at least 0");
  const Axis positions{"positions of table.cosine", rows};
  const Axis pairs{"pairs of features", (rotary_dim == 0 ? dim : rotary_dim) / 2};
  expect_extents("table.cosine", table->cosine, {positions, pairs});
  expect_extents("table.sine", table->sine, {positions, pairs});
}

template void validate_rotary(std::string_view, const RotaryOptions&, std::string_view, std::int64_t,
                              const std::optional<RotaryTable<float>>&);
template void validate_rotary(std::string_view, const RotaryOptions&, std::string_view, std::int64_t,
                              const std::optional<RotaryTable<double>>&);

}  // namespace headwise::detail
