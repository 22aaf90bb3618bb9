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

/// Gives a problem of this shape a layout and each option in about half of the draws.
inline void draw_options(AttentionCase& problem, Random& random) {
  constexpr std::array<std::int64_t, 6> bounds{-1, 0, 3, 20, 150, std::numeric_limits<std::int64_t>::max()};
  using L = OptionLevels;
  const auto bound = [&] { return random.below(3) == 0 ? random.below(600) : random.among(bounds); };
  const auto varies = [&] { return Varies{random.yes(), random.yes(), random.below(4) != 0, random.below(4) != 0}; };

  problem.layout = random.among(all_layouts);
  problem.placement = random.yes() ? Placement::before_guard : Placement::after_guard;
  problem.options.scale = random.among(L::scales);
  problem.options.softcap = random.among(L::softcaps);
  problem.options.causal = random.yes();
  if (random.yes()) problem.options.window = {bound(), bound()};
  problem.options.query_position = random.among(L::positions);
  if (random.yes()) problem.mask = varies();
  if (random.below(3) == 0) {
    problem.relative_bias = true;
  } else if (random.yes()) {
    problem.bias = varies();
  }
  problem.key_padding_mask = random.below(3) == 0;
  problem.alibi = random.below(3) == 0;
  problem.sinks = random.below(3) == 0;
  const std::int64_t keys = problem.shape.key_length;
  for (std::int64_t b = 0; b < problem.shape.batch && problem.options.query_position == QueryPosition::given; ++b) {
    problem.query_offsets.push_back(random.below(keys + 6) - 5);
  }
}

/// A padded batch of keys in one tensor, which is asked for logsumexp and weights.
inline AttentionCase random_case(Random& random) {
  constexpr std::array<std::int64_t, 10> query_lengths{1, 1, 2, 3, 5, 17, 33, 64, 65, 100};
  constexpr std::array<std::int64_t, 9> key_lengths{1, 5, 31, 64, 97, 130, 203, 320, 530};
  constexpr std::array<std::int64_t, 6> dims{1, 8, 16, 33, 40, 64};
  const std::int64_t kv_heads = 1 + random.below(2);
  AttentionCase problem;
  problem.shape = {.batch = 1 + random.below(3), .num_heads = kv_heads * (1 + random.below(3)),
                   .num_kv_heads = kv_heads, .query_length = random.among(query_lengths),
                   .key_length = random.among(key_lengths), .head_dim = random.among(dims),
                   .value_dim = random.among(dims)};
  draw_options(problem, random);
  problem.logsumexp = problem.weights = true;
  if (random.below(3) == 0) problem.key_lengths = uneven_lengths(problem.shape.batch, problem.shape.key_length);
  return problem;
}

// ------------------------------------------------------------------------------------------------ of every kind

/// A shape of any kind: few queries against up to several chunks of keys; some tiles of queries; more tiles of a head
/// than a thread computes at once; so many heads that the rows of one of them may lie far apart.
inline AttentionShape any_shape(Random& random) {
  constexpr std::array<std::int64_t, 16> dims{1, 3, 7, 8, 8, 15, 16, 16, 24, 32, 33, 40, 64, 64, 72, 129};
  constexpr std::array<std::int64_t, 8> groups{1, 1, 1, 2, 2, 3, 5, 8}, small_groups{1, 1, 1, 1, 1, 1, 2, 4};
  const std::int64_t key_of_chunk = 511 + 512 * random.below(5) + random.below(3);
  std::int64_t kv_heads = 1 + random.below(3), group = random.among(groups), batch = 1 + random.below(3);
  std::int64_t head_dim = random.among(dims), value_dim = random.below(30) == 0 ? 0 : random.among(dims);
  std::int64_t queries = 0, keys = 0;
  switch (random.below(5)) {
    case 0: queries = 1 + random.below(4), group = random.among(small_groups), keys = random.below(3000); break;
    case 1: queries = 1 + random.below(4), group = random.among(small_groups), keys = key_of_chunk; break;
    case 2: queries = 1 + random.below(200), keys = random.below(700); break;
    case 3: queries = 300 + random.below(300), keys = random.below(200), batch = 1; break;
    default:
      queries = 1 + random.below(400), keys = random.below(200);
      kv_heads = 8, group = batch = 1, head_dim = value_dim = 64;
      break;
  }
  // A score costs as much as some products.
  const std::int64_t most_work = reduced_grid() ? 3'000'000 : 25'000'000;
  while (batch * kv_heads * group * queries * keys * (head_dim + value_dim + 64) > most_work) {
    std::int64_t& extent = *random.among(std::array{&batch, &kv_heads, &group, &queries, &keys});
    extent = (extent + 1) / 2;
  }
  return {batch, kv_heads * group, kv_heads, queries, keys, head_dim, value_dim};
}

/// Makes a ragged batch of sequences of random lengths of it, some of them none.
inline void make_ragged(AttentionCase& problem, Random& random) {
  const auto lengths = [&](std::int64_t longest) {
    std::vector<std::int64_t> result{longest};
    for (std::int64_t b = 1; b < problem.shape.batch; ++b) result.push_back(random.below(longest + 1));
    if (random.yes()) std::reverse(result.begin(), result.end());
    return result;
  };
  problem.key_lengths.clear();
  problem.query_starts = starts_of(lengths(problem.shape.query_length));
  problem.key_starts = starts_of(lengths(problem.shape.key_length));
}

/// Says where the keys of each sequence lie.
inline void draw_keys(AttentionCase& problem, Random& random) {
  switch (random.below(6)) {
    case 0:
      for (std::int64_t b = 0; b < problem.shape.batch; ++b) {
        problem.key_lengths.push_back(random.below(problem.shape.key_length + 1));
      }
      break;
    case 1: make_ragged(problem, random); break;
    case 2: problem.key_storage = KeyStorage::ring; break;
    case 3: problem.key_storage = KeyStorage::pieces; break;
    case 4: problem.one_key_sequence = problem.layout != Layout::packed_qkv; break;
    default: break;
  }
}

/// A problem of any kind, with layouts of its own for each tensor in half of the draws.
inline AttentionCase any_case(Random& random) {
  AttentionCase problem{.shape = any_shape(random)};
  draw_options(problem, random);
  draw_keys(problem, random);
  if (random.below(4) == 0) problem.layout = Layout::far_rows;
  // From the first key on, few queries never leave the window behind.
  if (problem.options.query_position == QueryPosition::top_left && random.yes()) {
    problem.options.query_position = QueryPosition::bottom_right;
  }
  if (random.yes()) problem.layout_step = static_cast<int>(random.index(all_layouts.size()));
  constexpr std::int64_t far = (std::int64_t{1} << 62) - 1000;
  for (std::int64_t& offset : problem.query_offsets) {
    if (!problem.alibi && random.below(16) == 0) offset = random.yes() ? far : -far;
  }
  problem.logsumexp = random.yes();
  problem.weights = random.yes();
  problem.mean_weights = random.yes();
  set_scores(problem, random.among(OptionLevels::scores));
  return problem;
}

// ------------------------------------------------------------------------------------------------------- how many

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
