#include "headwise/rotary.hpp"

#include <string>

#include "api/error.hpp"
#include "api/validate_rotary.hpp"
#include "api/validate_views.hpp"
#include "drivers/rotary.hpp"

namespace headwise {
inline namespace v0 {
namespace {

void validate_positions(const TensorView<const std::int64_t, 2>& positions, std::int64_t batch, std::int64_t tokens) {
  if (positions.extent(0) != batch && positions.extent(0) != 1) {
    detail::refuse("positions.extent(0)", positions.extent(0), "1 or " + std::to_string(batch) + " (batch)");
  }
  if (positions.extent(1) != tokens) {
    detail::refuse("positions.extent(1)", positions.extent(1), std::to_string(tokens) + " (tokens)");
  }
}

void expect_inside_table(const TensorView<const std::int64_t, 2>& positions, std::int64_t rows) {
  for (std::int64_t b = 0; b < positions.extent(0); ++b) {
    for (std::int64_t t = 0; t < positions.extent(1); ++t) {
      const std::int64_t position = positions(b, t);
      if (position >= 0 && position < rows) continue;
      detail::refuse("positions(" + std::to_string(b) + ", " + std::to_string(t) + ")", position,
                     "at least 0 and below " + std::to_string(rows) + " (positions of table.cosine)");
    }
  }
}

}  // namespace

template <class T>
void rotary_embedding(TensorView<T, 4> x, TensorView<const std::int64_t, 2> positions, const RotaryOptions& options,
                      const std::type_identity_t<std::optional<RotaryTable<T>>>& table) {
  for (int axis = 0; axis < 4; ++axis) {
    if (x.extent(axis) < 0) detail::refuse("x.extent(" + std::to_string(axis) + ")", x.extent(axis), "at least 0");
  }
  validate_positions(positions, x.extent(0), x.extent(2));
  detail::validate_rotary("options", options, "x.extent(3)", x.extent(3), table);
  detail::MemoryCheck memory;
  memory.add_output("x", x);
  memory.add_input("positions", positions);
  if (table) {
    memory.add_input("table.cosine", table->cosine);
    memory.add_input("table.sine", table->sine);
  }
  if (x.empty()) return;
  if (table) expect_inside_table(positions, table->cosine.extent(0));
  if (positions.extent(0) == 1) positions.strides[0] = 0;
  detail::run_rotary(x, positions, options, table);
}

template void rotary_embedding<float>(TensorView<float, 4>, TensorView<const std::int64_t, 2>, const RotaryOptions&,
                                      const std::optional<RotaryTable<float>>&);
template void rotary_embedding<double>(TensorView<double, 4>, TensorView<const std::int64_t, 2>, const RotaryOptions&,
                                       const std::optional<RotaryTable<double>>&);

}  // namespace v0
}  // namespace headwise
