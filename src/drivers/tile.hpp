// Computes one tile: output in one sweep over the keys, further outputs in further sweeps.
#pragma once

#include "drivers/tile_blocks.hpp"

namespace headwise::detail {

/// References and inverse sums of all rows, [batch, head, query], for outputs that are computed after all tiles.
template <class T>
struct SavedRows {
  T* reference = nullptr;
  T* inverse = nullptr;
};

template <class T, class KV>
std::int64_t saved_index(const AttentionCall<T, KV>& call, const Sequence& sequence, const RowIndex& row) {
  return (sequence.batch * call.shape.num_heads + row.head) * call.shape.query_length + row.query;
}

template <class T, class KV>
class Tile : private TileBlocks<T, KV> {
  using Base = TileBlocks<T, KV>;
  using Block = TileBlock<T, KV>;
  using Base::buffers_;
  using Base::call_;
  using Base::for_blocks;
  using Base::for_rows;
  using Base::kernels_;
  using Base::keys_;
  using Base::needs_;
  using Base::row_stride_;
  using Base::rows_;
  using Base::sequence_;
  using Base::value_stride_;

 public:
  using Base::Base;
  using Base::classify_mask;

  /// The sweep over the keys that computes the output, block by block.
  void start() {
    this->start_pass({});
    locate_output();
    reset_state();
    if (!keys_.empty()) kept_ = {keys_.begin, keys_.begin};
  }
  using Base::at_end;
  using Base::position;
  void add_next_block() {
    this->step([&](Block& block) {
      if (!block.empty) add_block(block);
    });
  }

  /// Completes the output, and computes what was asked for beside it.
  void finish(const SavedRows<T>& saved) {
    finish_output();
    if (call_.arguments.logsumexp) write_logsumexp();
    if (saved.reference != nullptr) save(saved);
    if (call_.arguments.weights) finish_weights();
    if (call_.arguments.scores) write_scores();
  }

  /// Adds the weights of the tile's rows to the rows of mean_weights.
  void add_weights_to_mean(const SavedRows<T>& saved) {
    this->start_pass({});
    std::fill_n(buffers_.state.reference, row_stride_, -std::numeric_limits<T>::infinity());
    std::fill_n(buffers_.state.inverse, row_stride_, T(0));
    for_rows([&](int r, const RowIndex& row) {
      buffers_.state.reference[r] = saved.reference[saved_index(call_, sequence_, row)];
      buffers_.state.inverse[r] = saved.inverse[saved_index(call_, sequence_, row)];
    });
    const auto& mean = *call_.arguments.mean_weights;
    for_blocks([&](Block& block) {
      if (block.empty) return;
      for_rows([&](int r, const RowIndex& row) {
        buffers_.score_rows[r] = mean.data + sequence_.batch * mean.stride(0) + row.query * mean.stride(1) +
                                 block.range.begin * mean.stride(2);
      });
      announce_rows(mean.stride(2), block);
      kernels_.scores(block.arguments);
      kernels_.add_weights(block.arguments, block.keys(), rows_, buffers_.score_rows, mean.stride(2));
    });
  }

 private:
  void locate_output() const {
    if (!needs_.scatter) this->locate_token_rows(call_.arguments.output, buffers_.output_rows);
    if (!needs_.output) return;
    for (int r = 0; r < rows_; ++r) buffers_.accumulated_rows[r] = buffers_.staging + r * value_stride_;
  }

  void reset_state() {
    const RowState<T>& state = buffers_.state;
    kernels_.start(state, row_stride_);
    if (call_.arguments.sinks.empty()) return;
    for_rows([&](int r, const RowIndex& row) {
      const InitialState<T> initial = initial_state(call_.arguments.sinks, row.head);
      state.reference[r] = initial.reference;
      state.sum[r] = initial.sum;
    });
  }

  void add_block(Block& block) {
    const bool last = block.range.end == keys_.end;
    if (call_.arguments.weights) locate_block(*call_.arguments.weights, block);
    if (needs_.fetch) announce_output(last, block);
    const bool excluded_by_bias = kernels_.scores(block.arguments);
    // Limits alone are nothing to `values`. Behind the product, which fetches the values.
    const bool careful = (block.arguments.attended != nullptr || excluded_by_bias) && !values_are_finite(block);
    if (call_.arguments.weights) keep_scores(block);
    kernels_.softmax(block.arguments, careful);
    if (last) kernels_.finish(buffers_.state, row_stride_);
    ValueArguments<T, KV> values = value_arguments(last);
    values.keys = block.keys();
    values.value = values_ = block.arguments.value;
    if (block.edge) {
      values.first_key = buffers_.first_key;
      values.last_key = buffers_.last_key;
    }
    (careful ? kernels_.values_careful : kernels_.values)(values);
    started_ = true;
    finished_ = last;
  }

  ValueArguments<T, KV> value_arguments(bool last) const {
    return {.weights = buffers_.scores,
            .row_stride = row_stride_,
            .keys = 0,
            .value = values_,
            .value_vectors = static_cast<int>(vectors_for(value_stride_, kernels_.lanes)),
            .output = last ? buffers_.output_rows : buffers_.accumulated_rows,
            .rows = rows_,
            .first_key = nullptr,
            .last_key = nullptr,
            .first = !started_,
            .factor = buffers_.state.factor,
            .inverse = last ? buffers_.state.inverse : nullptr,
            .accumulated = last && needs_.output && !needs_.scatter ? buffers_.accumulated_rows : nullptr};
  }

  bool values_are_finite(const Block& block) const {
    const Rows<KV>& value = block.arguments.value;
    const CheckedRows<KV> wanted{value.data, value.stride, block.keys()};
    const auto check = [&] {
      return kernels_.all_finite(wanted.source, wanted.stride, wanted.rows, static_cast<int>(call_.shape.value_dim));
    };
    if (needs_.value) return check();  // copies change where they lie
    CheckedRows<KV>& known = buffers_.checks[block.range.begin / kernels_.block_keys % num_checks];
    if (known.source != wanted.source || known.stride != wanted.stride || known.rows != wanted.rows) {
      known = wanted;
      known.finite = check();
    }
    return known.finite;
  }

  /// What the last block did not do: dead rows, division by the sum where the last block was skipped, strided outputs.
  void finish_output() {
    if (!finished_) {
      kernels_.finish(buffers_.state, row_stride_);
      std::fill_n(buffers_.state.factor, row_stride_, T(1));
      if (started_) {
        kernels_.values(value_arguments(true));
      } else {
        write_dead_rows();
      }
    }
    if (!needs_.scatter) return;
    const auto& output = call_.arguments.output;
    for_rows([&](int r, const RowIndex& row) {
      T* target = call_.token_row(output, sequence_, row);
      for (std::int64_t f = 0; f < call_.shape.value_dim; ++f) {
        target[f * output.stride(3)] = buffers_.output_rows[r][f];
      }
    });
  }

  /// Rows whose keys are all excluded: +0, or NaN where the sink is no number.
  void write_dead_rows() const {
    const std::int64_t features = needs_.scatter ? value_stride_ : call_.shape.value_dim;
    for (int r = 0; r < rows_; ++r) {
      const T inverse = buffers_.state.inverse[r];
      std::fill_n(buffers_.output_rows[r], features, inverse == inverse ? T(0) : inverse);
    }
  }

  void write_logsumexp() const {
    for_rows([&](int r, const RowIndex& row) {
      *call_.token_row(*call_.arguments.logsumexp, sequence_, row) =
          natural_logsumexp(buffers_.state.reference[r], buffers_.state.sum[r]);
    });
  }

  void save(const SavedRows<T>& saved) const {
    for_rows([&](int r, const RowIndex& row) {
      saved.reference[saved_index(call_, sequence_, row)] = buffers_.state.reference[r];
      saved.inverse[saved_index(call_, sequence_, row)] = buffers_.state.inverse[r];
    });
  }

  /// Scores wait in the rows of the weights until references and sums are known: computing them again in a second sweep
  /// would cost half of the call.
  void keep_scores(const Block& block) {
    const auto& weights = *call_.arguments.weights;
    fill_rows(weights, {kept_.end, block.range.begin}, -std::numeric_limits<T>::infinity());
    kernels_.store_scores(block.arguments, block.keys(), rows_, buffers_.score_rows, weights.stride(3));
    kept_.end = block.range.end;
  }

  void finish_weights() const {
    const auto& weights = *call_.arguments.weights;
    for_rows([&](int r, const RowIndex& row) {
      kernels_.weigh_row(call_.score_row(weights, sequence_, row) + kept_.begin * weights.stride(3), weights.stride(3),
                         kept_.end - kept_.begin, buffers_.state.reference[r], buffers_.state.inverse[r]);
    });
    fill_rows(weights, {0, kept_.begin}, T(0));
    fill_rows(weights, {kept_.end, call_.shape.key_length}, T(0));
  }

  /// A second sweep: in other units, and of pairs that are not attended.
  void write_scores() {
    const bool biased = call_.options.score_stage == ScoreStage::biased;
    this->start_pass({.unit = 1, .softcap = call_.options.score_stage != ScoreStage::scaled, .masked = biased});
    const auto& scores = *call_.arguments.scores;
    const T outside = biased ? -std::numeric_limits<T>::infinity() : T(0);
    std::int64_t written = 0;
    for_blocks([&](Block& block) {
      if (block.empty) return;
      fill_rows(scores, {written, block.range.begin}, outside);
      locate_block(scores, block);
      kernels_.scores(block.arguments);
      kernels_.store_scores(block.arguments, block.keys(), rows_, buffers_.score_rows, scores.stride(3));
      written = block.range.end;
    });
    fill_rows(scores, {written, call_.shape.key_length}, outside);
  }

  /// Rows of a block in a scores-shaped output.
  void locate_block(const TensorView<T, 4>& view, Block& block) const {
    this->locate_rows(call_.score_row(view, sequence_, this->first_row()) + block.range.begin * view.stride(3),
                      view.stride(1), view.stride(2), buffers_.score_rows);
    announce_rows(view.stride(3), block);
  }

  /// Lets the memory of the block's score rows be fetched while its scores are computed.
  void announce_rows(std::int64_t key_stride, Block& block) const {
    if (key_stride != 1) return;
    block.arguments.upcoming.add(buffers_.score_rows, 0, rows_, block.keys(), true);
  }

  /// Lets the rows of the output be fetched while the scores are computed before they are first written.
  void announce_output(bool last, Block& block) const {
    if (needs_.scatter || (needs_.output ? !last : started_)) return;
    block.arguments.upcoming.add(buffers_.output_rows, 0, rows_, static_cast<int>(call_.shape.value_dim), true);
  }

  /// Fills some keys of a scores-shaped output.
  void fill_rows(const TensorView<T, 4>& view, KeyRange keys, T value) const {
    if (keys.empty()) return;
    for_rows([&](int, const RowIndex& row) {
      T* target = call_.score_row(view, sequence_, row);
      for (std::int64_t j = keys.begin; j < keys.end; ++j) target[j * view.stride(3)] = value;
    });
  }

  Rows<KV> values_{};      ///< of the last block: a pass over no keys forms addresses of them, too
  bool started_ = false;   ///< output rows hold something
  bool finished_ = false;  ///< … divided by the sum
  KeyRange kept_{};        ///< keys whose scores wait in the weights output
};

}  // namespace headwise::detail
