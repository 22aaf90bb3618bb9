// Exercise 3: two tokens by hand. With identity weights for queries and keys, each token attends mostly to itself.
#include <array>
#include <cstdio>
#include <exception>

#include "headwise/headwise.hpp"
#include "support/print.hpp"

int main() try {
  using headwise::TensorView;
  const std::array<double, 4> inputs{1, 0, 0, 1}, identity{1, 0, 0, 1}, weights_value{1, 2, 3, 4};
  const auto tokens = [](auto& storage) { return TensorView<double, 3>::contiguous(storage.data(), {1, 2, 2}); };
  const auto x = TensorView<const double, 3>::contiguous(inputs.data(), {1, 2, 2});
  const auto square = [](const auto& storage) {
    return headwise::Projection<double>{TensorView<const double, 2>::contiguous(storage.data(), {2, 2})};
  };

  std::array<double, 4> q, k, v, o, w;
  const auto query = tokens(q), key = tokens(k), value = tokens(v), output = tokens(o), weights = tokens(w);
  headwise::project(x, square(identity), query);
  headwise::project(x, square(identity), key);
  headwise::project(x, square(weights_value), value);

  headwise::attention<double>({.query = split_heads(query, 1),
                               .key = split_heads(key, 1),
                               .value = split_heads(value, 1),
                               .output = split_heads(output, 1),
                               .weights = split_heads(weights, 1)});
  examples::print("attention matrix", weights);
  examples::print("output", output);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
