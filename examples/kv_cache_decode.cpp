// A language model's inner loop: the prompt goes into a cache at once, then one token after the other, each attending
// all before it. Keys and queries are rotated by their positions. A ring of 8 slots does the same for a window of 7
// tokens before the query, in constant memory however long the text grows.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <type_traits>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/numbers.hpp"

namespace {

using headwise::TensorView;
constexpr std::int64_t num_heads = 4, num_kv_heads = 2, dim = 16, prompt = 12, tokens = 24;

/// Queries, keys and values of a text, as a model's projections would give them: [1, heads, tokens, dim].
struct Text {
  std::vector<float> query = examples::numbers(num_heads * tokens * dim, 1);
  std::vector<float> key = examples::numbers(num_kv_heads * tokens * dim, 2);
  std::vector<float> value = examples::numbers(num_kv_heads * tokens * dim, 3);
};

template <class Storage>
auto heads_of(Storage& storage, std::int64_t heads) {
  return TensorView<std::remove_pointer_t<decltype(storage.data())>, 4>::contiguous(storage.data(),
                                                                                    {1, heads, tokens, dim});
}

/// Output of every token, computed as it comes; window.left < 0: the cache keeps everything.
std::vector<float> decode(const Text& text, const headwise::Window& window) {
  const bool ring = window.left >= 0;
  headwise::KvCache<float> cache({.batch = 1,
                                  .num_kv_heads = num_kv_heads,
                                  .capacity = ring ? window.left + 1 : tokens,
                                  .head_dim = dim,
                                  .value_dim = dim,
                                  .ring = ring});
  const headwise::AttentionOptions options{
      .causal = true, .window = window, .query_position = headwise::QueryPosition::bottom_right};
  // One plan for all steps: its key length is a maximum.
  const headwise::AttentionPlan<float> plan({.batch = 1,
                                             .num_heads = num_heads,
                                             .num_kv_heads = num_kv_heads,
                                             .query_length = 1,
                                             .key_length = tokens,
                                             .head_dim = dim,
                                             .value_dim = dim},
                                            options);
  std::vector<float> rotated = text.query, outputs(text.query.size());
  const auto key = heads_of(text.key, num_kv_heads), value = heads_of(text.value, num_kv_heads);
  const auto query = heads_of(rotated, num_heads), output = heads_of(outputs, num_heads);

  for (std::int64_t begin = 0, end = ring ? 1 : prompt; begin < tokens; begin = end++) {
    const auto now = [&](const auto& view) { return view.slice(2, begin, end); };
    std::vector<std::int64_t> positions;
    for (std::int64_t position = begin; position < end; ++position) positions.push_back(position);
    headwise::rotary_embedding(now(query),
                               TensorView<const std::int64_t, 2>::contiguous(positions.data(), {1, end - begin}));
    cache.append(now(key), now(value), {}, headwise::RotaryOptions{});
    const headwise::AttentionArguments<float> arguments{
        .query = now(query), .output = now(output), .key_runs = cache.runs()};
    if (end - begin == 1) {
      plan.run(arguments);
    } else {
      headwise::attention(arguments, options);
    }
  }
  return outputs;
}

/// Output of every token in one call.
std::vector<float> at_once(const Text& text, const headwise::Window& window) {
  Text rotated = text;
  std::vector<std::int64_t> positions;
  for (std::int64_t position = 0; position < tokens; ++position) positions.push_back(position);
  const auto position_view = TensorView<const std::int64_t, 2>::contiguous(positions.data(), {1, tokens});
  headwise::rotary_embedding(heads_of(rotated.query, num_heads), position_view);
  headwise::rotary_embedding(heads_of(rotated.key, num_kv_heads), position_view);
  std::vector<float> outputs(text.query.size());
  headwise::attention<float>(heads_of(rotated.query, num_heads), heads_of(rotated.key, num_kv_heads),
                             heads_of(rotated.value, num_kv_heads), heads_of(outputs, num_heads),
                             {.causal = true, .window = window});
  return outputs;
}

bool compare(const char* title, const headwise::Window& window) {
  const Text text;
  const double difference = examples::largest_difference(decode(text, window), at_once(text, window));
  std::printf("%s: token by token differs from one call by at most %.1e\n", title, difference);
  return difference < 1e-5;
}

}  // namespace

int main() try {
  const bool all_kept = compare("cache of 24 tokens", {});
  const bool ring = compare("ring of 8 slots   ", {.left = 7});
  return all_kept && ring ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
