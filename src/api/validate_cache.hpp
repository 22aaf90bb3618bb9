// What a cache of keys and values accepts.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "drivers/kv_cache.hpp"
#include "headwise/kv_cache.hpp"

namespace headwise::detail {

/// Extents ≥ 0, head_dim ≥ 1, a ring of at least one slot, and at most 2^60 elements of keys and of values.
/// \throws std::invalid_argument
void validate_cache_shape(const KvCacheShape& shape);

/// Tokens, counts, rotary and table for a cache with slots that are fine.
/// \throws std::invalid_argument
template <class T>
void validate_append(const KvCacheShape& shape, const NewTokens<T>& tokens, const std::optional<RotaryOptions>& rotary,
                     const std::optional<RotaryTable<T>>& table);

/// \param wanted the lengths to truncate to \param first_positions, lengths what the sequences hold
/// \throws std::invalid_argument
void validate_truncate(const KvCacheShape& shape, std::span<const std::int64_t> wanted,
                       std::span<const std::int64_t> first_positions, std::span<const std::int64_t> lengths);

/// \throws std::invalid_argument
void validate_reorder(const KvCacheShape& shape, std::span<const std::int64_t> source);

extern template void validate_append(const KvCacheShape&, const NewTokens<float>&, const std::optional<RotaryOptions>&,
                                     const std::optional<RotaryTable<float>>&);
extern template void validate_append(const KvCacheShape&, const NewTokens<double>&, const std::optional<RotaryOptions>&,
                                     const std::optional<RotaryTable<double>>&);

}  // namespace headwise::detail
