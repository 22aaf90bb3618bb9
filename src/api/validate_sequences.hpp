// What is given per sequence: key lengths, query offsets, the starts of a ragged batch, runs of keys.
#pragma once

#include "headwise/attention.hpp"

namespace headwise::detail {

/// Whether all sequences lie in one batch entry of the views.
template <class T, class KV>
bool is_ragged(const AttentionArguments<T, KV>& arguments) {
  return !arguments.query_starts.empty() || !arguments.key_starts.empty();
}

/// Sizes and values of key lengths, query offsets, the starts of a ragged batch and the spans of key runs, and that
/// they can be together. \pre the extents of all views fit the shape
/// \throws std::invalid_argument
template <class T, class KV>
void validate_sequences(const AttentionShape& shape, const AttentionOptions& options,
                        const AttentionArguments<T, KV>& arguments);

extern template void validate_sequences(const AttentionShape&, const AttentionOptions&,
                                        const AttentionArguments<float>&);
extern template void validate_sequences(const AttentionShape&, const AttentionOptions&,
                                        const AttentionArguments<double>&);

}  // namespace headwise::detail
