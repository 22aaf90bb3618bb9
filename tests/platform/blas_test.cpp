#include "platform/blas.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <doctest/doctest.h>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "support/random.hpp"

namespace headwise::test {
namespace {

using detail::gemm;
using detail::GemmArguments;

/// Small whole numbers: every sum is exact in any order and type.
template <class T>
std::vector<T> whole_numbers(std::int64_t count, int seed) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<T>((i * 7 + static_cast<std::size_t>(seed) * 3) % 11) - 5;
  }
  return values;
}

template <class T>
T element(const std::vector<T>& matrix, std::int64_t index) {
  return matrix[static_cast<std::size_t>(index)];
}

constexpr std::int64_t rows = 5, columns = 3, inner = 4, a_stride = 6, b_stride = 7, c_stride = 8;

template <class T>
void check_product(bool b_transposed, bool accumulate, int num_threads) {
  const auto a = whole_numbers<T>(rows * a_stride, 1);
  const auto b = whole_numbers<T>((b_transposed ? columns : inner) * b_stride, 2);
  const T before = accumulate ? T(2) : std::numeric_limits<T>::quiet_NaN();
  std::vector<T> c(rows * c_stride, before);
  gemm<T>({.rows = rows,
           .columns = columns,
           .inner = inner,
           .a = a.data(),
           .a_stride = a_stride,
           .b = b.data(),
           .b_stride = b_stride,
           .b_transposed = b_transposed,
           .c = c.data(),
           .c_stride = c_stride,
           .accumulate = accumulate},
          num_threads);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      T expected = accumulate ? before : T(0);
      for (std::int64_t k = 0; k < inner; ++k) {
        expected += element(a, i * a_stride + k) * element(b, b_transposed ? j * b_stride + k : k * b_stride + j);
      }
      CHECK(element(c, i * c_stride + j) == expected);
    }
    for (std::int64_t gap = columns; gap < c_stride; ++gap) {
      const T left = element(c, i * c_stride + gap);
      CHECK((accumulate ? left == before : left != left));
    }
  }
}

/// A product of 2 × 2 matrices, for errors.
GemmArguments<float> small_product(std::vector<float>& storage) {
  storage.assign(12, 1.0F);
  return {.rows = 2,
          .columns = 2,
          .inner = 2,
          .a = storage.data(),
          .a_stride = 2,
          .b = storage.data() + 4,
          .b_stride = 2,
          .c = storage.data() + 8,
          .c_stride = 2};
}

}  // namespace

TEST_CASE_TEMPLATE("gemm multiplies matrices with leading dimensions, in both orders of B", T, float, double) {
  for (const bool b_transposed : {false, true}) {
    for (const bool accumulate : {false, true}) {
      for (const int num_threads : {0, 1, 2, 3, std::numeric_limits<int>::max()}) {
        CAPTURE(b_transposed);
        CAPTURE(accumulate);
        CAPTURE(num_threads);
        check_product<T>(b_transposed, accumulate, num_threads);
      }
    }
  }
}

TEST_CASE("gemm refuses strides that BLAS would refuse, and leaves C alone") {
  std::vector<float> storage;
  GemmArguments<float> product = small_product(storage);
  product.a_stride = 1;
  CHECK_THROWS_WITH_AS(gemm(product, 1), "headwise: gemm: a_stride is 1, expected 2 to 2147483647",
                       std::invalid_argument);
  product = small_product(storage);
  product.b_stride = -2;
  CHECK_THROWS_WITH_AS(gemm(product, 1), "headwise: gemm: b_stride is -2, expected 2 to 2147483647",
                       std::invalid_argument);
  product = small_product(storage);
  product.c_stride = std::int64_t{1} << 31;
  CHECK_THROWS_WITH_AS(gemm(product, 1), "headwise: gemm: c_stride is 2147483648, expected 2 to 2147483647",
                       std::invalid_argument);
  CHECK(std::all_of(storage.begin(), storage.end(), [](float value) { return value == 1.0F; }));
}

TEST_CASE("gemm of no rows or no columns touches nothing") {
  gemm<float>({.a_stride = 1, .b_stride = 1, .c_stride = 1}, 1);
  gemm<float>({.rows = 3, .a_stride = 1, .b_stride = 1, .c_stride = 1}, 1);
}

#ifdef _OPENMP
TEST_CASE("gemm leaves the caller's OpenMP thread limit as it was") {
  const int before = omp_get_max_threads();
  omp_set_num_threads(3);
  for (const int num_threads : {0, 1, 2}) {
    check_product<float>(false, false, num_threads);
    CHECK(omp_get_max_threads() == 3);
  }
  omp_set_num_threads(before);
}
#endif

#ifdef _OPENMP
TEST_CASE_TEMPLATE("gemm: a row's bits depend neither on the threads nor on what OpenMP allows", T, float, double) {
  struct Sizes {
    std::int64_t m, n, k;
  };
  for (const auto [m, n, k] : {Sizes{531, 101, 301}, Sizes{512, 64, 64}}) {  // many parts; two that are barely worth it
    Random random(1);
    const auto size = [](std::int64_t rows, std::int64_t columns) { return static_cast<std::size_t>(rows * columns); };
    std::vector<T> a(size(m, k)), b(size(k, n)), c(size(m, n));
    for (auto* matrix : {&a, &b}) {
      for (T& value : *matrix) value = static_cast<T>(random.normal());
    }
    const int before = omp_get_max_threads();
    for (const bool b_transposed : {false, true}) {
      const auto product = [&, m = m, n = n, k = k](int allowed, int num_threads) {
        omp_set_num_threads(allowed);
        gemm<T>({.rows = m,
                 .columns = n,
                 .inner = k,
                 .a = a.data(),
                 .a_stride = k,
                 .b = b.data(),
                 .b_stride = b_transposed ? k : n,
                 .b_transposed = b_transposed,
                 .c = c.data(),
                 .c_stride = n},
                num_threads);
        omp_set_num_threads(before);
        return c;
      };
      const std::vector<T> expected = product(1, 1);
      for (const int allowed : {1, 8}) {
        for (const int num_threads : {0, 2, 3}) {
          CAPTURE(allowed);
          CAPTURE(num_threads);
          const std::vector<T> result = product(allowed, num_threads);
          CHECK(std::memcmp(result.data(), expected.data(), result.size() * sizeof(T)) == 0);
        }
      }
    }
  }
}
#endif

TEST_CASE("blas_info describes the BLAS that is loaded") {
  const detail::BlasInfo info = detail::blas_info();
  CHECK(info.configuration.find("OpenBLAS") != std::string::npos);
  CHECK_FALSE(info.core.empty());
  CHECK((info.threading == "openmp" || info.threading == "pthread" || info.threading == "serial"));
}

}  // namespace headwise::test
