// The sweep of the row-dot path: attention of one key/value head's rows, chunk of keys by chunk, merged in order.
#pragma once

#include "drivers/decode_steps.hpp"

namespace headwise::detail {

template <class T, class KV>
class DecodeSweep : private DecodeSteps<T, KV> {
  using Base = DecodeSteps<T, KV>;
  using Base::buffers_;
  using Base::call_;
  using Base::kernels_;
  using Base::partials_;
  using Base::row;
  using Base::rows_;
  using Base::sequence_;
  using Base::sizes_;

 public:
  using Base::Base;

  /// Attention over the chunks of some partial results.
  void attend(KeyRange parts) const {
    const KeyRange chunks = this->chunks();
    parts.end = std::min(parts.end, chunks.end - chunks.begin);
    if (rows_ == 0 || parts.empty()) return;
    this->pack_queries(call_.scale * std::numbers::log2e);
    for (std::int64_t part = parts.begin; part < parts.end; ++part) {
      const std::int64_t chunk = chunks.begin + part, first = part * sizes_.rows;
      start(chunk, first);
      this->for_steps(this->attended_range(chunk), [&](KeyRange step, const KeyPiece<KV>& piece) {
        attend_step(step, piece, first);
      });
    }
  }

  /// Merges the chunks and writes the outputs of the rows, but for those that need another sweep.
  void finish() const {
    const int parts = static_cast<int>(this->chunks().end - this->chunks().begin);
    for (int r = 0; r < rows_; ++r) {
      if (parts > 1) {
        kernels_.merge_parts(partials_.reference + r, partials_.sum + r,
                             partials_.accumulator + r * sizes_.value_stride, parts, sizes_.rows,
                             sizes_.rows * sizes_.value_stride, sizes_.value_vectors);
      }
      buffers_.factor[r] = this->inverse_sum(r);
    }
    this->scale_rows(partials_.accumulator, sizes_.value_vectors, sizes_.value_stride, buffers_.value);
    const auto& output = call_.arguments.output;
    for (int r = 0; r < rows_; ++r) {
      this->copy_elements(partials_.accumulator + r * sizes_.value_stride, 1, call_.shape.value_dim,
                          call_.token_row(output, sequence_, row(r)), output.stride(3));
      if (call_.arguments.logsumexp) {
        *call_.token_row(*call_.arguments.logsumexp, sequence_, row(r)) =
            natural_logsumexp(partials_.reference[r], partials_.sum[r]);
      }
    }
  }

 private:
  /// The state before a chunk; the sink joins the first one that the row attends. Its rows' partial results begin at
  /// `first`.
  void start(std::int64_t chunk, std::int64_t first) const {
    const KeyRange chunks = this->chunks();
    for (int r = 0; r < rows_; ++r) {
      const bool joins = !call_.arguments.sinks.empty() &&
                         chunk == std::clamp(call_.keys(sequence_, row(r).query).begin / chunk_keys, chunks.begin, chunks.end - 1);
      const InitialState<T> initial = initial_state(joins ? call_.arguments.sinks : std::span<const T>{}, row(r).head);
      partials_.reference[first + r] = initial.reference;
      partials_.sum[first + r] = initial.sum;
    }
    std::fill_n(partials_.accumulator + first * sizes_.value_stride, rows_ * sizes_.value_stride, T(0));
  }

  void attend_step(KeyRange step, const KeyPiece<KV>& piece, std::int64_t first) const {
    const int keys = static_cast<int>(step.end - step.begin);
    const bool whole = this->score(step, piece, std::numbers::log2e, true);
    const Rows<KV> value = this->step_rows(piece.value, piece.value_stride, piece.value_feature_stride,
                                           call_.shape.value_dim, keys, buffers_.value, sizes_.value_stride);
    // Keys that only some rows attend may hold values that the others must not touch.
    const bool careful =
        !whole && !kernels_.all_finite(value.data, value.stride, keys, static_cast<int>(call_.shape.value_dim));
    for (int r = 0; r < rows_; ++r) {
      buffers_.factor[r] =
          kernels_.row_softmax(buffers_.scores + r * step_keys, static_cast<int>(buffers_.range[r].begin),
                               static_cast<int>(buffers_.range[r].end), keys, partials_.reference + first + r,
                               partials_.sum + first + r, careful);
    }
    (careful ? kernels_.row_values_careful : kernels_.row_values)(
        buffers_.scores, step_keys, rows_, buffers_.factor, value, keys, sizes_.value_vectors,
        partials_.accumulator + first * sizes_.value_stride, sizes_.value_stride);
  }
};

}  // namespace headwise::detail
