#include "drivers/prefill.hpp"

#include "drivers/mean_rows.hpp"
#include "platform/parallel.hpp"

namespace headwise::detail {
namespace {

/// Numbers the tiles of all sequences: sequence by sequence, head by head, from the last tile to the first, because under
/// causality later tiles take longer.
template <class T, class KV>
class TileTasks {
 public:
  /// `first` has room for batch + 1 numbers.
  TileTasks(const AttentionCall<T, KV>& call, std::int64_t* first) : call_(call), first_(first) {
    first_[0] = 0;
    for (std::int64_t b = 0; b < call.shape.batch; ++b) {
      const Sequence sequence = call.sequence(b);
      const bool tiled = call.path(sequence) == KernelPath::query_tile;
      first_[b + 1] = first_[b] + (tiled ? call.shape.num_kv_heads * tiles(sequence) : 0);
    }
  }

  std::int64_t count() const { return first_[call_.shape.batch]; }

  /// Calls f(sequence, kv_head, rows) of a task.
  template <class Function>
  void with_task(std::int64_t task, Function&& function) const {
    const std::int64_t batch = std::upper_bound(first_, first_ + call_.shape.batch + 1, task) - first_ - 1;
    const Sequence sequence = call_.sequence(batch);
    const std::int64_t per_head = tiles(sequence), index = task - first_[batch];
    function(sequence, index / per_head,
             tile_range(folded_rows(sequence.query_length, call_.group()), per_head - 1 - index % per_head,
                        call_.kernels.tile_rows, call_.kernels.lanes, !call_.limits_keys()));
  }

 private:
  std::int64_t tiles(const Sequence& sequence) const {
    return count_tiles(folded_rows(sequence.query_length, call_.group()), call_.kernels.tile_rows);
  }

  const AttentionCall<T, KV>& call_;
  std::int64_t* first_;
};

/// Bytes of one thread's buffers.
template <class T, class KV>
std::size_t tile_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, const TileNeeds& needs) {
  Carver carver;
  carve_tile(carver, shape, kernels, needs);
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

/// Calls use(tile) with tiles on buffers of the thread's own: the factory that parallel_workers asks for.
template <class T, class KV, class Work>
auto tile_workers(const AttentionCall<T, KV>& call, std::byte* memory, const Work& work) {
  const TileNeeds needs = tile_needs(call);
  return [&call, &work, memory, needs, bytes = tile_bytes(call.shape, call.kernels, needs)](int thread) {
    Carver carver(memory + static_cast<std::size_t>(thread) * bytes);
    return [&call, &work, needs, buffers = carve_tile(carver, call.shape, call.kernels, needs)](std::int64_t task) {
      work(buffers, needs, task);
    };
  };
}

/// Looks at a mask that several heads or batch entries share, once.
template <class T, class KV>
void classify_mask(const AttentionCall<T, KV>& call, const MaskClasses<T, KV>& classes, std::byte* memory) {
  const auto classify = [&](const TileBuffers<T, KV>& buffers, const TileNeeds& needs, std::int64_t task) {
    const auto row = classes.row(task);
    Sequence sequence = call.sequence(row.batch);
    sequence.query_length = call.shape.query_length;
    const TileRows rows = tile_range(folded_rows(sequence.query_length, call.group()), row.tile, call.kernels.tile_rows,
                                     call.kernels.lanes, false);
    Tile<T, KV>(call, buffers, needs, classes, sequence, row.kv_head, rows).classify_mask(row.classes, row.units);
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
  const TileTasks<T, KV> tasks(call, shared.take<std::int64_t>(static_cast<std::size_t>(call.shape.batch) + 1));
  const std::int64_t num_classes = MaskClasses<T, KV>::count(call);
  MaskClasses<T, KV> classes;
  if (num_classes > 0) classes = {call, shared.take<MaskClass>(static_cast<std::size_t>(num_classes))};
  std::byte* threads = workspace + shared.used();
  classify_mask(call, classes, threads);
  const auto attend = [&](const TileBuffers<T, KV>& buffers, const TileNeeds& needs, std::int64_t task) {
    tasks.with_task(task, [&](const Sequence& sequence, std::int64_t kv_head, const TileRows& rows) {
      Tile<T, KV>(call, buffers, needs, classes, sequence, kv_head, rows).attend(saved);
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
  const auto add_weights = [&](const TileBuffers<T, KV>& buffers, const TileNeeds& needs, std::int64_t task) {
    const Sequence sequence = call.sequence(task / steps);
    if (call.path(sequence) != KernelPath::query_tile) return;
    const std::int64_t first = task % steps * queries;
    const std::int64_t last = std::min(first + queries, sequence.query_length);
    const MeanRows<T> mean(*call.arguments.mean_weights, sequence.batch, {first, last}, {0, call.shape.key_length});
    mean.clear();
    for (std::int64_t kv_head = 0; kv_head < call.shape.num_kv_heads; ++kv_head) {
      for (std::int64_t row = first * call.group(); row < last * call.group(); row += call.kernels.tile_rows) {
        const int rows = static_cast<int>(std::min<std::int64_t>(last * call.group() - row, call.kernels.tile_rows));
        Tile<T, KV>(call, buffers, needs, no_classes, sequence, kv_head, {row, rows}).add_weights_to_mean(saved);
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
