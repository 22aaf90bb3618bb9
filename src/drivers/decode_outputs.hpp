// Weights, their mean over the heads, and scores of the row-dot path: further sweeps over the keys, chunk by chunk.
#pragma once

#include <limits>

#include "drivers/decode_steps.hpp"

namespace headwise::detail {

template <class T, class KV>
class DecodeOutputs : private DecodeSteps<T, KV> {
  using Base = DecodeSteps<T, KV>;
  using Base::attended_range;
  using Base::buffers_;
  using Base::call_;
  using Base::for_steps;
  using Base::kernels_;
  using Base::partials_;
  using Base::row;
  using Base::rows_;
  using Base::score;
  using Base::sequence_;

 public:
  using Base::Base;

  /// The weights of some chunks' keys; after the sweep is finished.
  void write_weights(KeyRange chunks) const {
    const TensorView<T, 4>& view = *call_.arguments.weights;
    fill(view, chunks, T(0));
    for_weights(chunks, [&](KeyRange step) { copy_out(view, step); });
  }

  /// Adds the weights of some chunks' keys to the rows of mean_weights; after the sweep is finished.
  void add_weights_to_mean(KeyRange chunks) const {
    const TensorView<T, 3>& mean = *call_.arguments.mean_weights;
    for_weights(chunks, [&](KeyRange step) {
      for (int r = 0; r < rows_; ++r) {
        T* target = mean.data + sequence_.batch * mean.stride(0) + row(r).query * mean.stride(1) +
                    step.begin * mean.stride(2);
        for (std::int64_t j = 0; j < step.end - step.begin; ++j) {
          target[j * mean.stride(2)] += buffers_.scores[r * step_keys + j];
        }
      }
    });
  }

  /// The scores of some chunks' keys at the stage asked for.
  void write_scores(KeyRange chunks) const {
    const bool biased = call_.options.score_stage == ScoreStage::biased;
    const T none = biased ? -std::numeric_limits<T>::infinity() : T(0);
    const TensorView<T, 4>& view = *call_.arguments.scores;
    fill(view, chunks, none);
    if (rows_ == 0) return;
    this->pack_queries(call_.scale);
    const bool own_length = call_.is_ragged() || !call_.arguments.key_runs.empty();
    const std::int64_t length = own_length ? sequence_.key_length : call_.shape.key_length;
    for (std::int64_t chunk = chunks.begin; chunk < chunks.end; ++chunk) {
      const KeyRange whole{chunk * chunk_keys, std::min((chunk + 1) * chunk_keys, length)};
      for_steps(biased ? attended_range(chunk) : whole, [&](KeyRange step, const KeyPiece<KV>& piece) {
        score(step, piece, 1, biased);
        for (int r = 0; biased && r < rows_; ++r) {
          T* scores = buffers_.scores + r * step_keys;
          std::fill(scores, scores + buffers_.range[r].begin, none);
          std::fill(scores + buffers_.range[r].end, scores + (step.end - step.begin), none);
        }
        copy_out(view, step);
      });
    }
  }

 private:
  /// Calls f(step) with the weights of each step in buffers_.scores.
  template <class Function>
  void for_weights(KeyRange chunks, Function&& function) const {
    chunks = {std::max(chunks.begin, this->chunks().begin), std::min(chunks.end, this->chunks().end)};
    if (rows_ == 0 || chunks.empty()) return;
    this->pack_queries(call_.scale * std::numbers::log2e);
    for (std::int64_t chunk = chunks.begin; chunk < chunks.end; ++chunk) {
      for_steps(attended_range(chunk), [&](KeyRange step, const KeyPiece<KV>& piece) {
        score(step, piece, std::numbers::log2e, true);
        for (int r = 0; r < rows_; ++r) {
          kernels_.row_weights(buffers_.scores + r * step_keys, static_cast<int>(buffers_.range[r].begin),
                               static_cast<int>(buffers_.range[r].end), static_cast<int>(step.end - step.begin),
                               partials_.reference[r], this->inverse_sum(r));
        }
        function(step);
      });
    }
  }

  /// One value for all keys of the chunks, up to the view's end.
  void fill(const TensorView<T, 4>& view, KeyRange chunks, T value) const {
    const std::int64_t end = std::min(chunks.end * chunk_keys, call_.shape.key_length);
    for (int r = 0; r < rows_; ++r) {
      T* target = call_.score_row(view, sequence_, row(r));
      for (std::int64_t j = chunks.begin * chunk_keys; j < end; ++j) target[j * view.stride(3)] = value;
    }
  }

  void copy_out(const TensorView<T, 4>& view, KeyRange step) const {
    for (int r = 0; r < rows_; ++r) {
      T* target = call_.score_row(view, sequence_, row(r)) + step.begin * view.stride(3);
      for (std::int64_t j = 0; j < step.end - step.begin; ++j) {
        target[j * view.stride(3)] = buffers_.scores[r * step_keys + j];
      }
    }
  }
};

}  // namespace headwise::detail
