/// \file
/// How much is tested: the environment variable HEADWISE_TEST_GRID=reduced asks for the grid that suits an emulator.
#pragma once

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

/// Thread counts of every test: alone, even and odd splits.
inline std::vector<int> thread_counts() { return reduced_grid() ? std::vector{1, 3} : std::vector{1, 2, 3}; }

}  // namespace headwise::test
