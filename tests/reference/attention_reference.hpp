/// \file
/// Attention as the textbook writes it: the judge of the fast one. Plain loops, one row at a time, one sum after the
/// other; never linked into the library.
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
  std::vector<char> attended;   ///< [key_length]
  std::vector<Real> score;      ///< [key_length] s_j
  std::vector<Real> magnitude;  ///< [key_length] S_j = |scale| Σ_d |q_d| |k_jd|
  std::vector<Real> weight;     ///< [key_length] p_j
  std::vector<Real> output;     ///< [value_dim]  o_c
  Real maximum = -std::numeric_limits<Real>::infinity();    ///< m = max_j s_j; −∞ in a dead row
  Real logsumexp = -std::numeric_limits<Real>::infinity();  ///< log Σ_j exp(s_j); −∞ in a dead row
};

/// Keys of a batch entry that count.
template <class T>
std::int64_t key_length_of(const AttentionArguments<T>& arguments, std::int64_t batch) {
  return arguments.key_lengths.empty() ? arguments.key.extent(2)
                                       : arguments.key_lengths[static_cast<std::size_t>(batch)];
}

/// Position of a query among the keys.
template <class T>
std::int64_t position_of(const AttentionArguments<T>& arguments, const AttentionOptions& options, RowIndex row) {
  switch (options.query_position) {
    case QueryPosition::top_left: return row.query;
    case QueryPosition::bottom_right:
      return row.query + key_length_of(arguments, row.batch) - arguments.query.extent(2);
    case QueryPosition::given: return row.query + arguments.query_offsets[static_cast<std::size_t>(row.batch)];
  }
  return row.query;
}

/// Whether the row attends key j: everything that excludes keys.
template <class T>
bool attends(const AttentionArguments<T>& arguments, const AttentionOptions& options, RowIndex row, std::int64_t j) {
  if (j >= key_length_of(arguments, row.batch)) return false;
  return !options.causal || j <= position_of(arguments, options, row);
}

/// Key/value head of a query head.
template <class T>
std::int64_t kv_head_of(const AttentionArguments<T>& arguments, std::int64_t head) {
  return head / (arguments.query.extent(1) / arguments.key.extent(1));
}

/// One row of attention, computed in Real.
template <class Real, class T>
ReferenceRow<Real> reference_row(const AttentionArguments<T>& arguments, const AttentionOptions& options,
                                 RowIndex row) {
  const std::int64_t key_length = arguments.key.extent(2);
  const std::int64_t head_dim = arguments.query.extent(3);
  const std::int64_t value_dim = arguments.value.extent(3);
  const std::int64_t kv_head = kv_head_of(arguments, row.head);
  const std::int64_t query_stride = arguments.query.stride(3);
  const std::int64_t key_stride = arguments.key.stride(3);
  const std::int64_t value_stride = arguments.value.stride(3);
  const Real scale = options.scale ? static_cast<Real>(*options.scale) : 1 / std::sqrt(static_cast<Real>(head_dim));

  const auto keys = static_cast<std::size_t>(key_length);
  ReferenceRow<Real> result;
  result.attended.assign(keys, 0);
  result.score.assign(keys, 0);
  result.magnitude.assign(keys, 0);
  result.weight.assign(keys, 0);
  result.output.assign(static_cast<std::size_t>(value_dim), 0);

  // pass 1: scores of the attended keys, and their maximum
  const T* query = &arguments.query(row.batch, row.head, row.query, 0);
  for (std::int64_t j = 0; j < key_length; ++j) {
    if (!attends(arguments, options, row, j)) continue;
    const T* key = &arguments.key(row.batch, kv_head, j, 0);
    Real dot = 0, magnitude = 0;
    for (std::int64_t d = 0; d < head_dim; ++d) {
      const Real product = static_cast<Real>(query[d * query_stride]) * static_cast<Real>(key[d * key_stride]);
      dot += product;
      magnitude += std::abs(product);
    }
    const auto at = static_cast<std::size_t>(j);
    result.attended[at] = 1;
    result.score[at] = scale * dot;
    result.magnitude[at] = std::abs(scale) * magnitude;
    if (!(result.score[at] <= result.maximum)) result.maximum = result.score[at];
  }
  if (result.maximum == -std::numeric_limits<Real>::infinity()) return result;  // no key counts: a dead row

  // pass 2: exponentials and their sum
  Real sum = 0;
  for (std::size_t j = 0; j < keys; ++j) {
    if (!result.attended[j]) continue;
    result.weight[j] = std::exp(result.score[j] - result.maximum);
    sum += result.weight[j];
  }
  result.logsumexp = result.maximum + std::log(sum);

  // pass 3: weights; those of excluded keys stay 0, also in a row of NaN
  for (std::size_t j = 0; j < keys; ++j) {
    if (result.attended[j]) result.weight[j] /= sum;
  }

  // pass 4: weighted sum of the values; excluded keys may hold anything and are not touched
  for (std::int64_t j = 0; j < key_length; ++j) {
    const auto at = static_cast<std::size_t>(j);
    if (!result.attended[at]) continue;
    const T* value = &arguments.value(row.batch, kv_head, j, 0);
    for (std::int64_t c = 0; c < value_dim; ++c) {
      result.output[static_cast<std::size_t>(c)] += result.weight[at] * static_cast<Real>(value[c * value_stride]);
    }
  }
  return result;
}

}  // namespace headwise::test
