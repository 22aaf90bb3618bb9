#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

#include "accuracy/accuracy.hpp"
#include "headwise/runtime.hpp"
#include "kernels/kernel_test.hpp"
#include "support/error_bound.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

/// What 2^x of many x came to.
struct ExponentialErrors {
  std::int64_t arguments = 0;
  std::int64_t wrong = 0;  ///< no exact 0 below the cut, no NaN of NaN, other bits by the other kernel
  double largest = 0;      ///< in u
  double where = 0;
};

/// 2^x by the softmax of a tile and by that of a row, whose references are 0.
template <class T>
class Exponential {
 public:
  static constexpr std::int64_t block = 1 << 14;

  Exponential() : tile_(kernels<T>().lanes, 1, static_cast<int>(block / kernels<T>().lanes)) {}

  /// Takes up to `block` numbers, none above 8.
  void add(const std::vector<T>& x, ExponentialErrors& errors) {
    std::fill_n(tile_.state.reference, tile_.row_stride, T(0));
    std::fill_n(tile_.state.maximum, tile_.row_stride, T(0));
    std::copy(x.begin(), x.end(), tile_.scores.data());
    std::fill(tile_.scores.data() + x.size(), tile_.scores.data() + block, T(0));
    kernels<T>().softmax(tile_.block(), false);
    std::copy(x.begin(), x.end(), row_.data());
    T reference = T(0), sum = T(0);
    const int keys = static_cast<int>(x.size());
    kernels<T>().row_softmax(row_.data(), 0, keys, keys, &reference, &sum, false);
    for (std::size_t i = 0; i < x.size(); ++i) judge(x[i], tile_.scores.data()[i], row_.data()[i], errors);
    errors.arguments += keys;
  }

 private:
  /// The smallest exponent whose power is a normal number: below it weights are 0.
  static constexpr T cut = T(std::numeric_limits<T>::min_exponent - 1);

  static void judge(T x, T by_tile, T by_row, ExponentialErrors& errors) {
    if (std::isnan(x)) {
      errors.wrong += !std::isnan(by_tile) || !std::isnan(by_row);
      return;
    }
    errors.wrong += std::bit_cast<BitsOf<T>>(by_tile) != std::bit_cast<BitsOf<T>>(by_row);
    if (x < cut) {
      errors.wrong += std::bit_cast<BitsOf<T>>(by_tile) != 0;
      return;
    }
    const Wide<T> exact = std::exp2(Wide<T>{x});
    const auto error = static_cast<double>(std::abs(by_tile - exact) / (exact * Wide<T>{rounding_unit<T>}));
    if (!(error <= errors.largest)) errors.largest = error, errors.where = static_cast<double>(x);
  }

  Tile<T> tile_;
  GuardedBuffer<T> row_{block + kernels<T>().lanes, Placement::before_guard};
};

/// Every `step`-th bit pattern that is a float ≤ 8 or NaN.
ExponentialErrors every_float(std::int64_t step) {
  Exponential<float> exponential;
  ExponentialErrors errors;
  std::vector<float> x;
  for (std::int64_t bits = 0; bits < std::int64_t{1} << 32; bits += step) {
    const auto argument = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (argument > 8) continue;
    x.push_back(argument);
    if (x.size() < Exponential<float>::block) continue;
    exponential.add(x, errors);
    x.clear();
  }
  if (!x.empty()) exponential.add(x, errors);
  return errors;
}

/// So many doubles: seven in eight evenly spread over the normal results, the others over a little beyond the cut.
ExponentialErrors many_doubles(std::int64_t count) {
  Exponential<double> exponential;
  ExponentialErrors errors;
  std::vector<double> x;
  std::uint64_t state = 1;
  for (std::int64_t n = 0; n < count; ++n) {
    state = state * 6364136223846793005U + 1442695040888963407U;  // Knuth's MMIX
    const double uniform = static_cast<double>(state >> 11) * 0x1p-53;
    x.push_back(n % 8 == 0 ? -1023 + 2 * uniform : -1022 + 1030 * uniform);
    if (x.size() < Exponential<double>::block && n + 1 < count) continue;
    exponential.add(x, errors);
    x.clear();
  }
  exponential.add({std::numeric_limits<double>::quiet_NaN(), -infinity<double>, std::numeric_limits<double>::lowest(),
                   std::nextafter(-1022.0, -infinity<double>), -1022.0, 0.0, -0.0, 8.0},
                  errors);
  return errors;
}

bool print(const char* type, const ExponentialErrors& errors, double allowed) {
  std::printf("| %s | %s | %lld | %.3f | %.9g | %lld |\n", active_isa(), type, static_cast<long long>(errors.arguments),
              errors.largest, errors.where, static_cast<long long>(errors.wrong));
  std::fflush(stdout);
  return errors.wrong == 0 && errors.largest <= allowed;
}

}  // namespace

bool report_exponential(std::int64_t step) {
  std::puts(
      "| kernels | type | arguments of 2^x | largest error (u) | at x | wrong zeros, NaN or bits |\n"
      "|---|---|---|---|---|---|");
  const bool good_float = print("float", every_float(step), KernelErrorModel::exp_error);
  const bool good_double = print("double", many_doubles(100'000'000 / step), KernelErrorModel::exp_error);
  std::puts("");
  return good_float && good_double;
}

}  // namespace headwise::test
