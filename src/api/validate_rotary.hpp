// What rotary embedding accepts, on views and on append to a cache.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "headwise/rotary.hpp"

namespace headwise::detail {

/// Layout, rotary_dim within `dim`, base and num_threads; the table's extents are [any, rotary_dim/2]. Not its memory.
/// \param name what the options are called \param dim_name what the features are called
/// \throws std::invalid_argument
template <class T>
void validate_rotary(std::string_view name, const RotaryOptions& options, std::string_view dim_name, std::int64_t dim,
                     const std::optional<RotaryTable<T>>& table);

extern template void validate_rotary(std::string_view, const RotaryOptions&, std::string_view, std::int64_t,
                                     const std::optional<RotaryTable<float>>&);
extern template void validate_rotary(std::string_view, const RotaryOptions&, std::string_view, std::int64_t,
                                     const std::optional<RotaryTable<double>>&);

}  // namespace headwise::detail
