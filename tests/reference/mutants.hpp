/// \file
/// A copy of the reference in which mistakes can be planted, one at a time: a test of the tests shows that each of them
/// would be noticed. Nothing else uses it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "headwise/attention.hpp"
#include "reference/attention_reference.hpp"

namespace headwise::test {

enum class Mutation {
  none,
  window_left_one_more,
  window_right_one_more,
  window_around_row_number,
  causal_one_more,
  key_length_one_more,
  query_offsets_ignored,
  bottom_right_of_longest,
  tiled_heads,
  scale_missing,
  softcap_not_scaled_back,
  softcap_after_bias,
  softcap_after_mask,
  bias_scaled,
  bias_only_of_first_head,
  finite_minus_infinity,
  alibi_sign,
  alibi_one_position_off,
  mask_byte_one_only,
  mask_padded_with_zero,
  key_padding_mask_inverted,
  padding_scores_zero,
  ragged_keys_one_early,
  ragged_queries_one_early,
  run_slot_ignored,
  exp_off_by_1e_4,
  dead_row_uniform,
  sink_ignored,
  sink_in_numerator,
  logsumexp_without_sink,
  mean_over_kv_heads,
  scores_without_excluded_keys,
  count
};

/// The reference with one mistake, for one row.
template <class Real, class T>
class Mutant {
 public:
  Mutant(const AttentionArguments<T>& arguments, const AttentionOptions& options, Mutation mutation)
      : arguments_(arguments), options_(options), mutation_(mutation) {}

  /// Computes a row and writes it to all outputs.
  void write_row(RowIndex row) const {
    const ReferenceRow<Real> result = compute(row);
    const Token token = query_token(arguments_, row.batch, row.query);
    for (std::size_t c = 0; c < result.output.size(); ++c) {
      arguments_.output(token.batch, row.head, token.position, index(c)) = static_cast<T>(result.output[c]);
    }
    if (arguments_.logsumexp) {
      (*arguments_.logsumexp)(token.batch, row.head, token.position) = static_cast<T>(result.logsumexp);
    }
    for (std::size_t j = 0; j < result.weight.size(); ++j) {
      if (arguments_.weights) {
        (*arguments_.weights)(row.batch, row.head, row.query, index(j)) = static_cast<T>(result.weight[j]);
      }
      if (arguments_.scores) {
        (*arguments_.scores)(row.batch, row.head, row.query, index(j)) = static_cast<T>(result.stage[j]);
      }
    }
    if (arguments_.mean_weights) write_mean(row);
  }

 private:
  static std::int64_t index(std::size_t n) { return static_cast<std::int64_t>(n); }
  bool has(Mutation mutation) const { return mutation_ == mutation; }

  void write_mean(RowIndex row) const {
    const std::int64_t heads = arguments_.query.extent(1), kv_heads = num_kv_heads_of(arguments_);
    std::vector<Real> sum(static_cast<std::size_t>(largest_key_length(arguments_)), 0);
    for (row.head = 0; row.head < heads; ++row.head) {
      const ReferenceRow<Real> result = compute(row);
      for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += result.weight[j];
    }
    const auto divisor = static_cast<Real>(has(Mutation::mean_over_kv_heads) ? kv_heads : heads);
    for (std::size_t j = 0; j < sum.size(); ++j) {
      (*arguments_.mean_weights)(row.batch, row.query, index(j)) = static_cast<T>(sum[j] / divisor);
    }
  }

  std::int64_t kv_head(std::int64_t head) const {
    return has(Mutation::tiled_heads) ? head % num_kv_heads_of(arguments_) : kv_head_of(arguments_, head);
  }

  std::int64_t position(RowIndex row) const {
    if (has(Mutation::query_offsets_ignored) && options_.query_position == QueryPosition::given) return row.query;
    if (has(Mutation::bottom_right_of_longest) && options_.query_position == QueryPosition::bottom_right) {
      std::int64_t queries = 0;
      for (std::int64_t b = 0; b < batch_of(arguments_); ++b) {
        queries = std::max(queries, query_length_of(arguments_, b));
      }
      return row.query + largest_key_length(arguments_) - queries;
    }
    return position_of(arguments_, options_, row);
  }

  bool attended(RowIndex row, std::int64_t j) const {
    const std::int64_t p = position(row), window_p = has(Mutation::window_around_row_number) ? row.query : p;
    const std::int64_t more_left = has(Mutation::window_left_one_more);
    const std::int64_t more_right = has(Mutation::window_right_one_more);
    const std::int64_t more_keys = has(Mutation::key_length_one_more), more_causal = has(Mutation::causal_one_more);
    if (j >= key_length_of(arguments_, row.batch) + more_keys || !key_token(arguments_, row.batch, j)) return false;
    if (options_.causal && j - more_causal > p) return false;
    if (options_.window.left >= 0 && window_p - j - more_left > options_.window.left) return false;
    if (options_.window.right >= 0 && j - window_p - more_right > options_.window.right) return false;
    if (arguments_.mask) {
      const std::uint8_t byte = broadcast_element(*arguments_.mask, row, j);
      if (has(Mutation::mask_byte_one_only) ? byte != 1 : byte == 0) return false;
      if (has(Mutation::mask_padded_with_zero) && j >= arguments_.mask->extent(3)) return false;
    }
    if (arguments_.key_padding_mask && !has(Mutation::padding_scores_zero)) {
      const bool padding = (*arguments_.key_padding_mask)(row.batch, j) != 0;
      if (padding != has(Mutation::key_padding_mask_inverted)) return false;
    }
    return !arguments_.bias || bias(row, j) != -std::numeric_limits<Real>::infinity();
  }

  Real bias(RowIndex row, std::int64_t j) const {
    if (!arguments_.bias) return 0;
    if (has(Mutation::bias_only_of_first_head)) row.head = 0;
    return static_cast<Real>(broadcast_element(*arguments_.bias, row, j));
  }

  /// Where a key really is taken from.
  KeyToken<T> token_of(RowIndex row, std::int64_t j) const {
    KeyToken<T> key = *key_token(arguments_, row.batch, j);
    if (has(Mutation::ragged_keys_one_early) && !arguments_.key_starts.empty() && row.batch > 0) --key.token.position;
    if (has(Mutation::run_slot_ignored) && !arguments_.key_runs.empty()) key.token.position = j;
    return key;
  }

  Real scaled(RowIndex row, const KeyToken<T>& key) const {
    const std::int64_t head_dim = arguments_.query.extent(3);
    Token token = query_token(arguments_, row.batch, row.query);
    if (has(Mutation::ragged_queries_one_early) && !arguments_.query_starts.empty() && row.batch > 0) --token.position;
    Real dot = 0;
    for (std::int64_t d = 0; d < head_dim; ++d) {
      dot += static_cast<Real>(arguments_.query(token.batch, row.head, token.position, d)) *
             static_cast<Real>(key.key(key.token.batch, kv_head(row.head), key.token.position, d));
    }
    if (has(Mutation::scale_missing)) return dot;
    return dot * static_cast<Real>(options_.scale.value_or(1 / std::sqrt(static_cast<double>(head_dim))));
  }

  Real capped(Real score) const {
    const auto cap = static_cast<Real>(options_.softcap);
    if (!(cap > 0)) return score;
    return std::tanh(score / cap) * (has(Mutation::softcap_not_scaled_back) ? 1 : cap);
  }

  Real added(RowIndex row, std::int64_t j) const {
    Real sum = bias(row, j);
    if (has(Mutation::bias_scaled)) sum *= static_cast<Real>(options_.scale.value_or(0.5));
    if (arguments_.alibi_slopes.empty()) return sum;
    const auto slope = static_cast<Real>(arguments_.alibi_slopes[static_cast<std::size_t>(row.head)]);
    const auto distance = static_cast<Real>(j - position(row) + (has(Mutation::alibi_one_position_off) ? 1 : 0));
    return sum + (has(Mutation::alibi_sign) ? -slope : slope) * distance;
  }

  /// Scores of attended keys and what the `scores` output receives.
  void score(RowIndex row, ReferenceRow<Real>& result) const {
    constexpr Real infinity = std::numeric_limits<Real>::infinity();
    const auto keys = static_cast<std::size_t>(largest_key_length(arguments_));
    const bool biased = options_.score_stage == ScoreStage::biased;
    result.attended.assign(keys, 0);
    result.score.assign(keys, 0);
    result.stage.assign(keys, biased ? -infinity : 0);
    for (std::size_t at = 0; at < keys; ++at) {
      const std::int64_t j = index(at);
      if (!key_token(arguments_, row.batch, j)) continue;
      const Real product = scaled(row, token_of(row, j)), sum = added(row, j);
      Real& score = result.score[at];
      score = has(Mutation::softcap_after_bias) ? capped(product + sum) : capped(product) + sum;
      result.attended[at] = attended(row, j);
      const bool padding = arguments_.key_padding_mask && (*arguments_.key_padding_mask)(row.batch, j) != 0;
      if (has(Mutation::padding_scores_zero) && padding) score = 0;
      const bool stored = result.attended[at] || !has(Mutation::scores_without_excluded_keys);
      if (!biased && stored) result.stage[at] = options_.score_stage == ScoreStage::scaled ? product : capped(product);
      if (!result.attended[at] && has(Mutation::softcap_after_mask) && options_.softcap > 0) {
        result.attended[at] = 1;
        score = capped(-infinity);
      }
      if (!result.attended[at] && has(Mutation::finite_minus_infinity)) result.attended[at] = 1, score = -1e4;
      if (biased && result.attended[at]) result.stage[at] = score;
    }
  }

  ReferenceRow<Real> compute(RowIndex row) const {
    ReferenceRow<Real> result;
    score(row, result);
    const std::size_t keys = result.score.size();
    result.weight.assign(keys, 0);
    result.output.assign(static_cast<std::size_t>(value_dim_of(arguments_)), 0);
    const bool sinks = !arguments_.sinks.empty() && !has(Mutation::sink_ignored);
    if (sinks) result.sink = arguments_.sinks[static_cast<std::size_t>(row.head)];
    const bool dead = std::count(result.attended.begin(), result.attended.end(), char{1}) == 0;
    if (dead && has(Mutation::dead_row_uniform)) result.attended.assign(keys, 1), result.score.assign(keys, 0);
    result.maximum = result.sink;
    for (std::size_t j = 0; j < keys; ++j) {
      if (result.attended[j]) result.maximum = std::max(result.maximum, result.score[j]);
    }
    if (result.maximum == -std::numeric_limits<Real>::infinity()) return result;
    result.sink_weight = std::exp(result.sink - result.maximum);
    Real sum = 0;
    for (std::size_t j = 0; j < keys; ++j) {
      const Real distance = result.score[j] - result.maximum;
      const Real factor = has(Mutation::exp_off_by_1e_4) && distance < -1 ? Real(1.0001) : Real(1);
      if (result.attended[j]) sum += result.weight[j] = std::exp(distance) * factor;
    }
    const Real denominator = sum + result.sink_weight;
    result.logsumexp =
        result.maximum + std::log(has(Mutation::logsumexp_without_sink) && sum > 0 ? sum : denominator);
    for (Real& weight : result.weight) weight /= denominator;
    if (has(Mutation::sink_in_numerator) && !dead) result.weight[0] += result.sink_weight / denominator;
    for (std::size_t j = 0; j < keys; ++j) {
      if (!key_token(arguments_, row.batch, index(j))) continue;
      const KeyToken<T> key = token_of(row, index(j));
      for (std::size_t c = 0; c < result.output.size(); ++c) {
        const T value = key.value(key.token.batch, kv_head(row.head), key.token.position, index(c));
        if (result.weight[j] > 0) result.output[c] += result.weight[j] * static_cast<Real>(value);
      }
    }
    return result;
  }

  const AttentionArguments<T>& arguments_;
  const AttentionOptions& options_;
  const Mutation mutation_;
};

}  // namespace headwise::test
