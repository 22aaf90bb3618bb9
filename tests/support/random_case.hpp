/// \file
/// Problems at random: shapes, layouts and option sets. The same seed gives the same problems everywhere.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/attention_problem.hpp"
#include "support/environment.hpp"
#include "support/option_grid.hpp"
#include "support/random.hpp"

namespace headwise::test {

/// A problem with each option in about half of the draws.
inline AttentionCase random_case(Random& random) {
  constexpr std::array<std::int64_t, 10> query_lengths{1, 1, 2, 3, 5, 17, 33, 64, 65, 100};
  constexpr std::array<std::int64_t, 9> key_lengths{1, 5, 31, 64, 97, 130, 203, 320, 530};
  constexpr std::array<std::int64_t, 6> dims{1, 8, 16, 33, 40, 64};
  constexpr std::array<std::int64_t, 6> bounds{-1, 0, 3, 20, 150, std::numeric_limits<std::int64_t>::max()};
  using L = OptionLevels;
  const auto yes = [&] { return random.below(2) == 0; };
  const auto varies = [&] { return Varies{yes(), yes(), random.below(4) != 0, random.below(4) != 0}; };

  AttentionCase problem;
  const std::int64_t kv_heads = 1 + random.below(2);
  problem.shape = {.batch = 1 + random.below(3), .num_heads = kv_heads * (1 + random.below(3)),
                   .num_kv_heads = kv_heads, .query_length = random.among(query_lengths),
                   .key_length = random.among(key_lengths), .head_dim = random.among(dims),
                   .value_dim = random.among(dims)};
  problem.layout = random.among(all_layouts);
  problem.placement = yes() ? Placement::before_guard : Placement::after_guard;
  problem.logsumexp = problem.weights = true;
  problem.options.scale = random.among(L::scales);
  problem.options.softcap = random.among(L::softcaps);
  problem.options.causal = yes();
  if (yes()) problem.options.window = {random.among(bounds), random.among(bounds)};
  problem.options.query_position = random.among(L::positions);
  for (std::int64_t b = 0; b < problem.shape.batch; ++b) {
    if (problem.options.query_position != QueryPosition::given) continue;
    problem.query_offsets.push_back(random.below(problem.shape.key_length + 6) - 5);
  }
  if (random.below(3) == 0) problem.key_lengths = uneven_lengths(problem.shape.batch, problem.shape.key_length);
  if (yes()) problem.mask = varies();
  if (random.below(3) == 0) {
    problem.relative_bias = true;
  } else if (yes()) {
    problem.bias = varies();
  }
  problem.key_padding_mask = random.below(3) == 0;
  problem.alibi = random.below(3) == 0;
  problem.sinks = random.below(3) == 0;
  return problem;
}

/// Draws per property; a property that needs more time takes a share of them.
inline int draws(bool reduced, int share = 1) { return (reduced ? 8 : 120) / share; }

/// The problem with fewer queries, where it has more products than an emulator computes in a second.
inline AttentionCase affordable(AttentionCase problem) {
  const AttentionShape& s = problem.shape;
  const std::int64_t per_query = s.batch * s.num_heads * s.key_length * (s.head_dim + s.value_dim);
  problem.shape.query_length = std::clamp<std::int64_t>(2'000'000 / per_query, 1, s.query_length);
  return problem;
}

/// Calls check(problem, seed) for that many problems.
template <class Check>
void for_random_cases(std::uint64_t seed, int count, Check check) {
  Random random(seed);
  for (int n = 0; n < count; ++n) {
    const AttentionCase problem = random_case(random);
    check(reduced_grid() ? affordable(problem) : problem, seed * 1000 + static_cast<std::uint64_t>(n));
  }
}

}  // namespace headwise::test
