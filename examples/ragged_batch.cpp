// Three sequences of different lengths, one after the other in memory, attended in one call without any padding. Each
// gets the bits that it gets alone.
#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/numbers.hpp"

int main() try {
  using headwise::TensorView;
  constexpr std::int64_t num_heads = 2, dim = 8, tokens = 14, longest = 7;
  const std::array<std::int64_t, 4> starts{0, 5, 7, 14};  // sequences of 5, 2 and 7 tokens
  const auto q = examples::numbers(tokens * num_heads * dim, 1), k = examples::numbers(tokens * num_heads * dim, 2),
             v = examples::numbers(tokens * num_heads * dim, 3);
  const auto packed = [](const std::vector<float>& storage) {
    return ragged_view(TensorView<const float, 3>::contiguous(storage.data(), {tokens, num_heads, dim}));
  };
  std::vector<float> together(q.size()), alone(q.size());
  const auto view_of = [](std::vector<float>& storage) {
    return ragged_view(TensorView<float, 3>::contiguous(storage.data(), {tokens, num_heads, dim}));
  };

  const headwise::AttentionOptions options{.causal = true};
  const headwise::AttentionPlan<float> plan({.batch = 3,
                                             .num_heads = num_heads,
                                             .num_kv_heads = num_heads,
                                             .query_length = longest,
                                             .key_length = longest,
                                             .head_dim = dim,
                                             .value_dim = dim},
                                            options);
  plan.run({.query = packed(q),
            .key = packed(k),
            .value = packed(v),
            .output = view_of(together),
            .query_starts = starts,
            .key_starts = starts});

  for (std::size_t b = 0; b < 3; ++b) {
    const auto part = [&](const auto& view) { return view.slice(2, starts[b], starts[b + 1]); };
    headwise::attention<float>(part(packed(q)), part(packed(k)), part(packed(v)), part(view_of(alone)), options);
    std::printf("sequence %zu, %lld tokens: output starts with %9.6f in the batch, %9.6f alone\n", b,
                static_cast<long long>(starts[b + 1] - starts[b]), part(view_of(together))(0, 0, 0, 0),
                part(view_of(alone))(0, 0, 0, 0));
  }
  std::printf("largest difference %g\n", examples::largest_difference(together, alone));
  return together == alone ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
