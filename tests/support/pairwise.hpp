/// \file
/// Few combinations that take every pair of levels of any two factors.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace headwise::test {

/// Combinations, each one level per factor, in which every two levels of every two factors meet. Greedy: each begins
/// with a pair that has not met, then takes factor by factor the level that meets most others for the first time.
template <std::size_t Factors>
std::vector<std::array<std::size_t, Factors>> pairwise_combinations(const std::array<std::size_t, Factors>& levels) {
  std::size_t first_level[Factors + 1] = {};  // numbers the levels of all factors
  for (std::size_t f = 0; f < Factors; ++f) first_level[f + 1] = first_level[f] + levels[f];
  const std::size_t total = first_level[Factors];
  std::vector<char> met(total * total, 0);
  const auto pair = [&](std::size_t f, std::size_t level, std::size_t other, std::size_t other_level) -> char& {
    if (other < f) return met[(first_level[other] + other_level) * total + first_level[f] + level];
    return met[(first_level[f] + level) * total + first_level[other] + other_level];
  };

  std::vector<std::array<std::size_t, Factors>> combinations;
  const auto complete = [&](std::size_t f, std::size_t level, std::size_t other, std::size_t other_level) {
    std::array<std::size_t, Factors> chosen{};
    std::array<bool, Factors> fixed{};
    chosen[f] = level, chosen[other] = other_level, fixed[f] = fixed[other] = true;
    for (std::size_t next = 0; next < Factors; ++next) {
      if (fixed[next]) continue;
      std::size_t most = 0;
      for (std::size_t n = 0; n < levels[next]; ++n) {
        // Begin with another level each time, or ties would leave the last levels to the end.
        const std::size_t candidate = (combinations.size() + n) % levels[next];
        std::size_t fresh = 0;
        for (std::size_t g = 0; g < Factors; ++g) fresh += fixed[g] && pair(next, candidate, g, chosen[g]) == 0;
        if (n == 0 || fresh > most) most = fresh, chosen[next] = candidate;
      }
      fixed[next] = true;
    }
    for (std::size_t g = 0; g < Factors; ++g) {
      for (std::size_t h = g + 1; h < Factors; ++h) pair(g, chosen[g], h, chosen[h]) = 1;
    }
    combinations.push_back(chosen);
  };
  for (std::size_t f = 0; f < Factors; ++f) {
    for (std::size_t other = f + 1; other < Factors; ++other) {
      for (std::size_t level = 0; level < levels[f]; ++level) {
        for (std::size_t other_level = 0; other_level < levels[other]; ++other_level) {
          if (pair(f, level, other, other_level) == 0) complete(f, level, other, other_level);
        }
      }
    }
  }
  return combinations;
}

}  // namespace headwise::test
