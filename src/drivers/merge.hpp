// Merging partial results of attention, row by row.
#pragma once

#include <optional>
#include <span>

#include "headwise/merge.hpp"

namespace headwise::detail {

/// What merge_attention() promises; the arguments satisfy what it asks.
template <class T>
void run_merge(std::span<const PartialAttention<T>> parts, const TensorView<T, 4>& output,
               const std::optional<TensorView<T, 3>>& logsumexp);

extern template void run_merge(std::span<const PartialAttention<float>>, const TensorView<float, 4>&,
                               const std::optional<TensorView<float, 3>>&);
extern template void run_merge(std::span<const PartialAttention<double>>, const TensorView<double, 4>&,
                               const std::optional<TensorView<double, 3>>&);

}  // namespace headwise::detail
