/// \file
/// How much is tested: the environment variable HEADWISE_TEST_GRID=reduced asks for the grid that suits an emulator.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace headwise::test {

/// Value of an environment variable, empty where it is not set.
inline std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

inline bool reduced_grid() { return environment("HEADWISE_TEST_GRID") == "reduced"; }

/// Query lengths for both kernels of most head counts: few rows, and tiles with a rest.
inline std::vector<std::int64_t> few_and_many_queries() {
  return {1, 4, reduced_grid() ? std::int64_t{20} : std::int64_t{70}};
}

/// Thread counts of every test: alone, even and odd splits.
inline std::vector<int> thread_counts() { return reduced_grid() ? std::vector{1, 3} : std::vector{1, 2, 3}; }

}  // namespace headwise::test
