// One attention call as the drivers see it: arguments that have been checked, decisions that have been made.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "headwise/attention.hpp"
#include "kernels/kernel_table.hpp"
#include "plan/key_blocks.hpp"

namespace headwise::detail {

/// One batch entry.
struct Sequence {
  std::int64_t batch;
  std::int64_t key_length;
  std::int64_t offset;  ///< position of query 0
};

template <class T, class KV>
struct AttentionCall {
  const AttentionShape& shape;  ///< of this call: key_length is the extent of its key view
  const AttentionOptions& options;
  const AttentionArguments<T, KV>& arguments;
  const KernelTable<T, KV>& kernels;
  double scale;  ///< of base-2 scores: scale · log2(e)
  int num_threads;

  std::int64_t group() const { return shape.num_heads / shape.num_kv_heads; }
  std::int64_t rows() const { return shape.query_length * group(); }

  Sequence sequence(std::int64_t batch) const {
    const auto at = static_cast<std::size_t>(batch);
    Sequence result{batch, shape.key_length, 0};
    if (!arguments.key_lengths.empty()) result.key_length = arguments.key_lengths[at];
    if (options.query_position == QueryPosition::bottom_right) result.offset = result.key_length - shape.query_length;
    if (options.query_position == QueryPosition::given) result.offset = arguments.query_offsets[at];
    return result;
  }

  /// Keys that query `query` of a sequence attends.
  KeyRange keys(const Sequence& sequence, std::int64_t query) const {
    std::int64_t position;
    // A position beyond 64 bits attends everything.
    if (__builtin_add_overflow(query, sequence.offset, &position)) position = sequence.key_length;
    return attended_keys(position, options.causal, sequence.key_length);
  }
};

/// ln Σ exp of a row from its base-2 reference and sum; −∞ for a dead row.
template <class T>
T natural_logsumexp(T reference, T sum) {
  if (sum == T(0)) return -std::numeric_limits<T>::infinity();
  return static_cast<T>((static_cast<double>(reference) + std::log2(static_cast<double>(sum))) * std::numbers::ln2);
}

/// One row of a key/value head (see folded_rows).
struct RowIndex {
  std::int64_t batch;
  std::int64_t head;
  std::int64_t query;
};

/// Address of a row in a [batch, head, position, …] view.
template <class T, int Rank>
T* row_pointer(const TensorView<T, Rank>& view, const RowIndex& row) {
  return view.data + row.batch * view.stride(0) + row.head * view.stride(1) + row.query * view.stride(2);
}

}  // namespace headwise::detail
