// What attention accepts. Every argument is checked once, before any work: outputs are untouched when one is refused.
#pragma once

#include <cstddef>
#include <span>

#include "headwise/attention.hpp"

namespace headwise::detail {

/// Extents ≥ 0, head_dim ≥ 1, head_dim and value_dim ≤ most_features, num_heads a multiple of num_kv_heads, and query, key,
/// value and output of at most 2^60 elements each, where an extent of zero counts as one: every product of extents of one of
/// them fits 64 bits.
/// \throws std::invalid_argument
void validate_shape(const AttentionShape& shape);

/// Scale finite, in T and base 2, too; softcap finite and ≥ 0, sides of the window ≥ −1, enumerators within their range,
/// num_threads ≥ 0.
/// \throws std::invalid_argument
template <class T>
void validate_options(const AttentionOptions& options);

/// The data of one run against a shape and options that are valid: extents, what is given per sequence and per head,
/// pointers, alignment, strides, and outputs that share no element with anything else. Strides of axes with at most one
/// element mean nothing and may hold anything. Keys are given by key and value (with key lengths or not), by those of a
/// ragged batch, or by runs.
/// \throws std::invalid_argument
template <class T, class KV>
void validate_arguments(const AttentionShape& shape, const AttentionOptions& options,
                        const AttentionArguments<T, KV>& arguments);

/// A workspace of at least `needed` bytes on a 64-byte boundary; null and empty = none given, which is fine.
/// \throws std::invalid_argument
void validate_workspace(std::span<std::byte> workspace, std::size_t needed);

extern template void validate_arguments(const AttentionShape&, const AttentionOptions&,
                                        const AttentionArguments<float>&);
extern template void validate_arguments(const AttentionShape&, const AttentionOptions&,
                                        const AttentionArguments<double>&);

}  // namespace headwise::detail
