// T5's relative position bias: a learned number per head and bucket of distances. A table with one entry per distance
// is all that is stored; attention reads it as if it were a bias for every query and key.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/print.hpp"

namespace {

/// T5's bucket of a distance (key position − query position), both directions, 32 buckets up to distance 128.
std::int64_t bucket_of(std::int64_t distance) {
  constexpr std::int64_t half = 16, exact = half / 2;
  constexpr double largest_distance = 128;
  const std::int64_t side = distance > 0 ? half : 0, steps = std::abs(distance);
  if (steps < exact) return side + steps;
  const double log_share = std::log(static_cast<double>(steps) / exact) / std::log(largest_distance / exact);
  return side + std::min(exact + static_cast<std::int64_t>(log_share * (half - exact)), half - 1);
}

}  // namespace

int main() try {
  using headwise::TensorView;
  constexpr std::int64_t num_heads = 2, queries = 6, keys = 8, dim = 4;
  const std::vector<double> zeros(num_heads * keys * dim, 0.0);
  const auto zeros_of = [&](std::int64_t tokens) {
    return TensorView<const double, 4>::contiguous(zeros.data(), {1, num_heads, tokens, dim});
  };

  // What a model would have learned: here, head 0 likes its neighbourhood and head 1 what comes later.
  std::vector<double> table_storage(num_heads * (queries + keys - 1));
  const auto table = TensorView<double, 2>::contiguous(table_storage.data(), {num_heads, queries + keys - 1});
  for (std::int64_t i = 0; i < table.extent(1); ++i) {
    const std::int64_t distance = i - (queries - 1), bucket = bucket_of(distance);
    table(0, i) = -0.5 * static_cast<double>(bucket % 16);
    table(1, i) = bucket >= 16 ? 1 : 0;
  }

  std::vector<double> output_storage(num_heads * queries * dim), weight_storage(num_heads * queries * keys);
  const auto weights = TensorView<double, 4>::contiguous(weight_storage.data(), {1, num_heads, queries, keys});
  headwise::attention<double>(
      {.query = zeros_of(queries),
       .key = zeros_of(keys),
       .value = zeros_of(keys),
       .output = TensorView<double, 4>::contiguous(output_storage.data(), {1, num_heads, queries, dim}),
       .bias = headwise::relative_bias_view<double>(table, queries, keys),
       .weights = weights});
  examples::print("weights", TensorView<const double, 4>(weights));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
