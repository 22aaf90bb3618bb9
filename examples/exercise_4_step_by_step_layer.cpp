// Exercise 4: a full layer step by step: project, split heads, attend per head, combine and project. Then the same
// layer in one call, which gives the same result.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/print.hpp"

namespace {

using headwise::TensorView;
constexpr std::int64_t tokens = 7, features = 8, num_heads = 4;

/// A weight matrix of made-up numbers: cos(frequency · index + phase) / √8.
std::vector<double> wave(double frequency, double phase) {
  std::vector<double> values(features * features);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::cos(frequency * static_cast<double>(i) + phase) / std::sqrt(8.0);
  }
  return values;
}

headwise::Projection<double> projection(const std::vector<double>& weights) {
  return {.weight = TensorView<const double, 2>::contiguous(weights.data(), {features, features})};
}

TensorView<double, 3> matrix(std::vector<double>& storage) {
  storage.resize(tokens * features);
  return TensorView<double, 3>::contiguous(storage.data(), {1, tokens, features});
}

}  // namespace

int main() try {
  std::vector<double> inputs;
  for (int i = 0; i < tokens * features; ++i) inputs.push_back(std::sin(0.37 * i));
  const auto x = TensorView<const double, 3>::contiguous(inputs.data(), {1, tokens, features});
  const auto weights_query = wave(0.11, 0), weights_key = wave(0.22, 1), weights_value = wave(0.33, 2);
  const auto weights_output = wave(0.44, 3);

  std::vector<double> q, k, v, h, o, layer;
  const auto query = matrix(q), key = matrix(k), value = matrix(v), heads = matrix(h), output = matrix(o);
  headwise::project(x, projection(weights_query), query);
  headwise::project(x, projection(weights_key), key);
  headwise::project(x, projection(weights_value), value);

  // Splitting is a view, (tokens, 8) → (4 heads, tokens, 2): nothing is copied. Writing attention's output through the
  // same view concatenates the heads.
  headwise::attention<double>(split_heads(query, num_heads), split_heads(key, num_heads), split_heads(value, num_heads),
                              split_heads(heads, num_heads));
  examples::print("output", TensorView<const double, 4>(split_heads(heads, num_heads)));
  examples::print("heads side by side", heads);

  headwise::project(heads, projection(weights_output), output);
  examples::print("after the output projection", output);

  headwise::multi_head_attention<double>({.query_input = x, .output = matrix(layer)},
                                         {.query = projection(weights_query),
                                          .key = projection(weights_key),
                                          .value = projection(weights_value),
                                          .output = projection(weights_output)},
                                         num_heads);
  double difference = 0;
  for (std::size_t i = 0; i < o.size(); ++i) difference = std::max(difference, std::abs(o[i] - layer[i]));
  std::printf("largest difference between the steps and the layer in one call: %.1e\n", difference);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
