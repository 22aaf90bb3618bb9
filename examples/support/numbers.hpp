// Made-up data: the same numbers on every machine.
#pragma once

#include <cstdint>
#include <vector>

namespace examples {

/// Numbers between −1 and 1 that depend on the seed.
inline std::vector<float> numbers(std::int64_t count, std::uint32_t seed) {
  std::vector<float> result(static_cast<std::size_t>(count));
  for (float& number : result) {
    seed = seed * 1664525 + 1013904223;
    number = static_cast<float>(seed >> 8) / static_cast<float>(1 << 23) - 1.0F;
  }
  return result;
}

/// Largest difference of two lists.
inline double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

}  // namespace examples
