// The workspace of one thread that computes tiles, and which operands of a call are copied into it.
#pragma once

#include <algorithm>

#include "drivers/attention_call.hpp"
#include "platform/cpu.hpp"
#include "platform/workspace.hpp"

namespace headwise::detail {

/// What a tile needs room for, and whether its output is worth fetching. Bits do not depend on either.
struct TileNeeds {
  bool key = true;      ///< copies of keys: far, or not feature by feature
  bool value = true;    ///< copies of values: likewise, or no whole vectors
  bool output = true;   ///< rows accumulated so far: output rows are far or cannot be written in place
  bool scatter = true;  ///< … cannot be written in place: not feature by feature, or no whole vectors
  bool mask = true;     ///< attended bits
  bool checks = true;   ///< which values are finite
  bool fetch = true;    ///< rows of the output before they are written: the caches do not hold them
};

template <class T, class KV>
TileNeeds tile_needs(const AttentionCall<T, KV>& call) {
  const auto& arguments = call.arguments;
  const bool whole_vectors = call.shape.value_dim == padded(call.shape.value_dim, call.kernels.lanes);
  const double output_bytes = call.output_bytes();
  TileNeeds needs{.key = false,
                  .value = !whole_vectors,
                  .output = rows_are_far(arguments.output.stride(2), call.shape.value_dim, sizeof(T)),
                  .scatter = arguments.output.stride(3) != 1 || !whole_vectors,
                  .mask = arguments.mask || arguments.key_padding_mask,
                  .checks = arguments.mask || arguments.key_padding_mask || arguments.bias,
                  .fetch = output_bytes >= least_fetched_bytes && is_fetched(output_bytes, second_level_cache_bytes())};
  const auto add = [&](const TensorView<const KV, 4>& key, const TensorView<const KV, 4>& value) {
    needs.key = needs.key || used_stride(key, 3) != 1 ||
                rows_are_far(used_stride(key, 2), call.shape.head_dim, sizeof(KV));
    needs.value = needs.value || used_stride(value, 3) != 1 ||
                  rows_are_far(used_stride(value, 2), call.shape.value_dim, sizeof(KV));
  };
  needs.output = needs.output || needs.scatter;
  if (arguments.key_runs.empty()) add(arguments.key, arguments.value);
  for (const KeyRun<KV>& run : arguments.key_runs) add(run.key, run.value);
  return needs;
}

/// Most tiles that a thread computes at once.
template <class T, class KV>
int tiles_at_once(const AttentionShape& shape, const KernelTable<T, KV>& kernels, const TileNeeds& needs) {
  return needs.key || needs.value ? tiles_together(kernels.tile_rows, shape.head_dim + shape.value_dim, sizeof(T)) : 1;
}

/// Keys and values that lie in a thread's buffers, as rows of this memory, from the first row on.
template <class KV>
struct CopiedRows {
  const KV* source = nullptr;
  std::int64_t stride = 0;
  std::int64_t feature_stride = 0;
  int rows = 0;
};

/// Copies the rows that do not lie in `target` already, and says whether there were any.
template <class T, class KV>
bool copy_rows(const KernelTable<T, KV>& kernels, const CopiedRows<KV>& wanted, int features, CopiedRows<KV>& copied,
               KV* target, int target_stride) {
  const bool same = copied.source == wanted.source && copied.stride == wanted.stride &&
                    copied.feature_stride == wanted.feature_stride;
  const int done = same ? copied.rows : 0;
  if (done >= wanted.rows) return false;
  kernels.pack_rows(wanted.source + done * wanted.stride, wanted.stride, wanted.feature_stride, wanted.rows - done,
                    features, target + std::int64_t{done} * target_stride, target_stride);
  copied = wanted;
  return true;
}

/// Values that were looked at, and whether all are finite: the next tile of the head asks again.
template <class KV>
struct CheckedRows {
  const KV* source = nullptr;
  std::int64_t stride = 0;
  int rows = 0;
  bool finite = false;
};
constexpr int num_checks = 64;  ///< key blocks of a head of 6144 keys for float on AVX-512

template <class T, class KV>
struct TileBuffers {
  // Of each tile.
  T* query;
  RowState<T> state;
  T* slope;
  const T** query_rows;
  T** output_rows;       ///< where the last block's results go
  T** accumulated_rows;  ///< where those of the others do
  const std::uint8_t** mask_rows;
  const T** bias_rows;
  T* staging;
  // Of one block of one tile after the other.
  T* scores;
  T* distance;
  int* first_key;  ///< attended keys of each row, relative to the block
  int* last_key;
  T** score_rows;  ///< rows of a scores-shaped output
  KeySpan* spans;
  KV* key;
  KV* value;
  CopiedRows<KV>* copied_key;
  CopiedRows<KV>* copied_value;
  KeyBits<T>* attended;
  CheckedRows<KV>* checks;
};

/// What the tiles of a thread share.
template <class T, class KV>
void carve_block(Carver& carver, const AttentionShape& shape, const KernelTable<T, KV>& kernels, const TileNeeds& needs,
                 TileBuffers<T, KV>& buffers) {
  const auto rows = static_cast<std::size_t>(kernels.tile_rows);
  const auto keys = static_cast<std::size_t>(std::min<std::int64_t>(kernels.max_block_keys, shape.key_length));
  buffers.scores = carver.take<T>(keys * rows);
  buffers.distance = carver.take<T>(rows);
  buffers.first_key = carver.take<int>(rows);
  buffers.last_key = carver.take<int>(rows);
  buffers.score_rows = carver.take<T*>(rows);
  buffers.spans = carver.take<KeySpan>(static_cast<std::size_t>(max_spans(kernels.max_block_keys, kernels.lanes)));
  if (needs.key) buffers.key = carver.take<KV>(keys * static_cast<std::size_t>(shape.head_dim));
  const auto value_dim = static_cast<std::size_t>(padded(shape.value_dim, kernels.lanes));
  if (needs.value) buffers.value = carver.take<KV>(keys * value_dim);
  if (needs.key) buffers.copied_key = carver.take<CopiedRows<KV>>(1);
  if (needs.value) buffers.copied_value = carver.take<CopiedRows<KV>>(1);
  if (needs.mask) buffers.attended = carver.take<KeyBits<T>>((keys / bits_per_word<T> + 1) * rows);
  if (needs.checks) buffers.checks = carver.take<CheckedRows<KV>>(num_checks);
}

/// Adds what is one tile's own. Every need adds bytes and none takes any away: a plan reserves for all of them.
template <class T, class KV>
void carve_tile(Carver& carver, const AttentionShape& shape, const KernelTable<T, KV>& kernels, const TileNeeds& needs,
                TileBuffers<T, KV>& buffers) {
  const auto rows = static_cast<std::size_t>(kernels.tile_rows);
  buffers.query = carver.take<T>(static_cast<std::size_t>(shape.head_dim) * rows);
  RowState<T>& state = buffers.state;
  for (T** array : {&state.reference, &state.sum, &state.maximum, &state.factor, &state.inverse, &state.key_begin,
                    &state.key_end, &buffers.slope}) {
    *array = carver.take<T>(rows);
  }
  buffers.query_rows = carver.take<const T*>(rows);
  buffers.output_rows = buffers.accumulated_rows = carver.take<T*>(rows);
  buffers.mask_rows = carver.take<const std::uint8_t*>(rows);
  buffers.bias_rows = carver.take<const T*>(rows);
  if (needs.output) {
    buffers.accumulated_rows = carver.take<T*>(rows);
    if (needs.scatter) buffers.output_rows = buffers.accumulated_rows;
    buffers.staging = carver.take<T>(rows * static_cast<std::size_t>(padded(shape.value_dim, kernels.lanes)));
  }
}

}  // namespace headwise::detail
