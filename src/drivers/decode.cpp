#include "drivers/decode.hpp"

#include <algorithm>

#include "drivers/decode_outputs.hpp"
#include "drivers/decode_sweep.hpp"
#include "drivers/mean_rows.hpp"
#include "platform/parallel.hpp"

namespace headwise::detail {
namespace {

/// How the chunks of each head are cut into tasks, of so many chunks in a row that every thread still has several: they
/// share the task's preparations, and what is prefetched behind one chunk is the next one's. Bits do not depend on it.
struct ChunkTasks {
  ChunkTasks(std::int64_t heads, std::int64_t chunks, int num_threads)
      : chunks(chunks),
        together(std::clamp<std::int64_t>(heads * chunks / (std::int64_t{8} * num_threads), 1, chunks)),
        per_head(parts_of(chunks, together)) {}

  std::int64_t chunks;    ///< of a head
  std::int64_t together;  ///< of a task
  std::int64_t per_head;  ///< tasks
};

/// One call: its arrays and its threads.
template <class T, class KV>
class Decode {
 public:
  Decode(const AttentionCall<T, KV>& call, std::byte* workspace)
      : call_(call), sizes_(call) {
    Carver shared(workspace), thread;
    partials_ = carve_partials(shared, sizes_);
    carve_step(thread, sizes_);
    threads_ = workspace + shared.used();
    thread_bytes_ = thread.used();
  }

  void attend() const {
    const ChunkTasks tasks(sizes_.heads, sizes_.parts, call_.num_threads);
    const bool whole_heads = tasks.per_head == 1;
    for_chunks(tasks, [&](const StepBuffers<T, KV>& buffers, std::int64_t head, KeyRange parts) {
      const DecodeSweep<T, KV> sweep(call_, sizes_, partials_, buffers, head);
      sweep.attend(parts);
      if (whole_heads) sweep.finish();
    });
    if (whole_heads) return;
    for_tasks(sizes_.heads, [&](const StepBuffers<T, KV>& buffers, std::int64_t head) {
      DecodeSweep<T, KV>(call_, sizes_, partials_, buffers, head).finish();
    });
  }

  void write_weights() const {
    for_chunks(all_chunks(), [&](const StepBuffers<T, KV>& buffers, std::int64_t head, KeyRange chunks) {
      outputs(buffers, head).write_weights(chunks);
    });
  }

  void write_scores() const {
    for_chunks(all_chunks(), [&](const StepBuffers<T, KV>& buffers, std::int64_t head, KeyRange chunks) {
      outputs(buffers, head).write_scores(chunks);
    });
  }

  /// One task adds up all heads of a chunk, in order.
  void write_mean_weights() const {
    for_tasks(call_.shape.batch * sizes_.chunks, [&](const StepBuffers<T, KV>& buffers, std::int64_t task) {
      const Sequence sequence = call_.sequence(task / sizes_.chunks);
      if (call_.path(sequence) != KernelPath::row_dot) return;
      const std::int64_t chunk = task % sizes_.chunks, first = chunk * chunk_keys;
      const MeanRows<T> mean(*call_.arguments.mean_weights, sequence.batch, {0, sequence.query_length},
                             {first, std::min(first + chunk_keys, call_.shape.key_length)});
      mean.clear();
      for (std::int64_t kv_head = 0; kv_head < call_.shape.num_kv_heads; ++kv_head) {
        outputs(buffers, sequence.batch * call_.shape.num_kv_heads + kv_head).add_weights_to_mean({chunk, chunk + 1});
      }
      mean.divide(call_.shape.num_heads);
    });
  }

 private:
  DecodeOutputs<T, KV> outputs(const StepBuffers<T, KV>& buffers, std::int64_t head) const {
    return {call_, sizes_, partials_, buffers, head};
  }

  /// Calls f(buffers, task) for tasks [0, count) with buffers of the thread's own.
  template <class Function>
  void for_tasks(std::int64_t count, const Function& function) const {
    parallel_workers(call_.num_threads, count, [&](int thread) {
      Carver carver(threads_ + static_cast<std::size_t>(thread) * thread_bytes_);
      return [&function, buffers = carve_step(carver, sizes_)](std::int64_t task) { function(buffers, task); };
    });
  }

  ChunkTasks all_chunks() const { return {sizes_.heads, sizes_.chunks, call_.num_threads}; }

  /// Calls f(buffers, head, chunks) for all chunks of all heads, some in a row at once.
  template <class Function>
  void for_chunks(const ChunkTasks& tasks, const Function& function) const {
    for_tasks(sizes_.heads * tasks.per_head, [&](const StepBuffers<T, KV>& buffers, std::int64_t task) {
      const std::int64_t first = task % tasks.per_head * tasks.together;
      function(buffers, task / tasks.per_head, KeyRange{first, std::min(first + tasks.together, tasks.chunks)});
    });
  }

  const AttentionCall<T, KV>& call_;
  const DecodeSizes<T, KV> sizes_;
  Partials<T> partials_;
  std::byte* threads_;
  std::size_t thread_bytes_;
};

}  // namespace

template <class T, class KV>
std::size_t decode_workspace_bytes(const DecodeSizes<T, KV>& sizes, int num_threads) {
  Carver shared, thread;
  carve_partials(shared, sizes);
  carve_step(thread, sizes);
  const std::int64_t most_tasks = sizes.heads * sizes.chunks;
  return shared.used() + thread.used() * static_cast<std::size_t>(std::min<std::int64_t>(num_threads, most_tasks));
}

template <class T, class KV>
std::size_t decode_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, int num_threads) {
  return decode_workspace_bytes(DecodeSizes<T, KV>(shape, kernels), num_threads);
}

template <class T, class KV>
std::size_t decode_workspace_bytes(const AttentionCall<T, KV>& call) {
  return decode_workspace_bytes(DecodeSizes<T, KV>(call), call.num_threads);
}

template <class T, class KV>
void run_decode(const AttentionCall<T, KV>& call, std::byte* workspace) {
  const Decode<T, KV> decode(call, workspace);
  decode.attend();
  if (call.arguments.weights) decode.write_weights();
  if (call.arguments.scores) decode.write_scores();
  if (call.arguments.mean_weights) decode.write_mean_weights();
}

template std::size_t decode_workspace_bytes(const AttentionShape&, const KernelTable<float, float>&, int);
template std::size_t decode_workspace_bytes(const AttentionShape&, const KernelTable<double, double>&, int);
template std::size_t decode_workspace_bytes(const AttentionCall<float, float>&);
template std::size_t decode_workspace_bytes(const AttentionCall<double, double>&);
template void run_decode(const AttentionCall<float, float>&, std::byte*);
template void run_decode(const AttentionCall<double, double>&, std::byte*);

}  // namespace headwise::detail
