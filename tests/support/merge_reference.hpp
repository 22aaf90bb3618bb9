/// \file
/// Merging partial results as the formula says, row by row, and how far a correct merge may be from it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "headwise/merge.hpp"
#include "reference/attention_reference.hpp"
#include "support/error_bound.hpp"

namespace headwise::test {

/// A merged row and its allowed errors, those of merging and a rounding for each part and sum.
template <class Real>
struct MergedRow {
  Real logsumexp = 0, logsumexp_error = 0;
  std::vector<Real> output, output_error;
};

/// The formula in Real. \pre some part has keys, and none is NaN or +∞
template <class Real, class T>
MergedRow<Real> reference_merge(std::span<const PartialAttention<T>> parts, RowIndex row) {
  std::vector<Real> weights;
  Real maximum = -std::numeric_limits<Real>::infinity(), largest = 0, sum = 0;
  for (const PartialAttention<T>& part : parts) {
    const Real logsumexp = part.logsumexp(row.batch, row.head, row.query);
    maximum = std::max(maximum, logsumexp);
    if (std::isfinite(logsumexp)) largest = std::max(largest, std::abs(logsumexp));
  }
  for (const PartialAttention<T>& part : parts) {
    weights.push_back(std::exp(static_cast<Real>(part.logsumexp(row.batch, row.head, row.query)) - maximum));
    sum += weights.back();
  }
  const Real u = rounding_unit<T>, count = static_cast<Real>(parts.size());
  MergedRow<Real> result;
  result.logsumexp = maximum + std::log(sum);
  result.logsumexp_error = u * (std::abs(result.logsumexp) + 2 * largest + count + 4);
  for (std::int64_t c = 0; c < parts[0].output.extent(3); ++c) {
    const auto part = [&](std::size_t p) {
      return static_cast<Real>(parts[p].output(row.batch, row.head, row.query, c));
    };
    Real output = 0, magnitude = 0, farthest = 0;
    for (std::size_t p = 0; p < parts.size(); ++p) output += weights[p] / sum * part(p);
    for (std::size_t p = 0; p < parts.size(); ++p) {
      magnitude += weights[p] / sum * std::abs(part(p));
      farthest = std::max(farthest, std::abs(part(p) - output));
    }
    const Real allowed = u * ((2 * largest + static_cast<Real>(KernelErrorModel::exp_error) + 4) * farthest +
                              (2 * count + 3) * magnitude);
    result.output.push_back(output);
    result.output_error.push_back(static_cast<Real>(KernelErrorModel::margin) * allowed +
                                  std::numeric_limits<T>::min());
  }
  return result;
}

}  // namespace headwise::test
