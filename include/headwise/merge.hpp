/// \file
/// Merging partial results over disjoint sets of keys, so that keys can be sharded over calls, threads or machines.
#pragma once

#include <optional>
#include <span>
#include <type_traits>

#include "headwise/tensor.hpp"

namespace headwise {
inline namespace v0 {

/// Attention over some of the keys.
template <class T>
struct PartialAttention {
  TensorView<const T, 4> output;     ///< [batch, num_heads, query_length, value_dim]
  TensorView<const T, 3> logsumexp;  ///< [batch, num_heads, query_length], natural logarithm
};

/// The result over the union of the parts' keys, row by row:
///
///     L = ln Σ_p exp(logsumexp_p),    output = Σ_p exp(logsumexp_p − L) · output_p,    logsumexp = L
///
/// A part with logsumexp −∞ has no keys: its output is not read and may hold anything. A row without keys in any part
/// gives +0 and −∞, a row with keys in one part is that part's row, bit for bit; a logsumexp of NaN or +∞ gives a row
/// of NaN. Parts are added in the order given, in double precision. Give the sinks to one of the parts only.
/// \param parts at least one; any strides, also broadcast ones
/// \param output [batch, num_heads, query_length, value_dim], any strides without coinciding elements
/// \param logsumexp [batch, num_heads, query_length], or absent; shares no element with output, and neither with a part
/// \throws std::invalid_argument naming the argument, its value and what was expected; std::bad_alloc. Outputs are
///         untouched then.
/// Source: the merge rule of FlashAttention (Dao et al., 2022) and Flash-Decoding (Dao et al., 2023).
template <class T>
void merge_attention(std::type_identity_t<std::span<const PartialAttention<T>>> parts, TensorView<T, 4> output,
                     std::type_identity_t<std::optional<TensorView<T, 3>>> logsumexp = {});

extern template void merge_attention<float>(std::span<const PartialAttention<float>>, TensorView<float, 4>,
                                            std::optional<TensorView<float, 3>>);
extern template void merge_attention<double>(std::span<const PartialAttention<double>>, TensorView<double, 4>,
                                             std::optional<TensorView<double, 3>>);

}  // namespace v0
}  // namespace headwise
