#include "drivers/merge.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "platform/task_environment.hpp"

namespace headwise::detail {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Features of one row.
template <class T>
struct Row {
  T* first;
  std::int64_t stride;
};

/// A part of a row that has keys.
template <class T>
struct WeightedRow {
  Row<const T> output;
  double logsumexp;
  double weight = 0;  ///< exp(logsumexp − L)
};

/// Sets the weights, which sum to 1, and returns L. \pre at least one row
template <class T>
double normalise(std::vector<WeightedRow<T>>& rows) {
  double maximum = -infinity;
  for (const WeightedRow<T>& row : rows) {
    if (row.logsumexp > maximum || std::isnan(row.logsumexp)) maximum = row.logsumexp;
  }
  double sum = 0;
  for (WeightedRow<T>& row : rows) sum += row.weight = std::exp(row.logsumexp - maximum);
  for (WeightedRow<T>& row : rows) row.weight /= sum;
  const double rest = std::log(sum);
  return rest == 0 ? maximum : maximum + rest;  // −0 stays −0
}

/// output = Σ weight · row; +0 without rows
template <class T>
void add_weighted(const std::vector<WeightedRow<T>>& rows, std::int64_t features, Row<T> output) {
  constexpr std::int64_t block = 64;
  // −0 is the zero that keeps the sign of what is added.
  const double zero = rows.empty() ? 0.0 : -0.0;
  for (std::int64_t begin = 0; begin < features; begin += block) {
    const std::int64_t count = std::min(block, features - begin);
    std::array<double, block> sums;
    sums.fill(zero);
    for (const WeightedRow<T>& row : rows) {
      const T* part = row.output.first + begin * row.output.stride;
      for (std::int64_t i = 0; i < count; ++i) {
        sums[static_cast<std::size_t>(i)] += row.weight * static_cast<double>(part[i * row.output.stride]);
      }
    }
    for (std::int64_t i = 0; i < count; ++i) {
      output.first[(begin + i) * output.stride] = static_cast<T>(sums[static_cast<std::size_t>(i)]);
    }
  }
}

}  // namespace

template <class T>
void run_merge(std::span<const PartialAttention<T>> parts, const TensorView<T, 4>& output,
               const std::optional<TensorView<T, 3>>& logsumexp) {
  const auto [batch, num_heads, query_length, features] = output.extents;
  // Without features a pointer may be null.
  const auto row_of = [has_features = features > 0]<class U>(const TensorView<U, 4>& view, std::int64_t b,
                                                             std::int64_t h, std::int64_t i) {
    return has_features ? Row<U>{&view(b, h, i, 0), view.stride(3)} : Row<U>{};
  };
  std::vector<WeightedRow<T>> rows;
  rows.reserve(parts.size());
  const TaskEnvironment environment;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < num_heads; ++h) {
      for (std::int64_t i = 0; i < query_length; ++i) {
        rows.clear();
        for (const PartialAttention<T>& part : parts) {
          const auto part_logsumexp = static_cast<double>(part.logsumexp(b, h, i));
          if (part_logsumexp == -infinity) continue;
          rows.push_back({row_of(part.output, b, h, i), part_logsumexp});
        }
        const double merged = rows.empty() ? -infinity : normalise(rows);
        if (logsumexp) (*logsumexp)(b, h, i) = static_cast<T>(merged);
        add_weighted(rows, features, row_of(output, b, h, i));
      }
    }
  }
}

template void run_merge(std::span<const PartialAttention<float>>, const TensorView<float, 4>&,
                        const std::optional<TensorView<float, 3>>&);
template void run_merge(std::span<const PartialAttention<double>>, const TensorView<double, 4>&,
                        const std::optional<TensorView<double, 3>>&);

}  // namespace headwise::detail
