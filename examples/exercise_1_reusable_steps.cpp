// Exercise 1: the reusable steps. Queries, keys and values from inputs and three weight matrices; scaled dot-product
// attention with a scale of one's own; multi-head self-attention from inputs, weights and a number of heads.
#include <cstdio>
#include <exception>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/five_tokens.hpp"
#include "support/print.hpp"

namespace {

using headwise::Projection;
using headwise::TensorView;
constexpr std::int64_t tokens = 5, features = 6;

TensorView<double, 3> matrix(std::vector<double>& storage) {
  storage.resize(tokens * features);
  return TensorView<double, 3>::contiguous(storage.data(), {1, tokens, features});
}

Projection<double> weights(const std::vector<double>& storage) {
  return {.weight = TensorView<const double, 2>::contiguous(storage.data(), {features, features})};
}

}  // namespace

int main() try {
  const auto x = TensorView<const double, 3>::contiguous(examples::five_tokens::x.data(), {1, tokens, features});
  const Projection<double> weights_query = weights(examples::five_tokens::weights_query);
  const Projection<double> weights_key = weights(examples::five_tokens::weights_key);
  const Projection<double> weights_value = weights(examples::five_tokens::weights_value);

  // Step 1: Q = x·Wq, K = x·Wk, V = x·Wv.
  std::vector<double> q, k, v, o;
  const auto query = matrix(q), key = matrix(k), value = matrix(v), output = matrix(o);
  headwise::project(x, weights_query, query);
  headwise::project(x, weights_key, key);
  headwise::project(x, weights_value, value);
  examples::print("Q = x Wq", query);
  examples::print("K = x Wk", key);
  examples::print("V = x Wv", value);

  // Step 2: softmax(0.5 · Q·Kᵀ)·V. One head is the whole matrix.
  headwise::attention<double>(split_heads(query, 1), split_heads(key, 1), split_heads(value, 1), split_heads(output, 1),
                              {.scale = 0.5});
  examples::print("attention with scale 0.5", output);

  // Step 3: everything in one call, three heads, no output projection.
  headwise::multi_head_attention<double>({.query_input = x, .output = output},
                                         {.query = weights_query, .key = weights_key, .value = weights_value}, 3);
  examples::print("multi-head self-attention, 3 heads", output);

  // The head count must divide the model size: anything else is a clear error.
  try {
    headwise::multi_head_attention<double>({.query_input = x, .output = output},
                                           {.query = weights_query, .key = weights_key, .value = weights_value}, 4);
  } catch (const std::invalid_argument& error) {
    std::printf("4 heads: %s\n", error.what());
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
