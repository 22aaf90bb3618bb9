// Copies into workspace tiles: queries transposed, far or strided key and value rows side by side, finiteness.
#pragma once

#include <algorithm>

#include "kernels/simd.hpp"
#include "kernels/transpose.hpp"

namespace headwise::detail {
namespace {

/// One vector of query rows, feature stride 1: 128-bit pieces of the rows, transposed in registers. Lanes from `count` on
/// become 0; their rows need only be readable.
template <class T, bool Full>
HEADWISE_INLINE int pack_query_vector(const T* const* query, int count, int head_dim, Vector<T> factor, T* packed,
                                      int row_stride) {
  T number[lanes<T>];
  for (int i = 0; i < lanes<T>; ++i) number[i] = static_cast<T>(i);
  const auto is_row = load(number) < Vector<T>(static_cast<T>(count));
  const T* rows[lanes<T>];  // of its own: no store can change them
  static_for<lanes<T>>([&](auto i) __attribute__((always_inline)) { rows[i] = query[i]; });
  int d = 0;
  for (; d + piece<T> <= head_dim; d += piece<T>) {
    Vector<T> x[piece<T>];
    static_for<piece<T>>([&](auto i) __attribute__((always_inline)) {
      x[i] = load_pieces(rows + i, piece<T>, d);
    });
    transpose_pieces(x);
    static_for<piece<T>>([&](auto i) __attribute__((always_inline)) {
      const Vector<T> scaled = x[i] * factor;
      store(packed + (d + i) * row_stride, Full ? scaled : xsimd::select(is_row, scaled, Vector<T>(T(0))));
    });
  }
  return d;
}

template <class T>
void pack_query(const T* const* query, std::int64_t feature_stride, int rows, int head_dim, T factor, T* packed,
                int row_stride) {
  for (int first = 0; first < row_stride; first += lanes<T>) {
    const int count = std::clamp(rows - first, 0, lanes<T>);
    int done = 0;
    if (feature_stride == 1 && count == lanes<T>) {
      done = pack_query_vector<T, true>(query + first, count, head_dim, Vector<T>(factor), packed + first, row_stride);
    } else if (feature_stride == 1 && count > 0) {
      const T* repeated[lanes<T>];
      for (int r = 0; r < lanes<T>; ++r) repeated[r] = query[first + std::min(r, count - 1)];
      done = pack_query_vector<T, false>(repeated, count, head_dim, Vector<T>(factor), packed + first, row_stride);
    }
    for (int d = done; d < head_dim; ++d) {
      T* target = packed + d * row_stride + first;
      for (int r = 0; r < count; ++r) target[r] = query[first + r][d * feature_stride] * factor;
      for (int r = count; r < lanes<T>; ++r) target[r] = T(0);
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

template <class T>
bool all_finite(const T* rows, std::int64_t row_stride, int count, int features) {
  constexpr int width = 4, together = 2;
  Vector<T> sum[together * width];
  static_for<together * width>([&](auto i) __attribute__((always_inline)) { sum[i] = Vector<T>(T(0)); });
  T rest = T(0);
  int r = 0;
  for (; r + together <= count; r += together, rows += together * row_stride) {
    rest += add_products_with_zero<T, together, width>(rows, row_stride, features, sum);
  }
  Vector<T> last[width];
  static_for<width>([&](auto i) __attribute__((always_inline)) { last[i] = sum[i] + sum[width + i]; });
  if (r < count) rest += add_products_with_zero<T, 1, width>(rows, row_stride, features, last);
  const Vector<T> all = (last[0] + last[1]) + (last[2] + last[3]);
  return reduce(all, [](T a, T b) { return a + b; }) + rest == T(0);
}

}  // namespace
}  // namespace headwise::detail
