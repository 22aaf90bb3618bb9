#include "drivers/decode.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "drivers/mean_rows.hpp"
#include "platform/parallel.hpp"
#include "platform/workspace.hpp"

namespace headwise::detail {
namespace {

/// Extents that the driver's arrays depend on.
template <class T, class KV>
struct DecodeSizes {
  DecodeSizes(const AttentionShape& shape, const KernelTable<T, KV>& kernels)
      : rows(std::min(folded_rows(shape.query_length, shape.num_heads / shape.num_kv_heads),
                      most_row_dot_rows(kernels.lanes))),
        query_stride(static_cast<int>(padded(shape.head_dim, kernels.lanes))),
        value_stride(static_cast<int>(padded(shape.value_dim, kernels.lanes))),
        heads(shape.batch * shape.num_kv_heads),
        chunks(std::max<std::int64_t>((shape.key_length + chunk_keys - 1) / chunk_keys, 1)) {}

  std::int64_t rows;  ///< most rows of one key/value head
  int query_stride;   ///< padded features
  int value_stride;
  std::int64_t heads;   ///< key/value heads of the whole batch
  std::int64_t chunks;  ///< of the longest sequence
};

/// Workspace of one thread.
template <class T, class KV>
struct StepBuffers {
  T* query;        ///< [rows][query_stride], scaled
  T* scores;       ///< [rows][step_keys]
  T* factor;       ///< [rows]
  KeyRange* range; ///< [rows] attended keys of the step, relative to it
  KV* key;         ///< one step of keys side by side, where they cannot be read in place
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

/// One key/value head of one sequence, if that takes this path.
template <class T, class KV>
class DecodeHead {
 public:
  DecodeHead(const AttentionCall<T, KV>& call, const DecodeSizes<T, KV>& sizes, const Partials<T>& partials,
             std::int64_t head)
      : call_(call),
        kernels_(call.kernels),
        sizes_(sizes),
        sequence_(call.sequence(head / call.shape.num_kv_heads)),
        kv_head_(head % call.shape.num_kv_heads),
        rows_(call.path(sequence_) == KernelPath::row_dot
                  ? static_cast<int>(folded_rows(sequence_.query_length, call.group()))
                  : 0),
        reference_(partials.reference + head * sizes.chunks * sizes.rows),
        sum_(partials.sum + head * sizes.chunks * sizes.rows),
        accumulator_(partials.accumulator + head * sizes.chunks * sizes.rows * sizes.value_stride) {}

  /// Attention over one chunk of keys, into its partial result.
  void attend(const StepBuffers<T, KV>& buffers, std::int64_t chunk) const {
    if (rows_ == 0 || chunk >= chunks()) return;
    const std::int64_t first = chunk * sizes_.rows;
    for (int r = 0; r < rows_; ++r) {
      // The sink joins the first chunk.
      const auto sinks = chunk == 0 ? call_.arguments.sinks : std::span<const T>{};
      const InitialState<T> initial = initial_state(sinks, row(r).head);
      reference_[first + r] = initial.reference;
      sum_[first + r] = initial.sum;
    }
    std::fill_n(accumulator_ + first * sizes_.value_stride, rows_ * sizes_.value_stride, T(0));
    pack_queries(buffers, call_.scale * std::numbers::log2e);
    for_steps(attended_range(chunk), [&](KeyRange step, const KeyPiece<KV>& piece) {
      attend_step(buffers, step, piece, first);
    });
  }

  /// Merges the chunks and writes the outputs of the rows, but for those that need another sweep.
  void finish() const {
    const auto& output = call_.arguments.output;
    for (int r = 0; r < rows_; ++r) {
      T* accumulator = accumulator_ + r * sizes_.value_stride;
      if (chunks() > 1) {
        kernels_.merge_parts(reference_ + r, sum_ + r, accumulator, static_cast<int>(chunks()), sizes_.rows,
                             sizes_.rows * sizes_.value_stride, sizes_.value_stride / kernels_.lanes);
      }
      const T inverse = inverse_sum(r);
      T* target = call_.token_row(output, sequence_, row(r));
      for (std::int64_t f = 0; f < call_.shape.value_dim; ++f) target[f * output.stride(3)] = accumulator[f] * inverse;
      if (call_.arguments.logsumexp) {
        *call_.token_row(*call_.arguments.logsumexp, sequence_, row(r)) = natural_logsumexp(reference_[r], sum_[r]);
      }
    }
  }

  /// The weights of one chunk's keys; after finish.
  void write_weights(const StepBuffers<T, KV>& buffers, std::int64_t chunk) const {
    const TensorView<T, 4>& view = *call_.arguments.weights;
    fill(view, chunk, T(0));
    for_weights(buffers, chunk, [&](KeyRange step) { copy_out(view, buffers, step); });
  }

  /// Adds the weights of one chunk's keys to the rows of mean_weights; after finish.
  void add_weights_to_mean(const StepBuffers<T, KV>& buffers, std::int64_t chunk) const {
    const TensorView<T, 3>& mean = *call_.arguments.mean_weights;
    for_weights(buffers, chunk, [&](KeyRange step) {
      for (int r = 0; r < rows_; ++r) {
        T* target = mean.data + sequence_.batch * mean.stride(0) + row(r).query * mean.stride(1) +
                    step.begin * mean.stride(2);
        for (std::int64_t j = 0; j < step.end - step.begin; ++j) {
          target[j * mean.stride(2)] += buffers.scores[r * step_keys + j];
        }
      }
    });
  }

  /// The scores of one chunk's keys at the stage asked for.
  void write_scores(const StepBuffers<T, KV>& buffers, std::int64_t chunk) const {
    const bool biased = call_.options.score_stage == ScoreStage::biased;
    const T none = biased ? -std::numeric_limits<T>::infinity() : T(0);
    const TensorView<T, 4>& view = *call_.arguments.scores;
    fill(view, chunk, none);
    if (rows_ == 0) return;
    pack_queries(buffers, call_.scale);
    const bool own_length = call_.is_ragged() || !call_.arguments.key_runs.empty();
    const std::int64_t length = own_length ? sequence_.key_length : call_.shape.key_length;
    const KeyRange whole{chunk * chunk_keys, std::min((chunk + 1) * chunk_keys, length)};
    for_steps(biased ? attended_range(chunk) : whole, [&](KeyRange step, const KeyPiece<KV>& piece) {
      score(buffers, step, piece, 1, biased);
      for (int r = 0; biased && r < rows_; ++r) {
        T* scores = buffers.scores + r * step_keys;
        std::fill(scores, scores + buffers.range[r].begin, none);
        std::fill(scores + buffers.range[r].end, scores + (step.end - step.begin), none);
      }
      copy_out(view, buffers, step);
    });
  }

 private:
  /// Calls f(step) with the weights of each step of a chunk in buffers.scores.
  template <class Function>
  void for_weights(const StepBuffers<T, KV>& buffers, std::int64_t chunk, Function&& function) const {
    if (rows_ == 0 || chunk >= chunks()) return;
    pack_queries(buffers, call_.scale * std::numbers::log2e);
    for_steps(attended_range(chunk), [&](KeyRange step, const KeyPiece<KV>& piece) {
      score(buffers, step, piece, std::numbers::log2e, true);
      for (int r = 0; r < rows_; ++r) {
        kernels_.row_weights(buffers.scores + r * step_keys, static_cast<int>(buffers.range[r].begin),
                             static_cast<int>(buffers.range[r].end), static_cast<int>(step.end - step.begin),
                             reference_[r], inverse_sum(r));
      }
      function(step);
    });
  }

  /// Row r is head r % group of query r / group.
  RowIndex row(int r) const {
    const std::int64_t group = call_.group();
    return {kv_head_ * group + r % group, r / group};
  }

  /// Chunks of this sequence: never of the batch, so that its bits do not depend on other sequences.
  std::int64_t chunks() const {
    return std::max<std::int64_t>((sequence_.key_length + chunk_keys - 1) / chunk_keys, 1);
  }

  T inverse_sum(int r) const { return sum_[r] == T(0) ? T(0) : T(1) / sum_[r]; }

  /// Keys of a chunk that some row attends. Ranges of rows do not decrease.
  KeyRange attended_range(std::int64_t chunk) const {
    const KeyRange first = call_.keys(sequence_, 0), last = call_.keys(sequence_, sequence_.query_length - 1);
    return {std::max(chunk * chunk_keys, first.begin), std::min((chunk + 1) * chunk_keys, last.end)};
  }

  /// Calls f(step, piece) for steps of keys that lie in one piece of memory.
  template <class Function>
  void for_steps(KeyRange range, Function&& function) const {
    for (std::int64_t position = range.begin; position < range.end;) {
      const KeyPiece<KV> piece = call_.piece(sequence_, kv_head_, position);
      const KeyRange step{piece.begin, std::min({piece.begin + step_keys, piece.end, range.end})};
      if (step.empty()) return;
      function(step, piece);
      position = step.end;
    }
  }

  void pack_queries(const StepBuffers<T, KV>& buffers, double factor) const {
    const std::int64_t feature_stride = call_.arguments.query.stride(3);
    for (int r = 0; r < rows_; ++r) {
      const T* source = call_.token_row(call_.arguments.query, sequence_, row(r));
      T* target = buffers.query + r * sizes_.query_stride;
      for (std::int64_t d = 0; d < call_.shape.head_dim; ++d) {
        target[d] = source[d * feature_stride] * static_cast<T>(factor);
      }
      std::fill(target + call_.shape.head_dim, target + sizes_.query_stride, T(0));
    }
  }

  /// A step's rows of keys or values, readable in whole vectors: in place or copied.
  Rows<KV> step_rows(const KV* first, std::int64_t stride, std::int64_t feature_stride, std::int64_t features, int keys,
                     KV* packed, int packed_stride) const {
    if (feature_stride == 1 && features == packed_stride) return {first, stride};
    kernels_.pack_rows(first, stride, feature_stride, keys, static_cast<int>(features), packed, packed_stride);
    return {packed, packed_stride};
  }

  /// Scores of a step, adjusted where `adjusted`, and the ranges that rows attend of it. True if every key counts for
  /// every row.
  bool score(const StepBuffers<T, KV>& buffers, KeyRange step, const KeyPiece<KV>& piece, double unit,
             bool adjusted) const {
    const int keys = static_cast<int>(step.end - step.begin);
    const Rows<KV> key = step_rows(piece.key, piece.key_stride, piece.key_feature_stride, call_.shape.head_dim, keys,
                                   buffers.key, sizes_.query_stride);
    kernels_.row_scores(buffers.query, sizes_.query_stride, rows_, key, keys, sizes_.query_stride / kernels_.lanes,
                        buffers.scores, step_keys);
    bool whole = true;
    for (int r = 0; r < rows_; ++r) {
      const KeyRange range = call_.keys(sequence_, row(r).query);
      buffers.range[r] = {std::clamp(range.begin, step.begin, step.end) - step.begin,
                          std::clamp(range.end, step.begin, step.end) - step.begin};
      whole = whole && buffers.range[r] == KeyRange{0, keys};
      const RowAdjustment<T> adjustment = row_adjustment(r, step, unit, adjusted);
      if (!is_plain(adjustment)) {
        whole = !kernels_.row_adjust(buffers.scores + r * step_keys, keys, adjustment) && whole;
      }
    }
    return whole;
  }

  static bool is_plain(const RowAdjustment<T>& adjustment) {
    return adjustment.softcap == T(0) && adjustment.slope == T(0) && adjustment.bias == nullptr &&
           adjustment.mask == nullptr && adjustment.padding == nullptr;
  }

  RowAdjustment<T> row_adjustment(int r, KeyRange step, double unit, bool adjusted) const {
    const auto& arguments = call_.arguments;
    RowAdjustment<T> result{.unit = static_cast<T>(unit)};
    if (adjusted || call_.options.score_stage != ScoreStage::scaled) {
      result.softcap = softcap_in<T>(call_.options.softcap, unit);
    }
    if (!adjusted) return result;
    if (!arguments.alibi_slopes.empty()) {
      result.slope = arguments.alibi_slopes[static_cast<std::size_t>(row(r).head)] * result.unit;
      result.distance = static_cast<T>(step.begin - call_.position(sequence_, row(r).query));
    }
    if (arguments.bias) {
      result.bias_stride = arguments.bias->stride(3);
      result.bias = call_.score_row(*arguments.bias, sequence_, row(r)) + step.begin * result.bias_stride;
    }
    if (arguments.mask) {
      result.mask_stride = arguments.mask->stride(3);
      result.mask = call_.score_row(*arguments.mask, sequence_, row(r)) + step.begin * result.mask_stride;
    }
    if (arguments.key_padding_mask) {
      const auto& padding = *arguments.key_padding_mask;
      result.padding_stride = padding.stride(1);
      result.padding = padding.data + sequence_.batch * padding.stride(0) + step.begin * padding.stride(1);
    }
    return result;
  }

  void attend_step(const StepBuffers<T, KV>& buffers, KeyRange step, const KeyPiece<KV>& piece,
                   std::int64_t first) const {
    const int keys = static_cast<int>(step.end - step.begin);
    const bool whole = score(buffers, step, piece, std::numbers::log2e, true);
    const Rows<KV> value = step_rows(piece.value, piece.value_stride, piece.value_feature_stride, call_.shape.value_dim,
                                     keys, buffers.value, sizes_.value_stride);
    // Keys that only some rows attend may hold values that the others must not touch.
    const bool careful = !whole && !kernels_.all_finite(value.data, value.stride, keys,
                                                        static_cast<int>(call_.shape.value_dim));
    for (int r = 0; r < rows_; ++r) {
      buffers.factor[r] = kernels_.row_softmax(buffers.scores + r * step_keys, static_cast<int>(buffers.range[r].begin),
                                               static_cast<int>(buffers.range[r].end), keys, reference_ + first + r,
                                               sum_ + first + r, careful);
    }
    if (careful) return add_values_carefully(buffers, keys, value, first);
    kernels_.row_values(buffers.scores, step_keys, rows_, buffers.factor, value, keys,
                        sizes_.value_stride / kernels_.lanes, accumulator_ + first * sizes_.value_stride,
                        sizes_.value_stride);
  }

  /// Row by row, over the stretches of keys that the row attends (the others have weight −0).
  void add_values_carefully(const StepBuffers<T, KV>& buffers, int keys, const Rows<KV>& value,
                            std::int64_t first) const {
    constexpr T one = T(1);
    for (int r = 0; r < rows_; ++r) {
      const T* weights = buffers.scores + r * step_keys;
      T* accumulator = accumulator_ + (first + r) * sizes_.value_stride;
      const auto add = [&](int begin, int end, const T* factor) {
        kernels_.row_values(weights + begin, step_keys, 1, factor, {value.data + begin * value.stride, value.stride},
                            end - begin, sizes_.value_stride / kernels_.lanes, accumulator, sizes_.value_stride);
      };
      add(0, 0, buffers.factor + r);
      for (int begin = 0; begin < keys;) {
        int end = begin;
        while (end < keys && !std::signbit(weights[end])) ++end;
        if (end > begin) add(begin, end, &one);
        begin = end + 1;
      }
    }
  }

  /// One value for all keys of a chunk, up to the view's end.
  void fill(const TensorView<T, 4>& view, std::int64_t chunk, T value) const {
    const std::int64_t end = std::min((chunk + 1) * chunk_keys, call_.shape.key_length);
    for (int r = 0; r < rows_; ++r) {
      T* target = call_.score_row(view, sequence_, row(r));
      for (std::int64_t j = chunk * chunk_keys; j < end; ++j) target[j * view.stride(3)] = value;
    }
  }

  void copy_out(const TensorView<T, 4>& view, const StepBuffers<T, KV>& buffers, KeyRange step) const {
    for (int r = 0; r < rows_; ++r) {
      T* target = call_.score_row(view, sequence_, row(r)) + step.begin * view.stride(3);
      for (std::int64_t j = 0; j < step.end - step.begin; ++j) {
        target[j * view.stride(3)] = buffers.scores[r * step_keys + j];
      }
    }
  }

  const AttentionCall<T, KV>& call_;
  const KernelTable<T, KV>& kernels_;
  const DecodeSizes<T, KV>& sizes_;
  const Sequence sequence_;
  const std::int64_t kv_head_;
  const int rows_;  ///< 0 if the sequence takes the other path
  T* reference_;    ///< of chunk 0; chunk c lies c · sizes.rows behind
  T* sum_;
  T* accumulator_;
};

}  // namespace

template <class T, class KV>
std::size_t decode_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, int num_threads) {
  const DecodeSizes<T, KV> sizes(shape, kernels);
  Carver shared, thread;
  carve_partials(shared, sizes);
  carve_step(thread, sizes);
  return shared.used() + thread.used() * static_cast<std::size_t>(num_threads);
}

template <class T, class KV>
void run_decode(const AttentionCall<T, KV>& call, std::byte* workspace) {
  const DecodeSizes<T, KV> sizes(call.shape, call.kernels);
  Carver shared(workspace), measure;
  const Partials<T> partials = carve_partials(shared, sizes);
  carve_step(measure, sizes);
  const auto with_buffers = [&](int thread, auto&& function) {
    Carver carver(workspace + shared.used() + static_cast<std::size_t>(thread) * measure.used());
    function(carve_step(carver, sizes));
  };
  const auto for_chunks = [&](auto&& function) {
    parallel_for(call.num_threads, sizes.heads * sizes.chunks, [&](int thread, std::int64_t task) {
      with_buffers(thread, [&](const StepBuffers<T, KV>& buffers) {
        function(DecodeHead<T, KV>(call, sizes, partials, task / sizes.chunks), buffers, task % sizes.chunks);
      });
    });
  };
  for_chunks([](const auto& head, const auto& buffers, std::int64_t chunk) { head.attend(buffers, chunk); });
  parallel_for(sizes.chunks > 1 ? call.num_threads : 1, sizes.heads, [&](int, std::int64_t head) {
    DecodeHead<T, KV>(call, sizes, partials, head).finish();
  });
  if (call.arguments.weights) {
    for_chunks([](const auto& head, const auto& buffers, std::int64_t chunk) { head.write_weights(buffers, chunk); });
  }
  if (call.arguments.scores) {
    for_chunks([](const auto& head, const auto& buffers, std::int64_t chunk) { head.write_scores(buffers, chunk); });
  }
  if (!call.arguments.mean_weights) return;
  // One task adds up all heads of a chunk, in order.
  parallel_for(call.num_threads, call.shape.batch * sizes.chunks, [&](int thread, std::int64_t task) {
    const Sequence sequence = call.sequence(task / sizes.chunks);
    if (call.path(sequence) != KernelPath::row_dot) return;
    const std::int64_t chunk = task % sizes.chunks, first = chunk * chunk_keys;
    const MeanRows<T> mean(*call.arguments.mean_weights, sequence.batch, {0, sequence.query_length},
                           {first, std::min(first + chunk_keys, call.shape.key_length)});
    mean.clear();
    with_buffers(thread, [&](const StepBuffers<T, KV>& buffers) {
      for (std::int64_t kv_head = 0; kv_head < call.shape.num_kv_heads; ++kv_head) {
        DecodeHead<T, KV>(call, sizes, partials, sequence.batch * call.shape.num_kv_heads + kv_head)
            .add_weights_to_mean(buffers, chunk);
      }
    });
    mean.divide(call.shape.num_heads);
  });
}

template std::size_t decode_workspace_bytes(const AttentionShape&, const KernelTable<float, float>&, int);
template std::size_t decode_workspace_bytes(const AttentionShape&, const KernelTable<double, double>&, int);
template void run_decode(const AttentionCall<float, float>&, std::byte*);
template void run_decode(const AttentionCall<double, double>&, std::byte*);

}  // namespace headwise::detail
