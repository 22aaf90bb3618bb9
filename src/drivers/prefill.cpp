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

  /// Calls f(sequence, kv_head, first row, rows) of a task.
  template <class Function>
  void with_task(std::int64_t task, Function&& function) const {
    const std::int64_t batch = std::upper_bound(first_, first_ + call_.shape.batch + 1, task) - first_ - 1;
    const Sequence sequence = call_.sequence(batch);
    const std::int64_t per_head = tiles(sequence), index = task - first_[batch];
    const std::int64_t first_row = (per_head - 1 - index % per_head) * call_.kernels.tile_rows;
    const std::int64_t rows = folded_rows(sequence.query_length, call_.group()) - first_row;
    function(sequence, index / per_head, first_row,
             static_cast<int>(std::min<std::int64_t>(rows, call_.kernels.tile_rows)));
  }

 private:
  std::int64_t tiles(const Sequence& sequence) const {
    const std::int64_t rows = folded_rows(sequence.query_length, call_.group());
    return (rows + call_.kernels.tile_rows - 1) / call_.kernels.tile_rows;
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

/// Queries of one task of run_mean_weights: no two tasks add to the same row.
constexpr std::int64_t mean_queries = 16;

}  // namespace

template <class T, class KV>
std::size_t prefill_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels,
                                    const TileNeeds& needs, int num_threads) {
  Carver carver;
  carver.take<std::int64_t>(static_cast<std::size_t>(shape.batch) + 1);
  return carver.used() + tile_bytes(shape, kernels, needs) * static_cast<std::size_t>(num_threads);
}

template <class T, class KV>
void run_prefill(const AttentionCall<T, KV>& call, const SavedRows<T>& saved, std::byte* workspace) {
  const TileNeeds needs = tile_needs(call);
  const std::size_t thread_bytes = tile_bytes(call.shape, call.kernels, needs);
  Carver shared(workspace);
  const TileTasks<T, KV> tasks(call, shared.take<std::int64_t>(static_cast<std::size_t>(call.shape.batch) + 1));
  std::byte* threads = workspace + shared.used();
  parallel_for(call.num_threads, tasks.count(), [&](int thread, std::int64_t task) {
    Carver carver(threads + static_cast<std::size_t>(thread) * thread_bytes);
    const TileBuffers<T, KV> buffers = carve_tile(carver, call.shape, call.kernels, needs);
    tasks.with_task(task, [&](const Sequence& sequence, std::int64_t kv_head, std::int64_t first_row, int rows) {
      Tile<T, KV>(call, buffers, needs, sequence, kv_head, first_row, rows).attend(saved);
    });
  });
}

template <class T, class KV>
void run_mean_weights(const AttentionCall<T, KV>& call, const SavedRows<T>& saved, std::byte* workspace) {
  const TileNeeds needs = tile_needs(call);
  const std::size_t thread_bytes = tile_bytes(call.shape, call.kernels, needs);
  const std::int64_t steps = (call.shape.query_length + mean_queries - 1) / mean_queries;
  parallel_for(call.num_threads, call.shape.batch * steps, [&](int thread, std::int64_t task) {
    Carver carver(workspace + static_cast<std::size_t>(thread) * thread_bytes);
    const TileBuffers<T, KV> buffers = carve_tile(carver, call.shape, call.kernels, needs);
    const Sequence sequence = call.sequence(task / steps);
    if (call.path(sequence) != KernelPath::query_tile) return;
    const std::int64_t first = task % steps * mean_queries;
    const std::int64_t last = std::min(first + mean_queries, sequence.query_length);
    const MeanRows<T> mean(*call.arguments.mean_weights, sequence.batch, {first, last}, {0, call.shape.key_length});
    mean.clear();
    for (std::int64_t kv_head = 0; kv_head < call.shape.num_kv_heads; ++kv_head) {
      for (std::int64_t row = first * call.group(); row < last * call.group(); row += call.kernels.tile_rows) {
        const int rows = static_cast<int>(std::min<std::int64_t>(last * call.group() - row, call.kernels.tile_rows));
        Tile<T, KV>(call, buffers, needs, sequence, kv_head, row, rows).add_weights_to_mean(saved);
      }
    }
    mean.divide(call.shape.num_heads);
  });
}

template std::size_t prefill_workspace_bytes(const AttentionShape&, const KernelTable<float, float>&, const TileNeeds&,
                                             int);
template std::size_t prefill_workspace_bytes(const AttentionShape&, const KernelTable<double, double>&,
                                             const TileNeeds&, int);
template void run_prefill(const AttentionCall<float, float>&, const SavedRows<float>&, std::byte*);
template void run_prefill(const AttentionCall<double, double>&, const SavedRows<double>&, std::byte*);
template void run_mean_weights(const AttentionCall<float, float>&, const SavedRows<float>&, std::byte*);
template void run_mean_weights(const AttentionCall<double, double>&, const SavedRows<double>&, std::byte*);

}  // namespace headwise::detail
