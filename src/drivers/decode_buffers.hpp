// The arrays of the row-dot path: partial results of all chunks, and the workspace of one thread.
#pragma once

#include <algorithm>

#include "drivers/attention_call.hpp"
#include "drivers/tile_buffers.hpp"
#include "platform/workspace.hpp"

namespace headwise::detail {

/// Chunks from the first to the last key that some row of a sequence attends, mask and bias aside; at least one. Numbered
/// by position: never of the batch, so that bits do not depend on other sequences.
template <class T, class KV>
KeyRange attended_chunks(const AttentionCall<T, KV>& call, const Sequence& sequence) {
  if (sequence.query_length == 0) return {0, 1};
  // Ranges of rows do not decrease.
  std::int64_t begin = call.keys(sequence, 0).begin;
  const std::int64_t end = call.keys(sequence, sequence.query_length - 1).end;
  if (!call.arguments.key_runs.empty()) begin = std::max(begin, call.piece(sequence, 0, begin).begin);  // the first there is
  return begin < end ? KeyRange{begin / chunk_keys, parts_of(end, chunk_keys)} : KeyRange{0, 1};
}

/// Extents that the arrays depend on.
template <class T, class KV>
struct DecodeSizes {
  /// For any call of the shape.
  DecodeSizes(const AttentionShape& shape, const KernelTable<T, KV>& kernels)
      : rows(std::min(folded_rows(shape.query_length, shape.num_heads / shape.num_kv_heads),
                      most_row_dot_rows(kernels.lanes))),
        query_stride(static_cast<int>(padded(shape.head_dim, kernels.lanes))),
        value_stride(static_cast<int>(padded(shape.value_dim, kernels.lanes))),
        query_vectors(static_cast<int>(vectors_for(shape.head_dim, kernels.lanes))),
        value_vectors(static_cast<int>(vectors_for(shape.value_dim, kernels.lanes))),
        heads(shape.batch * shape.num_kv_heads),
        chunks(std::max<std::int64_t>(parts_of(shape.key_length, chunk_keys), 1)),
        parts(chunks) {}

  /// For one call.
  explicit DecodeSizes(const AttentionCall<T, KV>& call) : DecodeSizes(call.shape, call.kernels) {
    parts = 1;
    for (std::int64_t b = 0; b < call.shape.batch; ++b) {
      const KeyRange attended = attended_chunks(call, call.sequence(b));
      parts = std::max(parts, attended.end - attended.begin);
    }
  }

  std::int64_t rows;  ///< most rows of one key/value head
  int query_stride;   ///< padded features
  int value_stride;
  int query_vectors;  ///< … in vectors
  int value_vectors;
  std::int64_t heads;   ///< key/value heads of the whole batch
  std::int64_t chunks;  ///< of the longest sequence
  std::int64_t parts;   ///< most of them with keys that a row attends, in one sequence
};

/// Workspace of one thread.
template <class T, class KV>
struct StepBuffers {
  T* query;         ///< [rows][query_stride], scaled
  T* scores;        ///< [rows][step_keys]
  T* factor;        ///< [rows]
  KeyRange* range;  ///< [rows] attended keys of the step, relative to it
  KV* key;          ///< one step of keys side by side, where they cannot be read in place
  KV* value;
};

template <class T, class KV>
StepBuffers<T, KV> carve_step(Carver& carver, const DecodeSizes<T, KV>& sizes) {
  const auto rows = static_cast<std::size_t>(sizes.rows);
  StepBuffers<T, KV> buffers{};
  buffers.query = carver.take<T>(rows * static_cast<std::size_t>(sizes.query_stride));
  buffers.scores = carver.take<T>(rows * step_keys);
  buffers.factor = carver.take<T>(rows);
  buffers.range = carver.take<KeyRange>(rows);
  buffers.key = carver.take<KV>(static_cast<std::size_t>(sizes.query_stride) * step_keys);
  buffers.value = carver.take<KV>(static_cast<std::size_t>(sizes.value_stride) * step_keys);
  return buffers;
}

/// State and accumulator of every row, attended chunk by chunk; the first chunk's become those of all keys.
template <class T>
struct Partials {
  T* reference;    ///< [heads][parts][rows]
  T* sum;          ///< [heads][parts][rows]
  T* accumulator;  ///< [heads][parts][rows][value_stride]

  /// Those of one head.
  template <class KV>
  Partials of_head(const DecodeSizes<T, KV>& sizes, std::int64_t head) const {
    const std::int64_t first = head * sizes.parts * sizes.rows;
    return {reference + first, sum + first, accumulator + first * sizes.value_stride};
  }
};

template <class T, class KV>
Partials<T> carve_partials(Carver& carver, const DecodeSizes<T, KV>& sizes) {
  const auto count = static_cast<std::size_t>(sizes.heads * sizes.parts * sizes.rows);
  return {.reference = carver.take<T>(count),
          .sum = carver.take<T>(count),
          .accumulator = carver.take<T>(count * static_cast<std::size_t>(sizes.value_stride))};
}

}  // namespace headwise::detail
