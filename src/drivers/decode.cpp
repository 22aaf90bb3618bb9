#include "drivers/decode.hpp"

#include <algorithm>
#include <limits>

#include "plan/tile_plan.hpp"
#include "platform/parallel.hpp"
#include "platform/workspace.hpp"

namespace headwise::detail {
namespace {

constexpr std::int64_t padded(std::int64_t features, int lanes) { return (features + lanes - 1) / lanes * lanes; }

/// Extents that the drivers' arrays depend on.
template <class T, class KV>
struct DecodeSizes {
  DecodeSizes(const AttentionShape& shape, const KernelTable<T, KV>& kernels)
      : rows(static_cast<int>(folded_rows(shape.query_length, shape.num_heads / shape.num_kv_heads))),
        query_stride(static_cast<int>(padded(shape.head_dim, kernels.lanes))),
        value_stride(static_cast<int>(padded(shape.value_dim, kernels.lanes))),
        heads(shape.batch * shape.num_kv_heads),
        chunks(std::max<std::int64_t>((shape.key_length + chunk_keys - 1) / chunk_keys, 1)) {}

  int rows;          ///< of one key/value head
  int query_stride;  ///< padded features
  int value_stride;
  std::int64_t heads;   ///< key/value heads of the whole batch
  std::int64_t chunks;  ///< of the longest sequence
};

/// Workspace of one thread.
template <class T, class KV>
struct StepBuffers {
  T* query;   ///< [rows][query_stride], scaled
  T* scores;  ///< [rows][step_keys]
  T* factor;  ///< [rows]
  KV* key;    ///< one step of keys side by side, where they cannot be read in place
  KV* value;
};

template <class T, class KV>
StepBuffers<T, KV> carve(Carver& carver, const DecodeSizes<T, KV>& sizes) {
  const auto rows = static_cast<std::size_t>(sizes.rows);
  StepBuffers<T, KV> buffers{};
  buffers.query = carver.take<T>(rows * static_cast<std::size_t>(sizes.query_stride));
  buffers.scores = carver.take<T>(rows * step_keys);
  buffers.factor = carver.take<T>(rows);
  buffers.key = carver.take<KV>(static_cast<std::size_t>(sizes.query_stride) * step_keys);
  buffers.value = carver.take<KV>(static_cast<std::size_t>(sizes.value_stride) * step_keys);
  return buffers;
}

/// Partial results of all chunks: state and accumulator of every row, chunk by chunk.
template <class T>
struct Partials {
  T* reference;    ///< [heads][chunks][rows]
  T* sum;          ///< [heads][chunks][rows]
  T* accumulator;  ///< [heads][chunks][rows][value_stride]
};

template <class T, class KV>
Partials<T> carve_partials(Carver& carver, const DecodeSizes<T, KV>& sizes) {
  const auto count = static_cast<std::size_t>(sizes.heads * sizes.chunks * sizes.rows);
  return {.reference = carver.take<T>(count),
          .sum = carver.take<T>(count),
          .accumulator = carver.take<T>(count * static_cast<std::size_t>(sizes.value_stride))};
}

template <class T, class KV>
class Decode {
 public:
  Decode(const AttentionCall<T, KV>& call, std::byte* workspace)
      : call_(call), kernels_(call.kernels), sizes_(call.shape, call.kernels) {
    Carver carver(workspace);
    partials_ = carve_partials(carver, sizes_);
    threads_ = workspace + carver.used();
    Carver measure;
    carve(measure, sizes_);
    thread_bytes_ = measure.used();
  }

  void run() {
    parallel_for(call_.num_threads, sizes_.heads * sizes_.chunks, [&](int thread, std::int64_t task) {
      attend(buffers(thread), task / sizes_.chunks, task % sizes_.chunks);
    });
    parallel_for(sizes_.chunks > 1 ? call_.num_threads : 1, sizes_.heads,
                 [&](int, std::int64_t head) { finish(head); });
    if (!call_.arguments.weights) return;
    parallel_for(call_.num_threads, sizes_.heads * sizes_.chunks, [&](int thread, std::int64_t task) {
      write_weights(buffers(thread), task / sizes_.chunks, task % sizes_.chunks);
    });
  }

 private:
  StepBuffers<T, KV> buffers(int thread) const {
    Carver carver(threads_ + static_cast<std::size_t>(thread) * thread_bytes_);
    return carve(carver, sizes_);
  }

  Sequence sequence(std::int64_t head) const { return call_.sequence(head / call_.shape.num_kv_heads); }

  RowIndex row(std::int64_t head, int r) const {
    const std::int64_t group = call_.group();
    return {head / call_.shape.num_kv_heads, head % call_.shape.num_kv_heads * group + r % group, r / group};
  }

  std::int64_t part(std::int64_t head, std::int64_t chunk) const { return (head * sizes_.chunks + chunk) * sizes_.rows; }

  /// Keys of a chunk that some row of the head attends. Ranges of rows do not decrease.
  KeyRange chunk_range(std::int64_t head, std::int64_t chunk) const {
    const Sequence entry = sequence(head);
    const KeyRange first = call_.keys(entry, 0), last = call_.keys(entry, call_.shape.query_length - 1);
    return {std::max(chunk * chunk_keys, first.begin), std::min((chunk + 1) * chunk_keys, last.end)};
  }

  /// A row's attended keys within a step, relative to it.
  KeyRange step_range(std::int64_t head, int r, KeyRange step) const {
    const KeyRange range = call_.keys(sequence(head), r / call_.group());
    return {std::clamp(range.begin, step.begin, step.end) - step.begin,
            std::clamp(range.end, step.begin, step.end) - step.begin};
  }

  void pack_queries(const StepBuffers<T, KV>& buffers, std::int64_t head) const {
    const std::int64_t feature_stride = call_.arguments.query.stride(3);
    const T factor = static_cast<T>(call_.scale);
    for (int r = 0; r < sizes_.rows; ++r) {
      const T* source = row_pointer(call_.arguments.query, row(head, r));
      T* target = buffers.query + r * sizes_.query_stride;
      for (std::int64_t d = 0; d < call_.shape.head_dim; ++d) target[d] = source[d * feature_stride] * factor;
      std::fill(target + call_.shape.head_dim, target + sizes_.query_stride, T(0));
    }
  }

  /// A step's rows of keys or values, readable in whole vectors: in place or copied.
  Rows<KV> step_rows(const TensorView<const KV, 4>& view, std::int64_t head, KeyRange step, KV* packed,
                     int packed_stride) const {
    const std::int64_t kv_heads = call_.shape.num_kv_heads;
    const KV* first = view.data + head / kv_heads * view.stride(0) + head % kv_heads * view.stride(1) +
                      step.begin * view.stride(2);
    if (view.stride(3) == 1 && view.extent(3) % kernels_.lanes == 0) return {first, view.stride(2)};
    kernels_.pack_rows(first, view.stride(2), view.stride(3), static_cast<int>(step.end - step.begin),
                       static_cast<int>(view.extent(3)), packed, packed_stride);
    return {packed, packed_stride};
  }

  void score(const StepBuffers<T, KV>& buffers, std::int64_t head, KeyRange step) const {
    const Rows<KV> key = step_rows(call_.arguments.key, head, step, buffers.key, sizes_.query_stride);
    kernels_.row_scores(buffers.query, sizes_.query_stride, sizes_.rows, key, static_cast<int>(step.end - step.begin),
                        sizes_.query_stride / kernels_.lanes, buffers.scores, step_keys);
  }

  void attend(const StepBuffers<T, KV>& buffers, std::int64_t head, std::int64_t chunk) const {
    const std::int64_t first = part(head, chunk);
    std::fill_n(partials_.reference + first, sizes_.rows, -std::numeric_limits<T>::infinity());
    std::fill_n(partials_.sum + first, sizes_.rows, T(0));
    std::fill_n(partials_.accumulator + first * sizes_.value_stride, sizes_.rows * sizes_.value_stride, T(0));
    pack_queries(buffers, head);
    const KeyRange range = chunk_range(head, chunk);
    for (std::int64_t begin = range.begin; begin < range.end; begin += step_keys) {
      attend_step(buffers, head, {begin, std::min(begin + step_keys, range.end)}, first);
    }
  }

  void attend_step(const StepBuffers<T, KV>& buffers, std::int64_t head, KeyRange step, std::int64_t first) const {
    const int keys = static_cast<int>(step.end - step.begin);
    score(buffers, head, step);
    bool whole = true;
    for (int r = 0; r < sizes_.rows; ++r) {
      const KeyRange range = step_range(head, r, step);
      whole = whole && range == KeyRange{0, keys};
      buffers.factor[r] = kernels_.row_softmax(buffers.scores + r * step_keys, static_cast<int>(range.begin),
                                               static_cast<int>(range.end), keys, partials_.reference + first + r,
                                               partials_.sum + first + r);
    }
    const Rows<KV> value = step_rows(call_.arguments.value, head, step, buffers.value, sizes_.value_stride);
    T* accumulator = partials_.accumulator + first * sizes_.value_stride;
    const int vectors = sizes_.value_stride / kernels_.lanes;
    // Keys that only some rows attend may hold values that the others must not touch: then row by row.
    if (whole || kernels_.all_finite(value.data, value.stride, keys, static_cast<int>(call_.shape.value_dim))) {
      kernels_.row_values(buffers.scores, step_keys, sizes_.rows, buffers.factor, value, keys, vectors, accumulator,
                          sizes_.value_stride);
      return;
    }
    for (int r = 0; r < sizes_.rows; ++r) {
      const KeyRange range = step_range(head, r, step);
      kernels_.row_values(buffers.scores + r * step_keys + range.begin, step_keys, 1, buffers.factor + r,
                          {value.data + range.begin * value.stride, value.stride},
                          static_cast<int>(range.end - range.begin), vectors, accumulator + r * sizes_.value_stride,
                          sizes_.value_stride);
    }
  }

  /// Merges a head's chunks and writes its outputs.
  void finish(std::int64_t head) const {
    const std::int64_t first = part(head, 0);
    const auto& output = call_.arguments.output;
    for (int r = 0; r < sizes_.rows; ++r) {
      T* reference = partials_.reference + first + r;
      T* sum = partials_.sum + first + r;
      T* accumulator = partials_.accumulator + (first + r) * sizes_.value_stride;
      if (sizes_.chunks > 1) {
        kernels_.merge_parts(reference, sum, accumulator, static_cast<int>(sizes_.chunks), sizes_.rows,
                             std::int64_t{sizes_.rows} * sizes_.value_stride, sizes_.value_stride / kernels_.lanes);
      }
      const T inverse = inverse_sum(*sum);
      T* target = row_pointer(output, row(head, r));
      for (std::int64_t f = 0; f < call_.shape.value_dim; ++f) target[f * output.stride(3)] = accumulator[f] * inverse;
      if (call_.arguments.logsumexp) {
        *row_pointer(*call_.arguments.logsumexp, row(head, r)) = natural_logsumexp(*reference, *sum);
      }
    }
  }

  static T inverse_sum(T sum) { return sum == T(0) ? T(0) : T(1) / sum; }

  void write_weights(const StepBuffers<T, KV>& buffers, std::int64_t head, std::int64_t chunk) const {
    const std::int64_t key_stride = call_.arguments.weights->stride(3), first = part(head, 0);
    const std::int64_t chunk_end = std::min((chunk + 1) * chunk_keys, call_.shape.key_length);
    pack_queries(buffers, head);
    for (int r = 0; r < sizes_.rows; ++r) {
      T* target = row_pointer(*call_.arguments.weights, row(head, r));
      for (std::int64_t j = chunk * chunk_keys; j < chunk_end; ++j) target[j * key_stride] = T(0);
    }
    const KeyRange range = chunk_range(head, chunk);
    for (std::int64_t begin = range.begin; begin < range.end; begin += step_keys) {
      const KeyRange step{begin, std::min(begin + step_keys, range.end)};
      const int keys = static_cast<int>(step.end - step.begin);
      score(buffers, head, step);
      for (int r = 0; r < sizes_.rows; ++r) {
        const KeyRange row_range = step_range(head, r, step);
        T* scores = buffers.scores + r * step_keys;
        kernels_.row_weights(scores, static_cast<int>(row_range.begin), static_cast<int>(row_range.end), keys,
                             partials_.reference[first + r], inverse_sum(partials_.sum[first + r]));
        T* target = row_pointer(*call_.arguments.weights, row(head, r)) + begin * key_stride;
        for (int j = 0; j < keys; ++j) target[j * key_stride] = scores[j];
      }
    }
  }

  const AttentionCall<T, KV>& call_;
  const KernelTable<T, KV>& kernels_;
  const DecodeSizes<T, KV> sizes_;
  Partials<T> partials_{};
  std::byte* threads_ = nullptr;
  std::size_t thread_bytes_ = 0;
};

}  // namespace

template <class T, class KV>
std::size_t decode_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, int num_threads) {
  const DecodeSizes<T, KV> sizes(shape, kernels);
  Carver shared, thread;
  carve_partials(shared, sizes);
  carve(thread, sizes);
  return shared.used() + thread.used() * static_cast<std::size_t>(num_threads);
}

template <class T, class KV>
void run_decode(const AttentionCall<T, KV>& call, std::byte* workspace) {
  Decode<T, KV>(call, workspace).run();
}

template std::size_t decode_workspace_bytes(const AttentionShape&, const KernelTable<float, float>&, int);
template std::size_t decode_workspace_bytes(const AttentionShape&, const KernelTable<double, double>&, int);
template void run_decode(const AttentionCall<float, float>&, std::byte*);
template void run_decode(const AttentionCall<double, double>&, std::byte*);

}  // namespace headwise::detail
