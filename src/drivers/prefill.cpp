#include "drivers/prefill.hpp"

#include <array>
#include <limits>
#include <optional>

#include "drivers/mean_rows.hpp"
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
    const std::int64_t batch = std::upper_bound(first_, first_ + call_.shape.batch + 1, task) - first_ - 1;
    const Sequence sequence = call_.sequence(batch);
    const std::int64_t per_head = groups(sequence), index = task - first_[batch];
    const std::int64_t first = (per_head - 1 - index % per_head) * together_;
    const std::int64_t last = std::min(first + together_, tiles(sequence));
    TileRows rows[most_tiles_together];
    for (std::int64_t tile = first; tile < last; ++tile) {
      rows[tile - first] = tile_range(folded_rows(sequence.query_length, call_.group()), tile, call_.kernels.tile_rows,
                                      call_.kernels.lanes, !call_.limits_keys());
    }
    function(sequence, index / per_head, rows, static_cast<int>(last - first));
  }

 private:
  void number() {
    first_[0] = 0;
    for (std::int64_t b = 0; b < call_.shape.batch; ++b) {
      const Sequence sequence = call_.sequence(b);
      const bool tiled = call_.path(sequence) == KernelPath::query_tile;
      first_[b + 1] = first_[b] + (tiled ? call_.shape.num_kv_heads * groups(sequence) : 0);
    }
  }

  std::int64_t tiles(const Sequence& sequence) const {
    return count_tiles(folded_rows(sequence.query_length, call_.group()), call_.kernels.tile_rows);
  }
  std::int64_t groups(const Sequence& sequence) const { return (tiles(sequence) + together_ - 1) / together_; }

  const AttentionCall<T, KV>& call_;
  std::int64_t* first_;
  std::int64_t together_;
};

/// One thread's buffers: one after the other for the tiles that it computes together.
template <class T, class KV>
using ThreadBuffers = std::array<TileBuffers<T, KV>, most_tiles_together>;

template <class T, class KV>
ThreadBuffers<T, KV> carve_thread(Carver& carver, const AttentionShape& shape, const KernelTable<T, KV>& kernels,
                                  const TileNeeds& needs) {
  ThreadBuffers<T, KV> buffers;
  buffers.fill(carve_block(carver, shape, kernels, needs));
  for (int i = 0; i < needs.tiles_together(); ++i) {
    carve_tile(carver, shape, kernels, needs, buffers[static_cast<std::size_t>(i)]);
  }
  return buffers;
}

/// Bytes of one thread's buffers.
template <class T, class KV>
std::size_t tile_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, const TileNeeds& needs) {
  Carver carver;
  carve_thread(carver, shape, kernels, needs);
  return carver.used();
}

template <class T, class KV>
std::size_t workspace_bytes_for(const AttentionShape& shape, const KernelTable<T, KV>& kernels, const TileNeeds& needs,
                                std::int64_t mask_classes, int num_threads) {
  Carver carver;
  carver.take<std::int64_t>(static_cast<std::size_t>(shape.batch) + 1);
  carver.take<MaskClass>(static_cast<std::size_t>(mask_classes));
  return carver.used() + tile_bytes(shape, kernels, needs) * static_cast<std::size_t>(num_threads);
}

/// Calls work(buffers, needs, task) with buffers of the thread's own: the factory that parallel_workers asks for.
template <class T, class KV, class Work>
auto tile_workers(const AttentionCall<T, KV>& call, std::byte* memory, const Work& work) {
  const TileNeeds needs = tile_needs(call);
  return [&call, &work, memory, needs, bytes = tile_bytes(call.shape, call.kernels, needs)](int thread) {
    Carver carver(memory + static_cast<std::size_t>(thread) * bytes);
    const ThreadBuffers<T, KV> buffers = carve_thread(carver, call.shape, call.kernels, needs);
    if (needs.key) *buffers[0].copied_key = {};
    if (needs.value) *buffers[0].copied_value = {};
    return [&work, needs, buffers](std::int64_t task) { work(buffers, needs, task); };
  };
}

/// Sweeps over the keys of a head with some of its tiles: at each position all tiles that are there.
template <class T, class KV>
void attend_together(std::optional<Tile<T, KV>>* tiles, int count, const SavedRows<T>& saved) {
  constexpr std::int64_t nowhere = std::numeric_limits<std::int64_t>::max();
  for (int i = 0; i < count; ++i) tiles[i]->start();
  for (;;) {
    std::int64_t position = nowhere;
    for (int i = 0; i < count; ++i) {
      if (!tiles[i]->at_end()) position = std::min(position, tiles[i]->position());
    }
    if (position == nowhere) break;
    for (int i = 0; i < count; ++i) {
      if (!tiles[i]->at_end() && tiles[i]->position() == position) tiles[i]->add_next_block();
    }
  }
  for (int i = 0; i < count; ++i) tiles[i]->finish(saved);
}

/// Looks at a mask that several heads or batch entries share, once.
template <class T, class KV>
void classify_mask(const AttentionCall<T, KV>& call, const MaskClasses<T, KV>& classes, std::byte* memory) {
  const auto classify = [&](const ThreadBuffers<T, KV>& buffers, const TileNeeds& needs, std::int64_t task) {
    const auto row = classes.row(task);
    Sequence sequence = call.sequence(row.batch);
    sequence.query_length = call.shape.query_length;
    const TileRows rows = tile_range(folded_rows(sequence.query_length, call.group()), row.tile, call.kernels.tile_rows,
                                     call.kernels.lanes, false);
    Tile<T, KV>(call, buffers[0], needs, classes, sequence, row.kv_head, rows).classify_mask(row.classes, row.units);
  };
  parallel_workers(call.num_threads, classes.rows(), tile_workers(call, memory, classify));
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
  Carver shared(workspace);
  const TileTasks<T, KV> tasks(call, tile_needs(call).tiles_together(),
                               shared.take<std::int64_t>(static_cast<std::size_t>(call.shape.batch) + 1));
  const std::int64_t num_classes = MaskClasses<T, KV>::count(call);
  MaskClasses<T, KV> classes;
  if (num_classes > 0) classes = {call, shared.take<MaskClass>(static_cast<std::size_t>(num_classes))};
  std::byte* threads = workspace + shared.used();
  classify_mask(call, classes, threads);
  const auto attend = [&](const ThreadBuffers<T, KV>& buffers, const TileNeeds& needs, std::int64_t task) {
    tasks.with_task(task, [&](const Sequence& sequence, std::int64_t kv_head, const TileRows* rows, int count) {
      std::optional<Tile<T, KV>> tiles[most_tiles_together];
      for (int i = 0; i < count; ++i) {
        tiles[i].emplace(call, buffers[static_cast<std::size_t>(i)], needs, classes, sequence, kv_head, rows[i]);
      }
      attend_together(tiles, count, saved);
    });
  };
  parallel_workers(call.num_threads, tasks.count(), tile_workers(call, threads, attend));
}

template <class T, class KV>
void run_mean_weights(const AttentionCall<T, KV>& call, const SavedRows<T>& saved, std::byte* workspace) {
  const MaskClasses<T, KV> no_classes;
  // A task has all heads of some queries, so no two add to the same row; a head's queries fill a tile.
  const std::int64_t queries = std::max<std::int64_t>(1, call.kernels.tile_rows / call.group());
  const std::int64_t steps = (call.shape.query_length + queries - 1) / queries;
  const auto add_weights = [&](const ThreadBuffers<T, KV>& buffers, const TileNeeds& needs, std::int64_t task) {
    const Sequence sequence = call.sequence(task / steps);
    if (call.path(sequence) != KernelPath::query_tile) return;
    const std::int64_t first = task % steps * queries;
    const std::int64_t last = std::min(first + queries, sequence.query_length);
    const MeanRows<T> mean(*call.arguments.mean_weights, sequence.batch, {first, last}, {0, call.shape.key_length});
    mean.clear();
    for (std::int64_t kv_head = 0; kv_head < call.shape.num_kv_heads; ++kv_head) {
      for (std::int64_t row = first * call.group(); row < last * call.group(); row += call.kernels.tile_rows) {
        const int rows = static_cast<int>(std::min<std::int64_t>(last * call.group() - row, call.kernels.tile_rows));
        Tile<T, KV>(call, buffers[0], needs, no_classes, sequence, kv_head, {row, rows}).add_weights_to_mean(saved);
      }
    }
    mean.divide(call.shape.num_heads);
  };
  parallel_workers(call.num_threads, call.shape.batch * steps, tile_workers(call, workspace, add_weights));
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
