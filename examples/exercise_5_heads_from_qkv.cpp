// Exercise 5: multi-head attention of queries, keys and values that are already projected (here: by the identity), and
// of the same matrices times 1000: the softmax survives scores of twenty million.
#include <cstdio>
#include <exception>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/print.hpp"

namespace {

using headwise::TensorView;
constexpr std::int64_t tokens = 2, features = 4, num_heads = 2;

void multi_head_attention(const std::vector<double>& qkv) {
  const auto x = TensorView<const double, 3>::contiguous(qkv.data(), {1, tokens, features});
  std::vector<double> output_storage(tokens * features), weight_storage(num_heads * tokens * tokens);
  const auto output = TensorView<double, 3>::contiguous(output_storage.data(), {1, tokens, features});
  const auto weights = TensorView<double, 4>::contiguous(weight_storage.data(), {1, num_heads, tokens, tokens});
  headwise::attention<double>({.query = split_heads(x, num_heads),
                               .key = split_heads(x, num_heads),
                               .value = split_heads(x, num_heads),
                               .output = split_heads(output, num_heads),
                               .weights = weights});
  examples::print("Q = K = V", x);
  examples::print("attention matrix", TensorView<const double, 4>(weights));
  examples::print("output", output);
}

}  // namespace

int main() try {
  multi_head_attention({1, 2, 3, 4, 5, 6, 7, 8});
  multi_head_attention({1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000});
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
