// The rows of one key/value head, the steps in which they read their keys, and the scores of a step: what the sweep for
// the output and the further outputs share.
#pragma once

#include "drivers/decode_buffers.hpp"

namespace headwise::detail {

template <class T, class KV>
class DecodeSteps {
 public:
  /// \param head of all key/value heads of the batch; it has rows only if its sequence takes this path
  DecodeSteps(const AttentionCall<T, KV>& call, const DecodeSizes<T, KV>& sizes, const Partials<T>& partials,
              const StepBuffers<T, KV>& buffers, std::int64_t head)
      : call_(call),
        kernels_(call.kernels),
        sizes_(sizes),
        buffers_(buffers),
        partials_(partials.of_head(sizes, head)),
        sequence_(call.sequence(head / call.shape.num_kv_heads)),
        kv_head_(head % call.shape.num_kv_heads),
        rows_(call.path(sequence_) == KernelPath::row_dot
                  ? static_cast<int>(folded_rows(sequence_.query_length, call.group))
                  : 0),
        plain_(call.options.softcap == 0 && call.arguments.alibi_slopes.empty() && !call.arguments.bias &&
               !call.arguments.mask && !call.arguments.key_padding_mask) {
    if (rows_ == 0) return;
    // Ranges of rows do not decrease.
    const KeyRange first = call.keys(sequence_, 0), last = call.keys(sequence_, sequence_.query_length - 1);
    any_row_ = {first.begin, last.end};
    every_row_ = {last.begin, first.end};
    chunks_ = attended_chunks(call_, sequence_);
  }

 protected:
  /// Row r is head r % group of query r / group.
  RowIndex row(int r) const {
    const std::int64_t group = call_.group;
    if (group == 1) return {kv_head_, r};
    return {kv_head_ * group + r % group, r / group};
  }

  /// The chunks that have partial results.
  KeyRange chunks() const { return chunks_; }

  /// Keys of a chunk that some row attends.
  KeyRange attended_range(std::int64_t chunk) const {
    return {std::max(chunk * chunk_keys, any_row_.begin), std::min((chunk + 1) * chunk_keys, any_row_.end)};
  }

  /// After the chunks are merged.
  T inverse_sum(int r) const { return partials_.sum[r] == T(0) ? T(0) : T(1) / partials_.sum[r]; }

  /// Calls f(step, piece) for steps of keys that lie in one piece of memory. Where a window begins they begin at a multiple
  /// of row_sum_keys, thus at a whole vector, and end at multiples of step_keys: a row sums its weights lane by lane and
  /// its values by so many keys, and its bits must not depend on the windows of other rows.
  template <class Function>
  void for_steps(KeyRange range, Function&& function) const {
    for (std::int64_t position = range.begin & -std::int64_t{row_sum_keys}; position < range.end;) {
      const KeyPiece<KV> piece = call_.piece(sequence_, kv_head_, position);
      const std::int64_t next = (piece.begin / step_keys + 1) * step_keys;
      const KeyRange step{piece.begin, std::min({next, piece.end, range.end})};
      if (step.empty()) return;
      function(step, piece);
      position = step.end;
    }
  }

  void pack_queries(double factor) const {
    for (int r = 0; r < rows_; ++r) {
      T* target = buffers_.query + r * sizes_.query_stride;
      copy_elements(call_.token_row(call_.arguments.query, sequence_, row(r)), call_.arguments.query.stride(3),
                    call_.shape.head_dim, target, 1);
      std::fill(target + call_.shape.head_dim, target + sizes_.query_stride, T(0));
      buffers_.factor[r] = static_cast<T>(factor);
    }
    scale_rows(buffers_.query, sizes_.query_vectors, sizes_.query_stride, buffers_.key);
  }

  /// Multiplies each of this head's rows, whole vectors, by its factor in the buffers: the value kernel over no values.
  /// \param unread a row of as many features
  void scale_rows(T* rows, int vectors, int stride, const KV* unread) const {
    kernels_.row_values(buffers_.scores, step_keys, rows_, buffers_.factor, {unread, 0}, 0, vectors, rows, stride);
  }

  static void copy_elements(const T* source, std::int64_t source_stride, std::int64_t count, T* target,
                            std::int64_t target_stride) {
    if (source_stride == 1 && target_stride == 1) {
      std::copy_n(source, count, target);
      return;
    }
    for (std::int64_t i = 0; i < count; ++i) target[i * target_stride] = source[i * source_stride];
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
  bool score(KeyRange step, const KeyPiece<KV>& piece, double unit, bool adjusted) const {
    const int keys = static_cast<int>(step.end - step.begin);
    const Rows<KV> key = step_rows(piece.key, piece.key_stride, piece.key_feature_stride, call_.shape.head_dim, keys,
                                   buffers_.key, sizes_.query_stride);
    kernels_.row_scores(buffers_.query, sizes_.query_stride, rows_, key, keys, sizes_.query_vectors,
                        buffers_.scores, step_keys);
    bool whole = every_row_.begin <= step.begin && step.end <= every_row_.end;
    for (int r = 0; r < rows_; ++r) buffers_.range[r] = whole ? KeyRange{0, keys} : attended_part(r, step);
    for (int r = 0; !plain_ && r < rows_; ++r) {
      const RowAdjustment<T> adjustment = row_adjustment(r, step, unit, adjusted);
      whole = !kernels_.row_adjust(buffers_.scores + r * step_keys, keys, adjustment) && whole;
    }
    return whole;
  }

  const AttentionCall<T, KV>& call_;
  const KernelTable<T, KV>& kernels_;
  const DecodeSizes<T, KV>& sizes_;
  const StepBuffers<T, KV>& buffers_;
  const Partials<T> partials_;  ///< of this head
  const Sequence sequence_;
  const std::int64_t kv_head_;
  const int rows_;  ///< 0 if the sequence takes the other path

 private:
  /// Keys of a step that a row attends, relative to the step.
  KeyRange attended_part(int r, KeyRange step) const {
    const KeyRange range = call_.keys(sequence_, row(r).query);
    return {std::clamp(range.begin, step.begin, step.end) - step.begin,
            std::clamp(range.end, step.begin, step.end) - step.begin};
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

  const bool plain_;         ///< scores are products of queries and keys
  KeyRange chunks_{0, 0};
  KeyRange any_row_{0, 0};   ///< keys that some row attends, mask and bias aside
  KeyRange every_row_{0, 0};  ///< … that all rows attend
};

}  // namespace headwise::detail
