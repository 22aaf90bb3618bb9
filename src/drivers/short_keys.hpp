// Calls whose keys are one block of each head, limited by causality at most, with nothing beside the output: one kernel
// call a tile. What a tile takes else to look at blocks, options and further outputs is a fifth of the time of 16 queries
// and keys.
#pragma once

#include <tuple>

#include "drivers/tile_buffers.hpp"
#include "platform/parallel.hpp"

namespace headwise::detail {

template <class T, class KV>
bool has_short_keys(const AttentionCall<T, KV>& call, const TileNeeds& needs) {
  const auto& [arguments, options, shape] = std::tie(call.arguments, call.options, call.shape);
  const bool one_block = shape.key_length > 0 && shape.key_length <= call.kernels.max_block_keys;
  const bool own_lengths = call.is_ragged() || !arguments.key_runs.empty() || !arguments.key_lengths.empty();
  const bool in_place = !needs.key && !needs.value && !needs.output && arguments.query.stride(3) == 1;
  const bool plain = options.window.left < 0 && options.softcap == 0 && arguments.alibi_slopes.empty() &&
                     arguments.sinks.empty() && !arguments.mask && !arguments.key_padding_mask && !arguments.bias;
  const bool output_only = !arguments.logsumexp && !arguments.weights && !arguments.mean_weights && !arguments.scores;
  return call.group == 1 && one_block && !own_lengths && in_place && plain && output_only && shape.value_dim > 0;
}

/// The tiles of all heads by number, those of a head from the last to the first as elsewhere; `Limited` by positions.
/// TileTasks, which knows ragged batches and groups of tiles, would make N=16 about 3 % slower.
template <bool Limited, class T, class KV>
class ShortKeyTiles {
 public:
  explicit ShortKeyTiles(const AttentionCall<T, KV>& call)
      : call_(call), per_head_(count_tiles(call.shape.query_length, call.kernels.tile_rows)) {}

  std::int64_t count() const { return call_.shape.batch * call_.shape.num_heads * per_head_; }

  /// Sets what a tile has of its own.
  void locate(std::int64_t tile, TileArguments<T, KV>& arguments) const {
    const auto& [query, key, value, output] =
        std::tie(call_.arguments.query, call_.arguments.key, call_.arguments.value, call_.arguments.output);
    const std::int64_t index = per_head_ == 1 ? tile : tile / per_head_;
    const std::int64_t heads = call_.shape.num_heads, batch = call_.shape.batch == 1 ? 0 : index / heads;
    const std::int64_t head = index - batch * heads;
    const auto first = [batch, head](const auto& view) {
      return view.data + batch * view.stride(0) + head * view.stride(1);
    };
    const TileRows rows = tile_range(call_.shape.query_length, per_head_ - 1 - (tile - index * per_head_),
                                     call_.kernels.tile_rows, call_.kernels.lanes, !Limited);
    arguments.query = {first(query) + rows.first * query.stride(2), query.stride(2)};
    arguments.rows = rows.count;
    arguments.keys = arguments.first_row_keys = static_cast<int>(call_.shape.key_length);
    if constexpr (Limited) limit(batch, rows, arguments);
    arguments.key = {first(key), key.stride(2)};
    arguments.value = {first(value), value.stride(2)};
    arguments.output = first(output) + rows.first * output.stride(2);
  }

 private:
  void limit(std::int64_t batch, const TileRows& rows, TileArguments<T, KV>& arguments) const {
    const Sequence sequence = call_.sequence(batch);
    const std::int64_t keys = call_.keys(sequence, rows.first + rows.count - 1).end;
    arguments.keys = static_cast<int>(keys);
    // Rows before any key attend none, however far before.
    arguments.first_row_keys = static_cast<int>(
        std::clamp<std::int64_t>(call_.bounds(sequence, rows.first).end, -call_.kernels.tile_rows, keys));
  }

  const AttentionCall<T, KV>& call_;
  std::int64_t per_head_;
};

/// \param memory of the tiles: they need more
template <bool Limited, class T, class KV>
void run_short_keys(const AttentionCall<T, KV>& call, const TileNeeds& needs, std::byte* memory) {
  const ShortKeyTiles<Limited, T, KV> tiles(call);
  const std::int64_t most_rows = call.kernels.tile_rows, count = tiles.count();
  struct Buffers {
    T* packed;
    T* scores;
  };
  const auto carve = [&call, most_rows](Carver& carver) {
    const auto take = [&](std::int64_t columns) { return carver.take<T>(static_cast<std::size_t>(columns * most_rows)); };
    return Buffers{take(call.shape.head_dim), take(call.shape.key_length)};
  };
  Carver one_thread;
  carve(one_thread);
  parallel_workers(call.num_threads, count, [&](int thread) {
    Carver carver(memory + static_cast<std::size_t>(thread) * one_thread.used());
    return [&, buffers = carve(carver)](std::int64_t tile) {
      TileArguments<T, KV> arguments;
      tiles.locate(tile, arguments);
      arguments.head_dim = static_cast<int>(call.shape.head_dim);
      arguments.factor = static_cast<T>(call.scale * std::numbers::log2e);
      arguments.value_vectors = static_cast<int>(vectors_for(call.shape.value_dim, call.kernels.lanes));
      arguments.output_stride = call.arguments.output.stride(2);
      arguments.packed = buffers.packed;
      arguments.scores = buffers.scores;
      arguments.fetch_output = needs.fetch;
      arguments.next_query = nullptr;
      if (needs.fetch && tile + 1 < count) {
        TileArguments<T, KV> next;
        tiles.locate(tile + 1, next);
        arguments.next_query = next.query.data;
      }
      call.kernels.attend_tile(arguments);
    };
  });
}

template <class T, class KV>
void run_short_keys(const AttentionCall<T, KV>& call, const TileNeeds& needs, std::byte* memory) {
  if (call.limits_keys()) run_short_keys<true>(call, needs, memory);
  else run_short_keys<false>(call, needs, memory);
}

}  // namespace headwise::detail
