/// \file
/// Attention as the textbook writes it: the judge of the fast one. Plain loops, one row at a time, one sum after the
/// other, each option in one place; never linked into the library.
///
/// In double (float tensors) or long double (double tensors) it is the reference of every test. In the type of the
/// tensors themselves it is the plain sequential implementation whose error sets the scale for the library's.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "headwise/attention.hpp"
#include "reference/sequences.hpp"

namespace headwise::test {

/// The type the reference computes in for tensors of T.
template <class T>
struct ReferenceType;
template <>
struct ReferenceType<float> {
  using type = double;
};
template <>
struct ReferenceType<double> {
  using type = long double;
};
template <class T>
using ReferenceTypeOf = typename ReferenceType<T>::type;

/// One query row of the problem.
struct RowIndex {
  std::int64_t batch = 0, head = 0, query = 0;
};

/// Everything about one row, over all keys: also what the error bound is made of. Excluded keys have weight 0 and no
/// meaningful score.
template <class Real>
struct ReferenceRow {
  std::vector<char> attended;         ///< [key_length]
  std::vector<Real> score;            ///< [key_length] s_j
  std::vector<Real> magnitude;        ///< [key_length] S_j = |scale| Σ_d |q_d| |k_jd|
  std::vector<Real> added_magnitude;  ///< [key_length] |b_j|: of bias and ALiBi
  int added_roundings = 0;            ///< of adding them: a bias one, ALiBi two
  std::vector<Real> stage;            ///< [key_length] what arguments.scores receives; empty when it is not given
  std::vector<Real> weight;           ///< [key_length] p_j
  std::vector<Real> output;           ///< [value_dim]  o_c
  Real sink = -std::numeric_limits<Real>::infinity();       ///< −∞ = none
  Real sink_weight = 0;                                     ///< the sink's share of the denominator
  Real maximum = -std::numeric_limits<Real>::infinity();    ///< m: of scores and sink; −∞ in a dead row without a sink
  Real logsumexp = -std::numeric_limits<Real>::infinity();  ///< ln of the denominator
};

/// Key/value head of a query head.
template <class T>
std::int64_t kv_head_of(const AttentionArguments<T>& arguments, std::int64_t head) {
  return head / (arguments.query.extent(1) / num_kv_heads_of(arguments));
}

/// Position of a query among the keys.
template <class T>
std::int64_t position_of(const AttentionArguments<T>& arguments, const AttentionOptions& options, RowIndex row) {
  switch (options.query_position) {
    case QueryPosition::top_left: return row.query;
    case QueryPosition::bottom_right:
      return row.query + key_length_of(arguments, row.batch) - query_length_of(arguments, row.batch);
    case QueryPosition::given: return row.query + entry(arguments.query_offsets, row.batch);
  }
  return row.query;
}

/// Element of a scores-shaped input that broadcasts along axes of extent 1.
template <class T>
T broadcast_element(const TensorView<T, 4>& view, RowIndex row, std::int64_t j) {
  const auto index = [&](int axis, std::int64_t wanted) { return view.extent(axis) == 1 ? 0 : wanted; };
  return view(index(0, row.batch), index(1, row.head), index(2, row.query), index(3, j));
}

/// Whether the row attends key j: everything that excludes keys.
template <class T>
bool attends(const AttentionArguments<T>& arguments, const AttentionOptions& options, RowIndex row, std::int64_t j) {
  if (j >= key_length_of(arguments, row.batch) || !key_token(arguments, row.batch, j)) return false;
  const std::int64_t position = position_of(arguments, options, row);
  if (options.causal && j > position) return false;
  if (options.window.left >= 0 && position - j > options.window.left) return false;
  if (options.window.right >= 0 && j - position > options.window.right) return false;
  if (arguments.mask && broadcast_element(*arguments.mask, row, j) == 0) return false;
  if (arguments.key_padding_mask && (*arguments.key_padding_mask)(row.batch, j) != 0) return false;
  return !arguments.bias || broadcast_element(*arguments.bias, row, j) != -std::numeric_limits<T>::infinity();
}

/// A number and the sum of the magnitudes of the terms it is made of.
template <class Real>
struct Term {
  Real value = 0, magnitude = 0;
};

/// scale · q·k
template <class Real, class T>
Term<Real> scaled_score(const AttentionArguments<T>& arguments, const AttentionOptions& options, RowIndex row,
                        const KeyToken<T>& key) {
  const std::int64_t head_dim = arguments.query.extent(3), kv_head = kv_head_of(arguments, row.head);
  const Real scale = options.scale ? static_cast<Real>(*options.scale) : 1 / std::sqrt(static_cast<Real>(head_dim));
  const auto [query_batch, query_position] = query_token(arguments, row.batch, row.query);
  const T* q = &arguments.query(query_batch, row.head, query_position, 0);
  const T* k = &key.key(key.token.batch, kv_head, key.token.position, 0);
  Term<Real> dot;
  for (std::int64_t d = 0; d < head_dim; ++d) {
    const Real product =
        static_cast<Real>(q[d * arguments.query.stride(3)]) * static_cast<Real>(k[d * key.key.stride(3)]);
    dot.value += product;
    dot.magnitude += std::abs(product);
  }
  return {scale * dot.value, std::abs(scale) * dot.magnitude};
}

/// c · tanh(s / c)
template <class Real>
Real softcapped(const AttentionOptions& options, Real score) {
  const auto cap = static_cast<Real>(options.softcap);
  return cap > 0 ? cap * std::tanh(score / cap) : score;
}

/// bias_j + slope · (j − p)
template <class Real, class T>
Term<Real> added_to_score(const AttentionArguments<T>& arguments, const AttentionOptions& options, RowIndex row,
                          std::int64_t j) {
  Real bias = 0, alibi = 0;
  if (arguments.bias) bias = static_cast<Real>(broadcast_element(*arguments.bias, row, j));
  if (!arguments.alibi_slopes.empty()) {
    const std::int64_t distance = j - position_of(arguments, options, row);
    alibi = static_cast<Real>(arguments.alibi_slopes[static_cast<std::size_t>(row.head)]) * static_cast<Real>(distance);
  }
  return {bias + alibi, std::abs(bias) + std::abs(alibi)};
}

/// Pass 1: scores of the attended keys, and the maximum of them and the sink. The `scores` output also has those of
/// excluded keys; where there is no key it holds 0, or −∞ once masked.
template <class Real, class T>
void compute_scores(const AttentionArguments<T>& arguments, const AttentionOptions& options, RowIndex row,
                    ReferenceRow<Real>& result) {
  constexpr Real minus_infinity = -std::numeric_limits<Real>::infinity();
  const auto keys = static_cast<std::size_t>(largest_key_length(arguments));
  result.attended.assign(keys, 0);
  result.score.assign(keys, 0);
  result.magnitude.assign(keys, 0);
  result.added_magnitude.assign(keys, 0);
  result.added_roundings = (arguments.bias ? 1 : 0) + (arguments.alibi_slopes.empty() ? 0 : 2);
  if (arguments.scores) result.stage.assign(keys, options.score_stage == ScoreStage::biased ? minus_infinity : 0);
  if (!arguments.sinks.empty()) result.sink = arguments.sinks[static_cast<std::size_t>(row.head)];
  result.maximum = result.sink;
  for (std::size_t at = 0; at < keys; ++at) {
    const auto j = static_cast<std::int64_t>(at);
    result.attended[at] = attends(arguments, options, row, j);
    if (!result.attended[at] && !arguments.scores) continue;
    const auto key = key_token(arguments, row.batch, j);
    if (!key) continue;
    const Term<Real> scaled = scaled_score<Real>(arguments, options, row, *key);
    const Real capped = softcapped(options, scaled.value);
    result.magnitude[at] = scaled.magnitude;
    if (arguments.scores && options.score_stage == ScoreStage::scaled) result.stage[at] = scaled.value;
    if (arguments.scores && options.score_stage == ScoreStage::softcapped) result.stage[at] = capped;
    if (!result.attended[at]) continue;
    const Term<Real> added = added_to_score<Real>(arguments, options, row, j);
    result.score[at] = capped + added.value;
    result.added_magnitude[at] = added.magnitude;
    if (arguments.scores && options.score_stage == ScoreStage::biased) result.stage[at] = result.score[at];
    // A maximum of NaN stays one: a row that uses NaN is no dead row.
    if (!(result.score[at] <= result.maximum || std::isnan(result.maximum))) result.maximum = result.score[at];
  }
}

/// One row of attention, computed in Real.
template <class Real, class T>
ReferenceRow<Real> reference_row(const AttentionArguments<T>& arguments, const AttentionOptions& options,
                                 RowIndex row) {
  ReferenceRow<Real> result;
  compute_scores(arguments, options, row, result);
  const std::size_t keys = result.score.size();
  const std::int64_t value_dim = value_dim_of(arguments), kv_head = kv_head_of(arguments, row.head);
  result.weight.assign(keys, 0);
  result.output.assign(static_cast<std::size_t>(value_dim), 0);
  if (result.maximum == -std::numeric_limits<Real>::infinity()) return result;  // no key counts: a dead row

  // pass 2: exponentials and their sum; the sink joins only this sum
  result.sink_weight = std::exp(result.sink - result.maximum);
  Real sum = result.sink_weight;
  for (std::size_t j = 0; j < keys; ++j) {
    if (!result.attended[j]) continue;
    result.weight[j] = std::exp(result.score[j] - result.maximum);
    sum += result.weight[j];
  }
  result.logsumexp = result.maximum + std::log(sum);

  // pass 3: weights; those of excluded keys stay 0, also in a row of NaN
  result.sink_weight /= sum;
  for (std::size_t j = 0; j < keys; ++j) {
    if (result.attended[j]) result.weight[j] /= sum;
  }

  // pass 4: weighted sum of the values; excluded keys may hold anything and are not touched
  for (std::size_t j = 0; j < keys && value_dim > 0; ++j) {
    if (!result.attended[j]) continue;
    const auto key = key_token(arguments, row.batch, static_cast<std::int64_t>(j));
    const T* value = &key->value(key->token.batch, kv_head, key->token.position, 0);
    for (std::int64_t c = 0; c < value_dim; ++c) {
      result.output[static_cast<std::size_t>(c)] +=
          result.weight[j] * static_cast<Real>(value[c * key->value.stride(3)]);
    }
  }
  return result;
}

}  // namespace headwise::test
