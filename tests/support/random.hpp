/// \file
/// Random numbers with the same values on every machine, compiler and standard library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "headwise/tensor.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

/// A generator of normally distributed numbers.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// Mean 0, variance 1, within ±4.9: eight uniform numbers less their mean, from integer arithmetic, since the
  /// logarithm and cosine of the usual transforms differ between libraries.
  double normal() {
    std::int64_t sum = 0;
    for (int draw = 0; draw < 2; ++draw) {
      std::uint64_t bits = engine_();
      for (int part = 0; part < 4; ++part, bits >>= 16) sum += static_cast<std::int64_t>(bits & 0xffff);
    }
    // The sum of eight has variance 8/12. The factor fills the mantissa, so that products round in double, too; √1.5
    // itself would not do: products of two of its multiples are multiples of 1.5 and leave the sums' last bits empty.
    return static_cast<double>(sum - 8 * 0x8000) * (1.2247 * 0x1p-16);
  }

  /// A whole number, each of 0 … count − 1 equally often.
  std::int64_t below(std::int64_t count) {
    return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(count));
  }

  /// In half of the draws.
  bool yes() { return below(2) == 0; }

  /// Where to look in a list of `count`.
  std::size_t index(std::size_t count) { return static_cast<std::size_t>(below(static_cast<std::int64_t>(count))); }

  /// One of the choices.
  template <class T, std::size_t Count>
  const T& among(const std::array<T, Count>& choices) {
    return choices[index(Count)];
  }

 private:
  std::mt19937_64 engine_;
};

/// `count` normal numbers.
template <class T>
std::vector<T> normal(Random& random, std::int64_t count) {
  std::vector<T> numbers(static_cast<std::size_t>(count));
  for (T& number : numbers) number = static_cast<T>(random.normal());
  return numbers;
}

/// Fills a view with factor · normal + offset.
template <class T>
void fill_normal(Random& random, const TensorView<T, 4>& view, double factor = 1, double offset = 0) {
  visit_elements(view, [&](T& element) { element = static_cast<T>(factor * random.normal() + offset); });
}

}  // namespace headwise::test
