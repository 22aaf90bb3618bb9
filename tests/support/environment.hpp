/// \file
/// How much is tested: the environment variable HEADWISE_TEST_GRID=reduced asks for the grid that suits an emulator,
/// HEADWISE_TEST_SEEDS for other random problems.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace headwise::test {

/// Value of an environment variable, empty where it is not set.
inline std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

inline bool reduced_grid() { return environment("HEADWISE_TEST_GRID") == "reduced"; }

/// Seeds of random problems, the last one included.
struct SeedRange {
  std::uint64_t first, last;
};

/// The one in use, to be printed where a fault ends the program.
inline std::atomic<std::uint64_t> seed_in_use = 0;

/// HEADWISE_TEST_SEEDS, which is one seed or `first-last`; the grid's where it is not set.
inline SeedRange random_seeds() {
  const std::string asked(environment("HEADWISE_TEST_SEEDS"));
  if (asked.empty()) return {1, reduced_grid() ? std::uint64_t{20} : std::uint64_t{150}};
  const std::size_t dash = asked.find('-');
  return {std::stoull(asked), std::stoull(dash == std::string::npos ? asked : asked.substr(dash + 1))};
}

/// Query lengths for both kernels of most head counts: few rows, and tiles with a rest.
inline std::vector<std::int64_t> few_and_many_queries() {
  return {1, 4, reduced_grid() ? std::int64_t{20} : std::int64_t{70}};
}

/// Thread counts of every test: alone, even and odd splits.
inline std::vector<int> thread_counts() { return reduced_grid() ? std::vector{1, 3} : std::vector{1, 2, 3}; }

}  // namespace headwise::test
