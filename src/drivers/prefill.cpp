#include "drivers/prefill.hpp"

#include <algorithm>
#include <limits>

#include "platform/parallel.hpp"
#include "platform/workspace.hpp"
#include "plan/tile_plan.hpp"

namespace headwise::detail {
namespace {

/// The workspace of one thread.
template <class T, class KV>
struct TileBuffers {
  T* query;
  T* scores;
  RowState<T> state;
  KeyRange* range;  ///< attended keys of each row
  int* first_key;
  int* last_key;
  const T** query_rows;
  T** output_rows;
  T** weight_rows;
  KeySpan* spans;
  KV* key;      ///< packed block, where keys cannot be read in place
  KV* value;    ///< packed block, likewise
  T* staging;   ///< output rows, where they cannot be written in place
};

/// Which operands of a call are copied; bits do not depend on it.
struct Staging {
  bool key;
  bool value;
  bool output;
};

constexpr std::int64_t padded(std::int64_t features, int lanes) { return (features + lanes - 1) / lanes * lanes; }

template <class T, class KV>
TileBuffers<T, KV> carve(Carver& carver, const AttentionShape& shape, const KernelTable<T, KV>& kernels,
                         Staging staging) {
  const auto rows = static_cast<std::size_t>(kernels.tile_rows);
  const auto keys = static_cast<std::size_t>(std::min<std::int64_t>(kernels.max_block_keys, shape.key_length));
  const auto head_dim = static_cast<std::size_t>(shape.head_dim);
  const auto value_dim = static_cast<std::size_t>(padded(shape.value_dim, kernels.lanes));
  TileBuffers<T, KV> buffers{};
  buffers.query = carver.take<T>(head_dim * rows);
  buffers.scores = carver.take<T>(keys * rows);
  for (T** array : {&buffers.state.reference, &buffers.state.sum, &buffers.state.start, &buffers.state.maximum,
                    &buffers.state.factor, &buffers.state.shift, &buffers.state.inverse, &buffers.state.key_begin,
                    &buffers.state.key_end}) {
    *array = carver.take<T>(rows);
  }
  buffers.range = carver.take<KeyRange>(rows);
  buffers.first_key = carver.take<int>(rows);
  buffers.last_key = carver.take<int>(rows);
  buffers.query_rows = carver.take<const T*>(rows);
  buffers.output_rows = carver.take<T*>(rows);
  buffers.weight_rows = carver.take<T*>(rows);
  buffers.spans = carver.take<KeySpan>(static_cast<std::size_t>(max_spans(kernels.max_block_keys, kernels.lanes)));
  if (staging.key) buffers.key = carver.take<KV>(keys * head_dim);
  if (staging.value) buffers.value = carver.take<KV>(keys * value_dim);
  if (staging.output) buffers.staging = carver.take<T>(rows * value_dim);
  return buffers;
}

template <class T, class KV>
Staging choose_staging(const AttentionCall<T, KV>& call) {
  const AttentionShape& shape = call.shape;
  const auto& key = call.arguments.key;
  const auto& value = call.arguments.value;
  const auto& output = call.arguments.output;
  const bool whole_vectors = shape.value_dim % call.kernels.lanes == 0;
  return {.key = key.stride(3) != 1 || rows_are_far(key.stride(2), shape.head_dim, sizeof(KV)),
          .value = value.stride(3) != 1 || !whole_vectors || rows_are_far(value.stride(2), shape.value_dim, sizeof(KV)),
          .output = output.stride(3) != 1 || !whole_vectors};
}

/// One tile of query rows, from packing the queries to the last output.
template <class T, class KV>
class Tile {
 public:
  Tile(const AttentionCall<T, KV>& call, const TileBuffers<T, KV>& buffers, Staging staging, const Sequence& sequence,
       std::int64_t kv_head, std::int64_t first_row)
      : call_(call),
        kernels_(call.kernels),
        buffers_(buffers),
        staging_(staging),
        sequence_(sequence),
        kv_head_(kv_head),
        first_row_(first_row),
        rows_(static_cast<int>(std::min<std::int64_t>(kernels_.tile_rows, call.rows() - first_row))),
        row_stride_(static_cast<int>(padded(rows_, kernels_.lanes))),
        value_stride_(padded(call.shape.value_dim, kernels_.lanes)) {}

  void run() {
    locate_rows();
    kernels_.pack_query(buffers_.query_rows, call_.arguments.query.stride(3), rows_,
                        static_cast<int>(call_.shape.head_dim), static_cast<T>(call_.scale), buffers_.query,
                        row_stride_);
    reset_state();
    if (keys_.empty()) {
      kernels_.finish(buffers_.state, row_stride_);
      write_dead_rows();
    }
    for (std::int64_t begin = keys_.begin; begin < keys_.end;) {
      const KeyRange block{begin, block_end(begin, keys_.end, kernels_.block_keys, kernels_.max_block_keys)};
      attend(block);
      begin = block.end;
    }
    if (staging_.output) scatter_output();
    if (call_.arguments.logsumexp) write_logsumexp();
    if (call_.arguments.weights) write_weights();
  }

 private:
  /// Calls f(r, index) for every row of the tile.
  template <class Function>
  void for_rows(Function&& function) const {
    const std::int64_t group = call_.group(), first_head = kv_head_ * group;
    std::int64_t query = first_row_ / group, head = first_row_ % group;
    for (int r = 0; r < rows_; ++r) {
      function(r, RowIndex{sequence_.batch, first_head + head, query});
      if (++head == group) head = 0, ++query;
    }
  }

  /// Addresses and attended keys of every row, their union and their intersection.
  void locate_rows() {
    keys_ = {std::numeric_limits<std::int64_t>::max(), 0};
    interior_ = {0, std::numeric_limits<std::int64_t>::max()};
    for_rows([&](int r, const RowIndex& index) {
      const KeyRange range = call_.keys(sequence_, index.query);
      buffers_.range[r] = range;
      if (!range.empty()) {
        keys_ = {std::min(keys_.begin, range.begin), std::max(keys_.end, range.end)};
      }
      interior_ = {std::max(interior_.begin, range.begin), std::min(interior_.end, range.end)};
      buffers_.query_rows[r] = row_pointer(call_.arguments.query, index);
      buffers_.output_rows[r] =
          staging_.output ? buffers_.staging + r * value_stride_ : row_pointer(call_.arguments.output, index);
      if (call_.arguments.weights) buffers_.weight_rows[r] = row_pointer(*call_.arguments.weights, index);
    });
  }

  void reset_state() {
    std::fill_n(buffers_.state.reference, row_stride_, -std::numeric_limits<T>::infinity());
    std::fill_n(buffers_.state.sum, row_stride_, T(0));
    std::fill_n(buffers_.state.start, row_stride_, T(0));
  }

  /// The keys of a block: in place, or copied side by side.
  Rows<KV> key_rows(KeyRange block) const {
    const auto& key = call_.arguments.key;
    const KV* first = key.data + sequence_.batch * key.stride(0) + kv_head_ * key.stride(1) + block.begin * key.stride(2);
    if (!staging_.key) return {first, key.stride(2)};
    const int features = static_cast<int>(call_.shape.head_dim);
    kernels_.pack_rows(first, key.stride(2), key.stride(3), static_cast<int>(block.end - block.begin), features,
                       buffers_.key, features);
    return {buffers_.key, features};
  }

  Rows<KV> value_rows(KeyRange block) const {
    const auto& value = call_.arguments.value;
    const KV* first =
        value.data + sequence_.batch * value.stride(0) + kv_head_ * value.stride(1) + block.begin * value.stride(2);
    if (!staging_.value) return {first, value.stride(2)};
    kernels_.pack_rows(first, value.stride(2), value.stride(3), static_cast<int>(block.end - block.begin),
                       static_cast<int>(call_.shape.value_dim), buffers_.value, static_cast<int>(value_stride_));
    return {buffers_.value, value_stride_};
  }

  bool is_interior(KeyRange block) const { return interior_.begin <= block.begin && block.end <= interior_.end; }

  BlockArguments<T, KV> block_arguments(KeyRange block, Rows<KV> key, Rows<KV> value) const {
    const int spans = make_spans(buffers_.range, rows_, kernels_.lanes, block, interior_, buffers_.spans);
    if (!is_interior(block)) set_limits(block);
    return {.query = buffers_.query,
            .row_stride = row_stride_,
            .head_dim = static_cast<int>(call_.shape.head_dim),
            .key = key,
            .value = value,
            .spans = buffers_.spans,
            .num_spans = spans,
            .scores = buffers_.scores,
            .state = buffers_.state};
  }

  /// Each row's attended keys relative to the block.
  void set_limits(KeyRange block) const {
    for (int r = 0; r < row_stride_; ++r) {
      KeyRange range{0, 0};
      if (r < rows_) {
        range = {std::clamp(buffers_.range[r].begin, block.begin, block.end) - block.begin,
                 std::clamp(buffers_.range[r].end, block.begin, block.end) - block.begin};
        buffers_.first_key[r] = static_cast<int>(range.begin);
        buffers_.last_key[r] = static_cast<int>(range.end);
      }
      buffers_.state.key_begin[r] = static_cast<T>(range.begin);
      buffers_.state.key_end[r] = static_cast<T>(range.end);
    }
  }

  /// Keys that only some rows attend may hold values that the others must not touch.
  bool needs_care(KeyRange block, Rows<KV> value) const {
    const auto finite = [&](std::int64_t begin, std::int64_t end) {
      return begin >= end || kernels_.all_finite(value.data + (begin - block.begin) * value.stride, value.stride,
                                                 static_cast<int>(end - begin),
                                                 static_cast<int>(call_.shape.value_dim));
    };
    if (is_interior(block)) return false;
    const std::int64_t begin = std::clamp(interior_.begin, block.begin, block.end);
    const std::int64_t end = std::clamp(interior_.end, begin, block.end);
    return !finite(block.begin, begin) || !finite(end, block.end);
  }

  void attend(KeyRange block) {
    const Rows<KV> key = key_rows(block), value = value_rows(block);
    const BlockArguments<T, KV> arguments = block_arguments(block, key, value);
    const bool careful = needs_care(block, value), edge = !is_interior(block), last = block.end == keys_.end;
    kernels_.scores(arguments);
    kernels_.softmax(arguments, careful);
    if (last) kernels_.finish(buffers_.state, row_stride_);
    const ValueArguments<T, KV> values{.weights = buffers_.scores,
                                       .row_stride = row_stride_,
                                       .keys = static_cast<int>(block.end - block.begin),
                                       .value = value,
                                       .value_vectors = static_cast<int>(value_stride_ / kernels_.lanes),
                                       .output = buffers_.output_rows,
                                       .rows = rows_,
                                       .first_key = edge ? buffers_.first_key : nullptr,
                                       .last_key = edge ? buffers_.last_key : nullptr,
                                       .first = block.begin == keys_.begin,
                                       .factor = buffers_.state.factor,
                                       .inverse = last ? buffers_.state.inverse : nullptr};
    (careful ? kernels_.values_careful : kernels_.values)(values);
  }

  void write_dead_rows() {
    const std::int64_t features = staging_.output ? value_stride_ : call_.shape.value_dim;
    for (int r = 0; r < rows_; ++r) std::fill_n(buffers_.output_rows[r], features, T(0));
  }

  void scatter_output() const {
    const auto& output = call_.arguments.output;
    for_rows([&](int r, const RowIndex& index) {
      T* target = row_pointer(output, index);
      for (std::int64_t f = 0; f < call_.shape.value_dim; ++f) {
        target[f * output.stride(3)] = buffers_.output_rows[r][f];
      }
    });
  }

  void write_logsumexp() const {
    for_rows([&](int r, const RowIndex& index) {
      *row_pointer(*call_.arguments.logsumexp, index) =
          natural_logsumexp(buffers_.state.reference[r], buffers_.state.sum[r]);
    });
  }

  /// Second pass over the keys, with references and sums known.
  void write_weights() const {
    const std::int64_t key_stride = call_.arguments.weights->stride(3);
    std::fill_n(buffers_.state.start, row_stride_, T(0));
    if (!keys_.empty()) {
      for (int r = 0; r < rows_; ++r) buffers_.weight_rows[r] += keys_.begin * key_stride;
    }
    for (std::int64_t begin = keys_.begin; begin < keys_.end;) {
      const KeyRange block{begin, block_end(begin, keys_.end, kernels_.block_keys, kernels_.max_block_keys)};
      const Rows<KV> key = key_rows(block);
      const BlockArguments<T, KV> arguments = block_arguments(block, key, key);
      kernels_.scores(arguments);
      kernels_.store_weights(arguments, static_cast<int>(block.end - block.begin), rows_, buffers_.weight_rows,
                             key_stride);
      for (int r = 0; r < rows_; ++r) buffers_.weight_rows[r] += (block.end - block.begin) * key_stride;
      begin = block.end;
    }
    for_rows([&](int, const RowIndex& index) {
      clear_weights(row_pointer(*call_.arguments.weights, index), key_stride);
    });
  }

  void clear_weights(T* weights, std::int64_t key_stride) const {
    const KeyRange computed = keys_.empty() ? KeyRange{0, 0} : keys_;
    for (std::int64_t j = 0; j < computed.begin; ++j) weights[j * key_stride] = T(0);
    for (std::int64_t j = computed.end; j < call_.shape.key_length; ++j) weights[j * key_stride] = T(0);
  }

  const AttentionCall<T, KV>& call_;
  const KernelTable<T, KV>& kernels_;
  const TileBuffers<T, KV>& buffers_;
  const Staging staging_;
  const Sequence sequence_;
  const std::int64_t kv_head_;
  const std::int64_t first_row_;
  const int rows_;
  const int row_stride_;
  const std::int64_t value_stride_;
  KeyRange keys_{};      ///< keys that some row attends
  KeyRange interior_{};  ///< keys that every row attends
};

}  // namespace

template <class T, class KV>
std::size_t prefill_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, int num_threads) {
  Carver carver;
  carve(carver, shape, kernels, {.key = true, .value = true, .output = true});
  return carver.used() * static_cast<std::size_t>(num_threads);
}

template <class T, class KV>
std::size_t prefill_workspace_bytes(const AttentionCall<T, KV>& call) {
  Carver carver;
  carve(carver, call.shape, call.kernels, choose_staging(call));
  return carver.used() * static_cast<std::size_t>(call.num_threads);
}

template <class T, class KV>
void run_prefill(const AttentionCall<T, KV>& call, std::byte* workspace) {
  const Staging staging = choose_staging(call);
  Carver measure;
  carve(measure, call.shape, call.kernels, staging);
  const std::size_t thread_bytes = measure.used();
  const std::int64_t tile_rows = call.kernels.tile_rows;
  const std::int64_t tiles = (call.rows() + tile_rows - 1) / tile_rows;
  const std::int64_t kv_heads = call.shape.num_kv_heads;
  parallel_for(call.num_threads, call.shape.batch * kv_heads * tiles, [&](int thread, std::int64_t index) {
    Carver carver(workspace + static_cast<std::size_t>(thread) * thread_bytes);
    const TileBuffers<T, KV> buffers = carve(carver, call.shape, call.kernels, staging);
    // Under causal later tiles take longer: longest first.
    const std::int64_t tile = tiles - 1 - index % tiles;
    const std::int64_t head = index / tiles;
    Tile<T, KV>(call, buffers, staging, call.sequence(head / kv_heads), head % kv_heads, tile * tile_rows).run();
  });
}

template std::size_t prefill_workspace_bytes(const AttentionShape&, const KernelTable<float, float>&, int);
template std::size_t prefill_workspace_bytes(const AttentionShape&, const KernelTable<double, double>&, int);
template std::size_t prefill_workspace_bytes(const AttentionCall<float, float>&);
template std::size_t prefill_workspace_bytes(const AttentionCall<double, double>&);
template void run_prefill(const AttentionCall<float, float>&, std::byte*);
template void run_prefill(const AttentionCall<double, double>&, std::byte*);

}  // namespace headwise::detail
