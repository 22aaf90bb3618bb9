/// \file
/// Random numbers with the same values on every machine, compiler and standard library.
#pragma once

#include <cstdint>
#include <random>

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
    // The sum of eight has variance 8/12. An irrational factor fills the mantissa: products round in double, too.
    return static_cast<double>(sum - 8 * 0x8000) * (1.22474487139158904910 * 0x1p-16);
  }

 private:
  std::mt19937_64 engine_;
};

/// Fills a view with factor · normal + offset.
template <class T>
void fill_normal(Random& random, const TensorView<T, 4>& view, double factor = 1, double offset = 0) {
  visit_elements(view, [&](T& element) { element = static_cast<T>(factor * random.normal() + offset); });
}

}  // namespace headwise::test
