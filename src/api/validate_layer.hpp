// What the projections and the layer accept, beyond what attention does.
#pragma once

#include <cstdint>

#include "headwise/multi_head_attention.hpp"

namespace headwise::detail {

/// The argument of pack_weight().
/// \throws std::invalid_argument
template <class T>
void validate_packable(const Projection<T>& projection);

/// The arguments of project().
/// \throws std::invalid_argument
template <class T>
void validate_projection(const TensorView<const T, 3>& input, const Projection<T>& projection,
                         const TensorView<T, 3>& output, int num_threads);

/// Either packed or query, key and value.
/// \throws std::invalid_argument
template <class T>
void validate_weight_set(const MultiHeadAttentionWeights<T>& weights);

/// The weights against a shape that is valid for attention.
/// \throws std::invalid_argument
template <class T>
void validate_layer(const MultiHeadAttentionShape& shape, const MultiHeadAttentionWeights<T>& weights);

/// The data of one run of a valid layer, but for what validate_arguments() checks of its attention: key lengths, query
/// offsets and the extents of logsumexp and weights.
/// \throws std::invalid_argument
template <class T>
void validate_layer_arguments(const MultiHeadAttentionShape& shape, const MultiHeadAttentionWeights<T>& weights,
                              const MultiHeadAttentionArguments<T>& arguments);

}  // namespace headwise::detail
