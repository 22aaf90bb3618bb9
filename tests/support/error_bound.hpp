/// \file
/// How far a correct kernel may be from the reference: derived to first order, not fitted, so that a correct kernel
/// does not fail by luck.
///
/// With u the rounding unit, d = head_dim, n attended keys, B key blocks of at most t keys and the relative error of
/// weight j before normalisation
///
///     E_j = (d + 3)(S_j + |m_ref|) + |s_j − m| + rho + 1
///
/// the allowed errors are
///
///     output      u { Σ_j p_j |v_jc − o_c| E_j + (2t + 2B + 3) Σ_j p_j |v_jc| } + n·tiny·max|v|
///     weights     u p_j (E_j + Σ_k p_k E_k + t + B + 3) + tiny
///     logsumexp   u (Σ_k p_k E_k + t + B + 4(|lse| + |m| + 1))
///
/// First-order bounds mean nothing where u·E_j reaches 1 (scores of −1e30). There an output still is an average of the
/// attended values and a weight still lies in [0, 1]: the allowed errors never exceed those spreads.
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
  static constexpr double folded_reference_limit = 32 * std::numbers::ln2;  ///< largest |m_ref| folded into scores
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
  Real logsumexp = 0;
};

/// E_j of every key, in units of u; 0 for keys of weight 0.
template <class Real>
std::vector<Real> weight_errors(const ReferenceRow<Real>& row, std::int64_t head_dim) {
  Real largest_score = 0;
  for (std::size_t j = 0; j < row.score.size(); ++j) {
    if (row.weight[j] > 0) largest_score = std::max(largest_score, std::abs(row.score[j]));
  }
  // A running maximum lies among the scores, rounded up to the next power of two.
  const Real reference = std::min(static_cast<Real>(KernelErrorModel::folded_reference_limit),
                                  largest_score + std::numbers::ln2_v<Real>);
  std::vector<Real> errors(row.score.size(), 0);
  for (std::size_t j = 0; j < errors.size(); ++j) {
    if (!(row.weight[j] > 0)) continue;
    errors[j] = (static_cast<Real>(head_dim) + 3) * (row.magnitude[j] + reference) +
                std::abs(row.score[j] - row.maximum) + static_cast<Real>(KernelErrorModel::exp_error) + 1;
  }
  return errors;
}

/// Allowed errors of a row whose reference is `row`.
template <class T, class Real>
RowBound<Real> error_bound(const ReferenceRow<Real>& row, const AttentionArguments<T>& arguments, RowIndex index) {
  const Real u = rounding_unit<T>;
  const Real tiny = std::numeric_limits<T>::min();
  const auto margin = static_cast<Real>(KernelErrorModel::margin);
  const auto attended = static_cast<Real>(std::count(row.attended.begin(), row.attended.end(), char{1}));
  const Real blocks = std::ceil(attended / static_cast<Real>(KernelErrorModel::usual_key_block)) + 1;
  const Real sum_error = static_cast<Real>(KernelErrorModel::key_block) + blocks;
  const std::vector<Real> errors = weight_errors(row, arguments.query.extent(3));

  const std::size_t keys = row.score.size();
  const std::size_t features = row.output.size();
  Real mean_error = 0;
  for (std::size_t j = 0; j < keys; ++j) mean_error += row.weight[j] * errors[j];

  RowBound<Real> bound;
  bound.weights.assign(keys, 0);
  for (std::size_t j = 0; j < keys; ++j) {
    if (!row.attended[j]) continue;
    const Real first_order = u * row.weight[j] * (errors[j] + mean_error + sum_error + 3);
    bound.weights[j] = margin * (std::min(first_order, Real{1}) + tiny);
  }
  bound.logsumexp = margin * u * (mean_error + sum_error + 4 * (std::abs(row.logsumexp) + std::abs(row.maximum) + 1));

  std::vector<Real> from_weights(features, 0), from_sums(features, 0), largest(features, 0), farthest(features, 0);
  const std::int64_t kv_head = kv_head_of(arguments, index.head);
  const std::int64_t stride = arguments.value.stride(3);
  for (std::size_t j = 0; j < keys; ++j) {
    if (!row.attended[j] || features == 0) continue;
    const T* value = &arguments.value(index.batch, kv_head, static_cast<std::int64_t>(j), 0);
    for (std::size_t c = 0; c < features; ++c) {
      const auto v = static_cast<Real>(value[static_cast<std::int64_t>(c) * stride]);
      const Real distance = std::abs(v - row.output[c]);
      from_weights[c] += row.weight[j] * errors[j] * distance;
      from_sums[c] += row.weight[j] * std::abs(v);
      largest[c] = std::max(largest[c], std::abs(v));
      farthest[c] = std::max(farthest[c], distance);
    }
  }
  bound.output.resize(features);
  for (std::size_t c = 0; c < features; ++c) {
    const Real first_order = u * (from_weights[c] + (2 * sum_error + 3) * from_sums[c]);
    const Real spread = farthest[c] + u * (2 * sum_error + 3) * largest[c];
    bound.output[c] = margin * (std::min(first_order, spread) + attended * tiny * largest[c]);
  }
  return bound;
}

}  // namespace headwise::test
