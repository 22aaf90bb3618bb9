#include "drivers/prefill.hpp"

#include <limits>
#include <memory>
#include <type_traits>

#include "drivers/mean_rows.hpp"
#include "drivers/short_keys.hpp"
#include "platform/parallel.hpp"

namespace headwise::detail {
namespace {

/// Numbers the groups of tiles of all sequences: sequence by sequence, head by head, from the last tiles to the first,
/// because under causality later tiles take longer.
template <class T, class KV>
class TileTasks {
 public:
  /// `first` has room for batch + 1 numbers.
  TileTasks(const AttentionCall<T, KV>& call, int most_together, std::int64_t* first) : call_(call), first_(first) {
    together_ = 1;
    number();
    // So many that every thread still has several tasks. Bits do not depend on it.
    together_ = std::clamp<std::int64_t>(count() / (4 * std::int64_t{call.num_threads}), 1, most_together);
    if (together_ > 1) number();
  }

  std::int64_t count() const { return first_[call_.shape.batch]; }

  /// Calls f(sequence, kv_head, rows, tiles) of a task: the rows of its tiles, at most most_tiles_together.
  template <class Function>
  void with_task(std::int64_t task, Function&& function) const {
    const std::int64_t batch =
        call_.shape.batch == 1 ? 0 : std::upper_bound(first_, first_ + call_.shape.batch + 1, task) - first_ - 1;
    const Sequence sequence = call_.sequence(batch);
    const std::int64_t num_rows = folded_rows(sequence.query_length, call_.group), num_tiles = tiles(num_rows);
    const std::int64_t per_head = groups(num_tiles), index = task - first_[batch];
    const std::int64_t kv_head = num_tiles <= together_ ? index : index / per_head;
    const std::int64_t first = (per_head - 1 - (index - kv_head * per_head)) * together_;
    const std::int64_t last = std::min(first + together_, num_tiles);
    TileRows rows[most_tiles_together];
    for (std::int64_t tile = first; tile < last; ++tile) {
      rows[tile - first] = tile_range(num_rows, tile, call_.kernels.tile_rows, call_.kernels.lanes, !call_.limits_keys());
    }
    function(sequence, kv_head, rows, static_cast<int>(last - first));
  }

 private:
  void number() {
    first_[0] = 0;
    for (std::int64_t b = 0; b < call_.shape.batch; ++b) {
      const Sequence sequence = call_.sequence(b);
      const bool tiled = call_.path(sequence) == KernelPath::query_tile;
      const std::int64_t per_head = groups(tiles(folded_rows(sequence.query_length, call_.group)));
      first_[b + 1] = first_[b] + (tiled ? call_.shape.num_kv_heads * per_head : 0);
    }
  }

  std::int64_t tiles(std::int64_t num_rows) const { return count_tiles(num_rows, call_.kernels.tile_rows); }
  std::int64_t groups(std::int64_t num_tiles) const {
    return together_ == 1 ? num_tiles : (num_tiles + together_ - 1) / together_;
  }

  const AttentionCall<T, KV>& call_;
  std::int64_t* first_;
  std::int64_t together_;
};

/// What a thread has in the workspace for the tiles that it computes together.
template <class T, class KV>
struct ThreadTiles {
  TileBuffers<T, KV>* buffers;
  Tile<T, KV>* tiles;  ///< room for them
};

template <class T, class KV>
ThreadTiles<T, KV> carve_list(Carver& carver, std::size_t count) {
  return {carver.take<TileBuffers<T, KV>>(count), carver.take<Tile<T, KV>>(count)};
}

template <class T, class KV>
ThreadTiles<T, KV> carve_thread(Carver& carver, const AttentionShape& shape, const KernelTable<T, KV>& kernels,
                                const TileNeeds& needs) {
  const int count = tiles_at_once(shape, kernels, needs);
  const ThreadTiles<T, KV> thread = carve_list<T, KV>(carver, static_cast<std::size_t>(count));
  TileBuffers<T, KV> shared{};
  carve_block(carver, shape, kernels, needs, shared);
  for (int i = 0; i < count; ++i) carve_tile(carver, shape, kernels, needs, *std::construct_at(thread.buffers + i, shared));
  return thread;
}

/// Bytes that carve_thread takes.
template <class T, class KV>
std::size_t tile_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, const TileNeeds& needs) {
  const auto count = static_cast<std::size_t>(tiles_at_once(shape, kernels, needs));
  Carver once, tile;
  TileBuffers<T, KV> nowhere;
  carve_list<T, KV>(once, count);
  carve_block(once, shape, kernels, needs, nowhere);
  carve_tile(tile, shape, kernels, needs, nowhere);
  return once.used() + tile.used() * count;
}

/// Queries of a task of the mean weights: a head's fill a tile.
template <class T, class KV>
std::int64_t mean_queries(const KernelTable<T, KV>& kernels, std::int64_t group) {
  return std::max<std::int64_t>(1, kernels.tile_rows / group);
}

/// More threads than this have nothing to do in any loop over tasks: tiles, classes of a mask, mean weights.
template <class T, class KV>
std::int64_t most_tasks(const AttentionShape& shape, const KernelTable<T, KV>& kernels) {
  const std::int64_t group = shape.num_heads / shape.num_kv_heads;
  const std::int64_t tiles = count_tiles(folded_rows(shape.query_length, group), kernels.tile_rows);
  return shape.batch * std::max(shape.num_kv_heads * tiles, parts_of(shape.query_length, mean_queries(kernels, group)));
}

template <class T, class KV>
std::size_t workspace_bytes_for(const AttentionShape& shape, const KernelTable<T, KV>& kernels, const TileNeeds& needs,
                                std::int64_t mask_classes, int num_threads) {
  Carver carver;
  carver.take<std::int64_t>(static_cast<std::size_t>(shape.batch) + 1);
  carver.take<MaskClass>(static_cast<std::size_t>(mask_classes));
  const std::int64_t threads = std::min<std::int64_t>(num_threads, most_tasks(shape, kernels));
  return carver.used() + tile_bytes(shape, kernels, needs) * static_cast<std::size_t>(threads);
}

/// Calls work(tiles, task) with tiles of one thread's own.
template <class T, class KV, class Work>
class TileWorker {
 public:
  TileWorker(const AttentionCall<T, KV>& call, const TileNeeds& needs, std::byte* memory, int thread, const Work& work)
      : work_(work), needs_(needs) {
    if (thread > 0) memory += static_cast<std::size_t>(thread) * tile_bytes(call.shape, call.kernels, needs_);
    Carver carver(memory);
    thread_ = carve_thread(carver, call.shape, call.kernels, needs_);
    const TileBuffers<T, KV>& buffers = thread_.buffers[0];
    if (needs_.key) *buffers.copied_key = {};
    if (needs_.value) *buffers.copied_value = {};
    if (needs_.checks) std::fill_n(buffers.checks, num_checks, CheckedRows<KV>{});
  }

  void operator()(std::int64_t task) const { work_(thread_, task); }

 private:
  const Work& work_;
  const TileNeeds& needs_;
  ThreadTiles<T, KV> thread_;
};

/// Computes `tasks` tasks by work(tiles, task), each thread with tiles of its own.
template <class T, class KV, class Work>
void for_tile_tasks(const AttentionCall<T, KV>& call, const TileNeeds& needs, std::byte* memory, std::int64_t tasks,
                    const Work& work) {
  parallel_workers(call.num_threads, tasks,
                   [&](int thread) { return TileWorker<T, KV, Work>(call, needs, memory, thread, work); });
}

/// Sweeps over the keys of a head with one of its tiles.
template <class T, class KV>
void attend_alone(Tile<T, KV> tile, const SavedRows<T>& saved) {
  tile.start();
  while (!tile.at_end()) tile.add_next_block();
  tile.finish(saved);
}

/// … with some of its tiles: at each position all tiles that are there.
template <class T, class KV>
void attend_together(Tile<T, KV>* tiles, int count, const SavedRows<T>& saved) {
  constexpr std::int64_t nowhere = std::numeric_limits<std::int64_t>::max();
  for (int i = 0; i < count; ++i) tiles[i].start();
  for (;;) {
    std::int64_t position = nowhere;
    for (int i = 0; i < count; ++i) {
      if (!tiles[i].at_end()) position = std::min(position, tiles[i].position());
    }
    if (position == nowhere) break;
    for (int i = 0; i < count; ++i) {
      if (!tiles[i].at_end() && tiles[i].position() == position) tiles[i].add_next_block();
    }
  }
  for (int i = 0; i < count; ++i) tiles[i].finish(saved);
}

/// Looks at a mask that several heads or batch entries share, once.
template <class T, class KV>
void classify_mask(const AttentionCall<T, KV>& call, const TileNeeds& needs, const MaskClasses<T, KV>& classes,
                   std::byte* memory) {
  const auto classify = [&](const ThreadTiles<T, KV>& thread, std::int64_t task) {
    const auto row = classes.row(task);
    Sequence sequence = call.sequence(row.batch);
    sequence.query_length = call.shape.query_length;
    const TileRows rows = tile_range(folded_rows(sequence.query_length, call.group), row.tile, call.kernels.tile_rows,
                                     call.kernels.lanes, false);
    Tile<T, KV>(call, thread.buffers[0], needs, classes, sequence, row.kv_head, rows).classify_mask(row.classes, row.units);
  };
  for_tile_tasks(call, needs, memory, classes.rows(), classify);
}

}  // namespace

template <class T, class KV>
std::size_t prefill_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels,
                                    int num_threads) {
  return workspace_bytes_for(shape, kernels, TileNeeds{}, MaskClasses<T, KV>::most(shape, kernels), num_threads);
}

template <class T, class KV>
std::size_t prefill_workspace_bytes(const AttentionCall<T, KV>& call) {
  return workspace_bytes_for(call.shape, call.kernels, tile_needs(call), MaskClasses<T, KV>::count(call),
                             call.num_threads);
}

template <class T, class KV>
void run_prefill(const AttentionCall<T, KV>& call, const SavedRows<T>& saved, std::byte* workspace) {
  const TileNeeds needs = tile_needs(call);
  if (has_short_keys(call, needs)) return run_short_keys(call, needs, workspace);
  Carver shared(workspace);
  const TileTasks<T, KV> tasks(call, tiles_at_once(call.shape, call.kernels, needs),
                               shared.take<std::int64_t>(static_cast<std::size_t>(call.shape.batch) + 1));
  const std::int64_t num_classes = MaskClasses<T, KV>::count(call);
  MaskClasses<T, KV> classes;
  if (num_classes > 0) classes = {call, shared.take<MaskClass>(static_cast<std::size_t>(num_classes))};
  std::byte* threads = workspace + shared.used();
  if (num_classes > 0) classify_mask(call, needs, classes, threads);
  const auto attend = [&](const ThreadTiles<T, KV>& thread, std::int64_t task) {
    tasks.with_task(task, [&](const Sequence& sequence, std::int64_t kv_head, const TileRows* rows, int count) {
      if (count == 1) {
        return attend_alone(Tile<T, KV>(call, thread.buffers[0], needs, classes, sequence, kv_head, rows[0]), saved);
      }
      // On the stack, some would take more of it than a small one has.
      static_assert(std::is_trivially_destructible_v<Tile<T, KV>>);
      for (int i = 0; i < count; ++i) {
        std::construct_at(thread.tiles + i, call, thread.buffers[i], needs, classes, sequence, kv_head, rows[i]);
      }
      attend_together(thread.tiles, count, saved);
    });
  };
  for_tile_tasks(call, needs, threads, tasks.count(), attend);
}

template <class T, class KV>
void run_mean_weights(const AttentionCall<T, KV>& call, const SavedRows<T>& saved, std::byte* workspace) {
  const TileNeeds needs = tile_needs(call);
  const MaskClasses<T, KV> no_classes;
  // A task has all heads of some queries, so no two add to the same row.
  const std::int64_t queries = mean_queries(call.kernels, call.group);
  const std::int64_t steps = parts_of(call.shape.query_length, queries);
  const auto add_weights = [&](const ThreadTiles<T, KV>& thread, std::int64_t task) {
    const Sequence sequence = call.sequence(task / steps);
    if (call.path(sequence) != KernelPath::query_tile) return;
    const std::int64_t first = task % steps * queries;
    const std::int64_t last = std::min(first + queries, sequence.query_length);
    const MeanRows<T> mean(*call.arguments.mean_weights, sequence.batch, {first, last}, {0, call.shape.key_length});
    mean.clear();
    for (std::int64_t kv_head = 0; kv_head < call.shape.num_kv_heads; ++kv_head) {
      for (std::int64_t row = first * call.group; row < last * call.group; row += call.kernels.tile_rows) {
        const int rows = static_cast<int>(std::min<std::int64_t>(last * call.group - row, call.kernels.tile_rows));
        Tile<T, KV>(call, thread.buffers[0], needs, no_classes, sequence, kv_head, {row, rows}).add_weights_to_mean(saved);
      }
    }
    mean.divide(call.shape.num_heads);
  };
  for_tile_tasks(call, needs, workspace, call.shape.batch * steps, add_weights);
}

template std::size_t prefill_workspace_bytes(const AttentionShape&, const KernelTable<float, float>&, int);
template std::size_t prefill_workspace_bytes(const AttentionShape&, const KernelTable<double, double>&, int);
template std::size_t prefill_workspace_bytes(const AttentionCall<float, float>&);
template std::size_t prefill_workspace_bytes(const AttentionCall<double, double>&);
template void run_prefill(const AttentionCall<float, float>&, const SavedRows<float>&, std::byte*);
template void run_prefill(const AttentionCall<double, double>&, const SavedRows<double>&, std::byte*);
template void run_mean_weights(const AttentionCall<float, float>&, const SavedRows<float>&, std::byte*);
template void run_mean_weights(const AttentionCall<double, double>&, const SavedRows<double>&, std::byte*);

}  // namespace headwise::detail
