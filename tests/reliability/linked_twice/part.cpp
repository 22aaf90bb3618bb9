// A shared object with a headwise of its own, as plugins of one program have.
#include "linked_twice/part.hpp"

#include <cstdint>
#include <vector>

#include "headwise/headwise.hpp"

void headwise_part_attend(float* output, int num_threads) {
  constexpr std::int64_t heads = 4, tokens = 150, dim = 24;
  static_assert(part_outputs == heads * tokens * dim);
  std::vector<float> input(part_outputs);
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i * 37 % 101) / 64 - 0.75F;
  const auto x = headwise::TensorView<const float, 4>::contiguous(input.data(), {1, heads, tokens, dim});
  headwise::attention<float>(x, x, x, {output, x.extents, x.strides}, {.causal = true, .num_threads = num_threads});
}

PartAddresses headwise_part_addresses() {
  using Attention = void (*)(const headwise::AttentionArguments<float>&, const headwise::AttentionOptions&);
  const Attention attention = headwise::attention<float>;
  return {reinterpret_cast<const void*>(attention), reinterpret_cast<const void*>(&headwise::active_isa)};
}
