/// \file
/// How far a correct kernel may be from the reference: derived to first order, not fitted, so that a correct kernel
/// does not fail by luck.
///
/// With u the rounding unit, d = head_dim, n attended keys, B key blocks of at most t keys and the relative error of
/// weight j before normalisation
///
///     E_j = (d + 3) S_j + |s_j − m| + rho + 1
///           + (rho_tanh + 3) min(S_j, c)     with a softcap c
///           + (a + 1)(S_j + |b_j|)           with a bias (a = 1), ALiBi (a = 2: a product and a sum) or both (a = 3)
///
/// the allowed errors are, sums over k including the sink (a key with value 0 and E = 2 |sink| + |sink − m| + rho + 1)
///
///     output      u { Σ_j p_j |v_jc − o_c| E_j + (2t + 2B + 3) Σ_j p_j |v_jc| } + n·tiny·max|v|
///                 + (n + t + B + 1) tiny·u
///     weights     u p_j (E_j + Σ_k p_k E_k + t + B + 3) + tiny; averaged over heads also u (heads + 1) times the mean
///     logsumexp   u (Σ_k p_k E_k + t + B + 4(|lse| + |m| + 1))
///     scores      u ((d + 3) S_j, after softcap + (rho_tanh + 3) min(S_j, c), after bias + a (S_j + |b_j|))
///
/// to first order; tiny is the smallest normal number, and tiny·u half of the smallest of all, which each sum of tiny
/// numbers is off by. Where u·E_j is no longer small (a bias of −1e9 on every key), a weight is off by a factor of up to
/// exp(u E_j), and the allowed errors take that instead. Where even that means nothing (scores of −1e30), an output
/// still is an average of the attended values and a weight still lies in [0, 1]: the allowed errors never exceed those
/// spreads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "headwise/attention.hpp"
#include "reference/attention_reference.hpp"

namespace headwise::test {

/// What the bound needs to know of the kernels.
struct KernelErrorModel {
  static constexpr double key_block = 160;       ///< t: most keys summed one after another: block + diagonal steps
  static constexpr double usual_key_block = 96;  ///< keys of a usual block: n keys make ceil(n / 96) + 1 blocks
  static constexpr double exp_error = 4;         ///< rho: error of the kernels' exp in units of u
  static constexpr double tanh_error = 8;        ///< rho_tanh: likewise of their tanh
  static constexpr double margin = 1.1;          ///< for the second-order terms
};

/// Rounding unit: half the distance from 1 to the next number.
template <class T>
inline constexpr T rounding_unit = std::numeric_limits<T>::epsilon() / 2;

/// Allowed absolute errors of one row, margin included.
template <class Real>
struct RowBound {
  std::vector<Real> output;   ///< [value_dim]
  std::vector<Real> weights;  ///< [key_length]
  std::vector<Real> scores;   ///< [key_length]; empty when arguments.scores is not given
  Real logsumexp = 0;
};

/// Errors of the score of key j in units of u: scaled, after softcap, and of one rounding of it with bias and ALiBi.
template <class Real>
struct ScoreError {
  Real scaled = 0, softcapped = 0, rounding = 0;
};

template <class Real>
ScoreError<Real> score_error(const ReferenceRow<Real>& row, std::int64_t head_dim, double softcap, std::size_t j) {
  ScoreError<Real> error;
  error.scaled = (static_cast<Real>(head_dim) + 3) * row.magnitude[j];
  error.softcapped = error.scaled;
  if (softcap > 0) {
    error.softcapped += static_cast<Real>(KernelErrorModel::tanh_error + 3) *
                        std::min(row.magnitude[j], static_cast<Real>(softcap));
  }
  if (row.added_roundings > 0) error.rounding = row.magnitude[j] + row.added_magnitude[j];
  return error;
}

/// E_j of every key, in units of u; 0 for keys of weight 0.
template <class Real>
std::vector<Real> weight_errors(const ReferenceRow<Real>& row, std::int64_t head_dim, double softcap = 0) {
  std::vector<Real> errors(row.score.size(), 0);
  for (std::size_t j = 0; j < errors.size(); ++j) {
    if (!(row.weight[j] > 0)) continue;
    const ScoreError<Real> score = score_error(row, head_dim, softcap, j);
    errors[j] = score.softcapped + static_cast<Real>(row.added_roundings + 1) * score.rounding +
                std::abs(row.score[j] - row.maximum) + static_cast<Real>(KernelErrorModel::exp_error) + 1;
  }
  return errors;
}

/// What the errors of a row's weights and sums amount to, in units of u.
template <class Real>
struct RowErrors {
  std::vector<Real> weight;  ///< E_j
  Real sink = 0;             ///< E of the sink
  Real mean = 0;             ///< Σ_k p_k E_k
  Real sums = 0;             ///< t + B
};

template <class T, class Real>
RowErrors<Real> row_errors(const ReferenceRow<Real>& row, const AttentionArguments<T>& arguments,
                           const AttentionOptions& options) {
  RowErrors<Real> errors;
  errors.weight = weight_errors(row, arguments.query.extent(3), options.softcap);
  if (row.sink_weight > 0) {
    errors.sink = 2 * std::abs(row.sink) + std::abs(row.sink - row.maximum) +
                  static_cast<Real>(KernelErrorModel::exp_error) + 1;
    errors.mean = row.sink_weight * errors.sink;
  }
  for (std::size_t j = 0; j < errors.weight.size(); ++j) errors.mean += row.weight[j] * errors.weight[j];
  const Real blocks = std::ceil(static_cast<Real>(row.score.size()) / Real{KernelErrorModel::usual_key_block}) + 1 +
                      static_cast<Real>(arguments.key_runs.size());
  errors.sums = Real{KernelErrorModel::key_block} + blocks;
  return errors;
}

/// How much a weight may be off by a relative error of exp(`exponent`) − 1; never more than 1.
template <class Real>
Real weight_error(Real weight, Real exponent) {
  return std::min(weight * std::expm1(exponent), Real{1});
}

/// How much ln Σ_k exp(s_k) may be off when score k is off by u E_k: at most ln Σ_k p_k exp(u E_k).
template <class Real>
Real sum_error(const ReferenceRow<Real>& row, const RowErrors<Real>& errors, Real u) {
  Real largest = errors.sink;
  for (const Real error : errors.weight) largest = std::max(largest, error);
  if (u * largest > 700) return u * largest;
  Real growth = row.sink_weight * std::expm1(u * errors.sink);
  for (std::size_t j = 0; j < row.weight.size(); ++j) growth += row.weight[j] * std::expm1(u * errors.weight[j]);
  return std::log1p(growth);
}

/// Allowed errors of the row's output.
template <class T, class Real>
std::vector<Real> output_bound(const ReferenceRow<Real>& row, const RowErrors<Real>& errors,
                               const AttentionArguments<T>& arguments, RowIndex index) {
  const Real u = rounding_unit<T>, tiny = std::numeric_limits<T>::min();
  const auto attended = static_cast<Real>(std::count(row.attended.begin(), row.attended.end(), char{1}));
  const std::size_t features = row.output.size();
  const std::int64_t kv_head = kv_head_of(arguments, index.head);
  std::vector<Real> from_weights(features, 0), from_sums(features, 0), largest(features, 0), farthest(features, 0);
  // Sums of weights that are off by Σ_k p_k E_k divide the rest.
  const Real grown = std::exp(std::min(u * errors.mean, Real{1}));
  for (std::size_t c = 0; c < features && row.sink_weight > 0; ++c) {
    farthest[c] = std::abs(row.output[c]);
    from_weights[c] = grown * weight_error(row.sink_weight, u * errors.sink) * farthest[c];
  }
  for (std::size_t j = 0; j < row.score.size(); ++j) {
    if (!row.attended[j] || features == 0) continue;
    const auto key = key_token(arguments, index.batch, static_cast<std::int64_t>(j));
    const T* value = &key->value(key->token.batch, kv_head, key->token.position, 0);
    const Real error = grown * weight_error(row.weight[j], u * errors.weight[j]);
    for (std::size_t c = 0; c < features; ++c) {
      const auto v = static_cast<Real>(value[static_cast<std::int64_t>(c) * key->value.stride(3)]);
      const Real distance = std::abs(v - row.output[c]);
      from_weights[c] += error * distance;
      from_sums[c] += row.weight[j] * std::abs(v);
      largest[c] = std::max(largest[c], std::abs(v));
      farthest[c] = std::max(farthest[c], distance);
    }
  }
  std::vector<Real> bound(features);
  for (std::size_t c = 0; c < features; ++c) {
    const Real derived = from_weights[c] + u * (2 * errors.sums + 3) * from_sums[c];
    const Real spread = farthest[c] + u * (2 * errors.sums + 3) * largest[c];
    const Real underflow = attended * tiny * largest[c] + (errors.sums + attended + 1) * tiny * u;
    bound[c] = Real{KernelErrorModel::margin} * (std::min(derived, spread) + underflow);
  }
  return bound;
}

/// Allowed errors of the weights of a row.
template <class T, class Real>
std::vector<Real> weight_bounds(const ReferenceRow<Real>& row, const RowErrors<Real>& errors) {
  const Real u = rounding_unit<T>, tiny = std::numeric_limits<T>::min(), margin = KernelErrorModel::margin;
  std::vector<Real> bounds(row.score.size(), 0);
  for (std::size_t j = 0; j < bounds.size(); ++j) {
    if (!row.attended[j]) continue;
    const Real exponent = u * (errors.weight[j] + errors.mean + errors.sums + 3);
    bounds[j] = margin * (weight_error(row.weight[j], exponent) + tiny);
  }
  return bounds;
}

/// Allowed errors of a row whose reference is `row`.
template <class T, class Real>
RowBound<Real> error_bound(const ReferenceRow<Real>& row, const AttentionArguments<T>& arguments,
                           const AttentionOptions& options, RowIndex index) {
  const Real u = rounding_unit<T>, tiny = std::numeric_limits<T>::min(), margin = KernelErrorModel::margin;
  const RowErrors<Real> errors = row_errors(row, arguments, options);
  RowBound<Real> bound;
  bound.output = output_bound(row, errors, arguments, index);
  bound.weights = weight_bounds<T>(row, errors);
  bound.scores.assign(row.stage.size(), 0);
  for (std::size_t j = 0; j < row.stage.size(); ++j) {
    const ScoreError<Real> score = score_error(row, arguments.query.extent(3), options.softcap, j);
    Real at_stage = options.score_stage == ScoreStage::scaled ? score.scaled : score.softcapped;
    if (options.score_stage == ScoreStage::biased) at_stage += static_cast<Real>(row.added_roundings) * score.rounding;
    bound.scores[j] = margin * (u * at_stage + tiny);
  }
  const Real last_steps = u * (errors.sums + 4 * (std::abs(row.logsumexp) + std::abs(row.maximum) + 1));
  bound.logsumexp = margin * (sum_error(row, errors, u) + last_steps);
  // Kernels score in base 2: scores beyond the largest number there count as that.
  const Real largest = static_cast<Real>(std::numeric_limits<T>::max()) * std::numbers::ln2_v<Real>;
  if (std::isfinite(row.logsumexp)) bound.logsumexp += std::max(std::abs(row.logsumexp) - largest, Real{0});
  return bound;
}

}  // namespace headwise::test
