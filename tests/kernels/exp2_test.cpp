// 2^x as the softmax kernels compute it: with a reference of 0 the weights are 2^score.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "kernels/kernel_test.hpp"
#include "support/environment.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

/// 2^x of many x by the tile's softmax.
template <class T>
std::vector<T> by_tile(const std::vector<T>& x) {
  const auto lanes = static_cast<std::size_t>(kernels<T>().lanes);
  Tile<T> tile(kernels<T>().lanes, 1, static_cast<int>((x.size() + lanes - 1) / lanes));
  std::fill_n(tile.state.reference, tile.row_stride, T(0));
  std::fill_n(tile.state.maximum, tile.row_stride, T(0));
  std::fill_n(tile.scores.data(), tile.scores.size(), T(0));
  std::copy(x.begin(), x.end(), tile.scores.data());
  kernels<T>().softmax(tile.block(), false);
  return copied(tile.scores.data(), static_cast<std::int64_t>(x.size()));
}

/// 2^x of many x, none above 8, by the softmax of a single row.
template <class T>
std::vector<T> by_row(const std::vector<T>& x) {
  const int keys = static_cast<int>(x.size());
  const GuardedBuffer<T> scores(keys + kernels<T>().lanes, Placement::before_guard);
  std::copy(x.begin(), x.end(), scores.data());
  T reference = T(0), sum = T(0);
  kernels<T>().row_softmax(scores.data(), 0, keys, keys, &reference, &sum, false);
  return copied(scores.data(), keys);
}

/// The smallest exponent whose power is a normal number: below it weights are 0.
template <class T>
constexpr T cut = T(std::numeric_limits<T>::min_exponent - 1);

/// Evenly spread numbers of [low, 8], those around every multiple of 1/16, and tiny ones.
template <class T>
std::vector<T> samples(T low) {
  std::vector<T> x;
  const int count = reduced_grid() ? 20'000 : 500'000;
  const T step = (T(8) - low) / static_cast<T>(count);
  for (int i = 0; i < count; ++i) x.push_back(low + (static_cast<T>(i) + T(0.37)) * step);
  for (T grid = low; grid <= T(8); grid += T(0.0625)) {
    for (const T side : {-infinity<T>, infinity<T>}) {
      const T near = std::nextafter(grid, side);
      if (near >= low && near <= T(8)) x.push_back(near);
    }
    x.push_back(grid);
  }
  for (T tiny = T(0.5); tiny > T(0); tiny /= T(2)) x.insert(x.end(), {tiny, -tiny});
  return x;
}

/// What the polynomials reach, in units of u: 3.2 and 1.8 without a fused product and sum.
template <class T>
constexpr double largest_error = sizeof(T) == 4 ? 3.5 : 2;
static_assert(largest_error<float> <= KernelErrorModel::exp_error);

TEST_CASE_TEMPLATE("exp2: accuracy over the range of weights", T, float, double) {
  // The second range is that of double; for float both are the same.
  for (const T low : std::set<T>{T(-126), cut<T>}) {
    const std::vector<T> x = samples(low), power = by_tile(x);
    Wide<T> worst = 0;
    T where = T(0);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Wide<T> exact = std::exp2(Wide<T>{x[i]}), error = std::abs(power[i] - exact) / (exact * rounding_unit<T>);
      if (!(error <= worst)) worst = error, where = x[i];
    }
    MESSAGE("largest error of exp2 over [", low, ", 8]: ", static_cast<double>(worst), " u at ", where);
    CHECK(worst <= Wide<T>{largest_error<T>});
    CHECK(same_bits(power, by_row(x)));
  }
}

TEST_CASE_TEMPLATE("exp2: exact powers, 0 below the cut, no subnormal numbers, NaN stays", T, float, double) {
  std::vector<T> x, expected;
  for (T n = cut<T>; n <= T(8); n += T(1)) x.push_back(n), expected.push_back(std::exp2(n));
  for (const T low : {std::nextafter(cut<T>, -infinity<T>), cut<T> - T(0.5), cut<T> - T(1), 2 * cut<T>, T(-1e30),
                      std::numeric_limits<T>::lowest(), -infinity<T>}) {
    x.push_back(low), expected.push_back(T(0));
  }
  for (const T zero : {T(0), T(-0.0)}) x.push_back(zero), expected.push_back(T(1));
  CHECK(same_bits(by_tile(x), expected));
  CHECK(same_bits(by_row(x), expected));
  CHECK(by_tile<T>({std::nextafter(cut<T>, T(0))})[0] >= std::numeric_limits<T>::min());
  // Keys as good as the best one weigh as much.
  if (kernels<T>().isa != std::string("avx512")) CHECK(by_tile<T>({T(-1e-30)})[0] == T(1));
  const std::vector<T> with_nan{T(1), quiet_nan<T>, T(2), -quiet_nan<T>};
  for (const std::vector<T>& power : {by_tile(with_nan), by_row(with_nan)}) {
    CHECK(power[0] == T(2));
    CHECK(std::isnan(power[1]));
    CHECK(power[2] == T(4));
    CHECK(std::isnan(power[3]));
  }
}

}  // namespace
}  // namespace headwise::test
