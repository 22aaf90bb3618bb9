// Copies into workspace tiles: queries transposed, far or strided key and value rows side by side, finiteness.
#pragma once

#include <algorithm>

#include "kernels/simd.hpp"
#include "kernels/transpose.hpp"

namespace headwise::detail {
namespace {

/// `Count` pieces of features from d on of one vector of query rows: 128-bit pieces of the rows, transposed in registers.
/// Addresses are read where they are used: too many to stay, they would wait in vector registers and leave those through
/// the ports that shuffle.
template <class T, bool Full, int Count>
HEADWISE_INLINE void pack_pieces(const T* const* query, xsimd::batch_bool<T, Isa::Arch> is_row, int d, Vector<T> factor,
                                 T* packed, int row_stride) {
  Vector<T> x[Count][piece<T>];
  static_for<piece<T>>([&](auto i) __attribute__((always_inline)) {
    static_for<Count>([&](auto p) __attribute__((always_inline)) {
      x[p][i] = load_pieces(query + i, piece<T>, d + p * piece<T>);
    });
  });
  static_for<Count>([&](auto p) __attribute__((always_inline)) {
    transpose_pieces(x[p]);
    static_for<piece<T>>([&](auto i) __attribute__((always_inline)) {
      const Vector<T> scaled = x[p][i] * factor;
      store(packed + (d + p * piece<T> + i) * row_stride, Full ? scaled : xsimd::select(is_row, scaled, Vector<T>(T(0))));
    });
  });
}

/// One vector of query rows, feature stride 1. Lanes from `count` on become 0; their rows need only be readable. Returns
/// how many features are done: whole pieces. Takes no vector by value: behind a function that does, g++ leaves the upper
/// halves of registers dirty, and the driver's code for sse2 runs at half its speed (N=16: 52 → 45 % of peak).
template <class T, bool Full>
[[gnu::noinline]] int pack_query_vector(const T* const* query, int count, int head_dim, T factor, T* packed,
                                        int row_stride) {
  constexpr int together = std::min(4, Isa::registers / (2 * piece<T>));
  T number[lanes<T>];
  for (int i = 0; i < lanes<T>; ++i) number[i] = static_cast<T>(i);
  const auto is_row = load(number) < Vector<T>(static_cast<T>(count));
  int d = 0;
  for (; d + together * piece<T> <= head_dim; d += together * piece<T>) {
    pack_pieces<T, Full, together>(query, is_row, d, Vector<T>(factor), packed, row_stride);
  }
  for (; d + piece<T> <= head_dim; d += piece<T>) {
    pack_pieces<T, Full, 1>(query, is_row, d, Vector<T>(factor), packed, row_stride);
  }
  return d;
}

/// Features from d on, of any stride, of one vector of query rows.
template <class T>
[[gnu::noinline]] void pack_features(const T* const* query, std::int64_t feature_stride, int count, int d, int head_dim,
                                     T factor, T* packed, int row_stride) {
  for (; d < head_dim; ++d) {
    T* target = packed + d * row_stride;
#pragma GCC unroll 1
    for (int r = 0; r < count; ++r) target[r] = query[r][d * feature_stride] * factor;
    for (int r = count; r < lanes<T>; ++r) target[r] = T(0);
  }
}

template <class T>
void pack_query(const T* const* query, std::int64_t feature_stride, int rows, int head_dim, T factor, T* packed,
                int row_stride) {
  for (int first = 0; first < row_stride; first += lanes<T>) {
    const int count = std::clamp(rows - first, 0, lanes<T>);
    int done = 0;
    if (feature_stride == 1 && count == lanes<T>) {
      done = pack_query_vector<T, true>(query + first, count, head_dim, factor, packed + first, row_stride);
    } else if (feature_stride == 1 && count > 0) {
      const T* repeated[lanes<T>];
      for (int r = 0; r < lanes<T>; ++r) repeated[r] = query[first + std::min(r, count - 1)];
      done = pack_query_vector<T, false>(repeated, count, head_dim, factor, packed + first, row_stride);
    }
    if (done < head_dim) {
      pack_features(query + first, feature_stride, count, done, head_dim, factor, packed + first, row_stride);
    }
  }
}

template <class T>
void pack_rows(const T* source, std::int64_t row_stride, std::int64_t feature_stride, int rows, int features,
               T* target, int target_stride) {
  for (int r = 0; r < rows; ++r, source += row_stride, target += target_stride) {
    int f = 0;
    if (feature_stride == 1) {
      for (; f + lanes<T> <= features; f += lanes<T>) store(target + f, load(source + f));
    }
    for (; f < features; ++f) target[f] = source[f * feature_stride];
    for (; f < target_stride; ++f) target[f] = T(0);
  }
}

/// Adds x·0 of every element of `Rows` rows to the sums: 0 for finite x and NaN otherwise. A sum for every row and vector
/// of a group, because one would wait for itself.
template <class T, int Rows, int Width>
HEADWISE_INLINE T add_products_with_zero(const T* rows, std::int64_t row_stride, int features,
                                         Vector<T> (&sum)[Rows * Width]) {
  const Vector<T> zero(T(0));
  T rest = T(0);
  static_for<Rows>([&](auto r) __attribute__((always_inline)) {
    const T* row = rows + r * row_stride;
    int f = 0;
    for (; f + Width * lanes<T> <= features; f += Width * lanes<T>) {
      static_for<Width>([&](auto i) __attribute__((always_inline)) {
        sum[r * Width + i] = fma(load(row + f + i * lanes<T>), zero, sum[r * Width + i]);
      });
    }
    for (; f + lanes<T> <= features; f += lanes<T>) sum[r * Width] = fma(load(row + f), zero, sum[r * Width]);
    for (; f < features; ++f) rest += row[f] * T(0);
  });
  return rest;
}

/// Of rows that have `Width` vectors, or less than twice as many.
template <class T, int Width>
[[gnu::noinline]] bool all_finite_in(const T* rows, std::int64_t row_stride, int count, int features) {
  constexpr int sums = 8, together = sums / Width;
  Vector<T> sum[sums];
  static_for<sums>([&](auto i) __attribute__((always_inline)) { sum[i] = Vector<T>(T(0)); });
  T rest = T(0);
  int r = 0;
  for (; r + together <= count; r += together, rows += together * row_stride) {
    rest += add_products_with_zero<T, together, Width>(rows, row_stride, features, sum);
  }
  for (; r < count; ++r, rows += row_stride) {
    Vector<T> last[1] = {sum[0]};
    rest += add_products_with_zero<T, 1, 1>(rows, row_stride, features, last);
    sum[0] = last[0];
  }
  static_for<sums - 1>([&](auto i) __attribute__((always_inline)) { sum[0] += sum[i + 1]; });
  return reduce(sum[0], [](T a, T b) { return a + b; }) + rest == T(0);
}

template <class T>
bool all_finite(const T* rows, std::int64_t row_stride, int count, int features) {
  if (features >= 4 * lanes<T>) return all_finite_in<T, 4>(rows, row_stride, count, features);
  if (features >= 2 * lanes<T>) return all_finite_in<T, 2>(rows, row_stride, count, features);
  return all_finite_in<T, 1>(rows, row_stride, count, features);
}

}  // namespace
}  // namespace headwise::detail
