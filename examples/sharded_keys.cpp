// The keys lie in three places, e.g. on three machines: each computes attention over its own, then outputs and
// logsumexps are merged into what all keys together would have given.
#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <type_traits>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/numbers.hpp"

int main() try {
  using headwise::TensorView;
  constexpr std::int64_t heads = 2, queries = 4, keys = 300, dim = 16;
  const auto q = examples::numbers(heads * queries * dim, 1), k = examples::numbers(heads * keys * dim, 2),
             v = examples::numbers(heads * keys * dim, 3);
  const auto view = [](auto& storage, std::int64_t length) {
    return TensorView<std::remove_pointer_t<decltype(storage.data())>, 4>::contiguous(storage.data(),
                                                                                      {1, heads, length, dim});
  };
  const auto query = view(q, queries), key = view(k, keys), value = view(v, keys);
  std::vector<float> expected(q.size()), merged(q.size());
  headwise::attention<float>(query, key, value, view(expected, queries));

  constexpr std::size_t shards = 3;
  const std::array<std::int64_t, shards + 1> starts{0, 50, 200, keys};
  std::array<std::vector<float>, shards> outputs, logsumexps;
  std::vector<headwise::PartialAttention<float>> parts;
  for (std::size_t shard = 0; shard < shards; ++shard) {
    outputs[shard].resize(q.size());
    logsumexps[shard].resize(heads * queries);
    const auto output = view(outputs[shard], queries);
    const auto logsumexp = TensorView<float, 3>::contiguous(logsumexps[shard].data(), {1, heads, queries});
    headwise::attention<float>({.query = query,
                                .key = key.slice(2, starts[shard], starts[shard + 1]),
                                .value = value.slice(2, starts[shard], starts[shard + 1]),
                                .output = output,
                                .logsumexp = logsumexp});
    parts.push_back({output, logsumexp});
    std::printf("shard %zu: keys %lld to %lld, logsumexp of the first query %.4f\n", shard,
                static_cast<long long>(starts[shard]), static_cast<long long>(starts[shard + 1] - 1),
                static_cast<double>(logsumexp(0, 0, 0)));
  }
  headwise::merge_attention(parts, view(merged, queries));

  const double difference = examples::largest_difference(expected, merged);
  std::printf("merged: differs from all keys at once by at most %.1e\n", difference);
  return difference < 1e-6 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
