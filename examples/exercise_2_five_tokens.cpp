// Exercise 2: self-attention of five tokens that returns the attention matrix too, with one head and with three, and
// what happens when two tokens change places: attention without positions is permutation-equivariant.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/five_tokens.hpp"
#include "support/print.hpp"

namespace {

using headwise::TensorView;
constexpr std::int64_t tokens = 5, features = 6;

struct Result {
  std::vector<double> output, weights;
  std::int64_t num_heads;

  TensorView<const double, 3> rows() const {
    return TensorView<const double, 3>::contiguous(output.data(), {1, tokens, features});
  }
  TensorView<const double, 4> matrices() const {
    return TensorView<const double, 4>::contiguous(weights.data(), {1, num_heads, tokens, tokens});
  }
};

Result self_attention(const std::vector<double>& x, std::int64_t num_heads) {
  const auto projection = [](const std::vector<double>& weights) {
    return headwise::Projection<double>{TensorView<const double, 2>::contiguous(weights.data(), {features, features})};
  };
  const std::int64_t pairs = num_heads * tokens * tokens;
  Result result{std::vector<double>(tokens * features), std::vector<double>(static_cast<std::size_t>(pairs)),
                num_heads};
  headwise::multi_head_attention<double>(
      {.query_input = TensorView<const double, 3>::contiguous(x.data(), {1, tokens, features}),
       .output = TensorView<double, 3>::contiguous(result.output.data(), {1, tokens, features}),
       .weights = TensorView<double, 4>::contiguous(result.weights.data(), {1, num_heads, tokens, tokens})},
      {.query = projection(examples::five_tokens::weights_query),
       .key = projection(examples::five_tokens::weights_key),
       .value = projection(examples::five_tokens::weights_value)},
      num_heads);
  return result;
}

}  // namespace

int main() try {
  std::vector<double> x = examples::five_tokens::x;
  const Result one_head = self_attention(x, 1);
  examples::print("output of one head", one_head.rows());
  examples::print("attention matrix", one_head.matrices());

  const Result before = self_attention(x, 3);
  examples::print("output of three heads", before.rows());
  examples::print("attention matrix", before.matrices());
  std::printf("The outputs differ: each head scales by its own sqrt(2) and normalises its own rows.\n\n");

  std::swap_ranges(x.begin() + 2 * features, x.begin() + 3 * features, x.begin() + 3 * features);
  const Result after = self_attention(x, 3);
  examples::print("output with tokens 2 and 3 swapped", after.rows());
  examples::print("attention matrix with tokens 2 and 3 swapped", after.matrices());
  double row_change = 0, weight_change = 0;
  const auto swapped = [](std::int64_t token) { return token == 2 ? 3 : token == 3 ? 2 : token; };
  for (std::int64_t i = 0; i < tokens; ++i) {
    for (std::int64_t c = 0; c < features; ++c) {
      row_change = std::max(row_change, std::abs(after.rows()(0, swapped(i), c) - before.rows()(0, i, c)));
    }
    for (std::int64_t h = 0; h < 3; ++h) {
      for (std::int64_t j = 0; j < tokens; ++j) {
        const double change = after.matrices()(0, h, swapped(i), swapped(j)) - before.matrices()(0, h, i, j);
        weight_change = std::max(weight_change, std::abs(change));
      }
    }
  }
  std::printf("Output rows 2 and 3 are swapped, nothing else: largest other change %.1e.\n", row_change);
  std::printf("So are rows and columns 2 and 3 of each matrix: largest other change %.1e.\n", weight_change);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
