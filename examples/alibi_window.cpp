// ALiBi and a sliding window: where every token may look, and how its attention fades with distance. All scores are
// equal here, so that the weights show nothing but position.
#include <array>
#include <cstdint>
#include <exception>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/print.hpp"

int main() try {
  using headwise::TensorView;
  constexpr std::int64_t num_heads = 2, tokens = 8, dim = 4;
  const std::vector<double> zeros(num_heads * tokens * dim, 0.0);
  const auto qkv = TensorView<const double, 4>::contiguous(zeros.data(), {1, num_heads, tokens, dim});
  std::vector<double> output_storage(zeros.size()), weight_storage(num_heads * tokens * tokens);
  const auto output = TensorView<double, 4>::contiguous(output_storage.data(), {1, num_heads, tokens, dim});
  const auto weights = TensorView<double, 4>::contiguous(weight_storage.data(), {1, num_heads, tokens, tokens});

  // The slopes of the paper for two heads: 2^-4 and 2^-8.
  const std::array<double, num_heads> slopes{1.0 / 16, 1.0 / 256};
  headwise::AttentionArguments<double> arguments{
      .query = qkv, .key = qkv, .value = qkv, .output = output, .alibi_slopes = slopes, .weights = weights};

  headwise::attention(arguments, {.causal = true});
  examples::print("causal, ALiBi", TensorView<const double, 4>(weights));
  headwise::attention(arguments, {.causal = true, .window = {.left = 3}});
  examples::print("causal, ALiBi, three tokens back", TensorView<const double, 4>(weights));
  arguments.alibi_slopes = {};
  headwise::attention(arguments, {.window = {.left = 2, .right = 1}});
  examples::print("two tokens back, one ahead", TensorView<const double, 4>(weights));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
