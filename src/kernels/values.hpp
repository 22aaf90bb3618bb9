// Weighted sum of values of one tile and key block: lanes are features, written straight to the rows of the output.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// Rows of a register tile to the output, behind what was accumulated there.
template <class T, int RowCount, int Vectors>
HEADWISE_INLINE void put_values(const ValueArguments<T, T>& block, int row, std::int64_t offset,
                                Vector<T> (&sum)[RowCount][Vectors]) {
  if (!block.first) {
    const T* const* const accumulated = block.accumulated != nullptr ? block.accumulated : block.output;
    static_for<RowCount>([&](auto r) __attribute__((always_inline)) {
      const Vector<T> factor(block.factor[row + r]);
      const T* const source = accumulated[row + r] + offset;
      static_for<Vectors>([&](auto f) __attribute__((always_inline)) {
        sum[r][f] = fma(load(source + f * lanes<T>), factor, sum[r][f]);
      });
    });
  }
  if (block.inverse != nullptr) {
    static_for<RowCount>([&](auto r) __attribute__((always_inline)) {
      const Vector<T> inverse(block.inverse[row + r]);
      static_for<Vectors>([&](auto f) __attribute__((always_inline)) { sum[r][f] *= inverse; });
    });
  }
  // All addresses are read before the first store, behind which the compiler must assume them changed.
  T* output[RowCount];
  static_for<RowCount>([&](auto r) __attribute__((always_inline)) { output[r] = opaque(block.output[row + r] + offset); });
  static_for<RowCount>([&](auto r) __attribute__((always_inline)) {
    static_for<Vectors>([&](auto f) __attribute__((always_inline)) { store(output[r] + f * lanes<T>, sum[r][f]); });
  });
}

/// The keys that `count` rows from `row` on may attend; per-row limits do not decrease.
struct KeyLimits {
  int begin;
  int end;
};

template <class T>
HEADWISE_INLINE KeyLimits key_limits(const ValueArguments<T, T>& block, int row, int count) {
  const int begin = block.first_key != nullptr ? block.first_key[row] : 0;
  const int end = block.last_key != nullptr ? block.last_key[row + count - 1] : block.keys;
  return {begin, std::max(begin, end)};
}

/// False where one of the sums is infinite or NaN.
template <class T, int RowCount, int Vectors>
HEADWISE_INLINE bool are_finite(const Vector<T> (&sum)[RowCount][Vectors]) {
  const Vector<T> zero(T(0));
  constexpr int chains = std::min(4, RowCount * Vectors);
  Vector<T> products[chains];
  static_for<RowCount * Vectors>([&](auto i) __attribute__((always_inline)) {
    if constexpr (i < chains) products[i] = sum[i / Vectors][i % Vectors] * zero;
    else products[i % chains] = fma(sum[i / Vectors][i % Vectors], zero, products[i % chains]);
  });
  static_for<chains - 1>([&](auto i) __attribute__((always_inline)) { products[0] += products[i + 1]; });
  return xsimd::all(products[0] == zero);
}

/// Rows that must be summed one by one, which is not done in the loops over tiles: a call would cost them registers.
template <class T>
struct LoneRows {
  int count = 0;
  int row[Isa::tile_vectors * lanes<T>];
};

/// A register tile of `RowCount` rows × `Vectors` feature vectors over the keys that some of the rows attend: every value
/// vector is loaded once per key and used for all rows, every weight is broadcast once and used for all features.
/// Where rows have limits, sums that are not finite are left to be done row by row.
template <class T, int RowCount, int Vectors>
HEADWISE_INLINE void value_tile(const ValueArguments<T, T>& block, int row, std::int64_t offset, LoneRows<T>& lone) {
  const KeyLimits keys = key_limits(block, row, RowCount);
  Vector<T> sum[RowCount][Vectors];
  static_for<RowCount>([&](auto r) __attribute__((always_inline)) {
    static_for<Vectors>([&](auto f) __attribute__((always_inline)) { sum[r][f] = Vector<T>(T(0)); });
  });
  const T* weight = block.weights + static_cast<std::int64_t>(keys.begin) * block.row_stride + row;
  const T* value = block.value.data + keys.begin * block.value.stride + offset;
#pragma GCC unroll 4
  for (int j = keys.begin; j < keys.end; ++j) {
    Vector<T> feature[Vectors];
    static_for<Vectors>([&](auto f) __attribute__((always_inline)) { feature[f] = load(value + f * lanes<T>); });
    static_for<RowCount>([&](auto r) __attribute__((always_inline)) {
      const Vector<T> factor(weight[r]);
      static_for<Vectors>([&](auto f) __attribute__((always_inline)) {
        sum[r][f] = fma(factor, feature[f], sum[r][f]);
      });
    });
    weight += block.row_stride;
    value += block.value.stride;
  }
  // A value that is not finite may be of a key that a row does not attend: times 0 it is NaN.
  if constexpr (RowCount > 1) {
    if ((block.first_key != nullptr || block.last_key != nullptr) && !are_finite<T>(sum)) [[unlikely]] {
      for (int r = row; r < row + RowCount; ++r) lone.row[lone.count++] = r;
      return;
    }
  }
  put_values(block, row, offset, sum);
}

/// All rows of one group of feature vectors: full register tiles, then one of exactly the rows that are left.
template <class T, int RowCount, int Vectors>
HEADWISE_INLINE void value_rows(const ValueArguments<T, T>& block, int row, std::int64_t offset, LoneRows<T>& lone) {
  if constexpr (RowCount > 0) {
    for (; row + RowCount <= block.rows; row += RowCount) {
      value_tile<T, RowCount, Vectors>(block, row, offset, lone);
    }
    if (row < block.rows) value_rows<T, RowCount - 1, Vectors>(block, row, offset, lone);
  }
}

template <class T, int Vectors>
[[gnu::noinline]] void value_features(const ValueArguments<T, T>& given, std::int64_t offset) {
  const ValueArguments<T, T> block = given;  // of its own: no store can change it
  LoneRows<T> lone;
  value_rows<T, Isa::value_rows(Vectors), Vectors>(block, 0, offset, lone);
  for (int i = 0; i < lone.count; ++i) value_tile<T, 1, Vectors>(block, lone.row[i], offset, lone);
}

template <class Function, int Vectors = Isa::max_value_vectors>
HEADWISE_INLINE void with_value_vectors(int vectors, Function&& function) {
  if constexpr (Vectors > 1) {
    if (vectors < Vectors) return with_value_vectors<Function, Vectors - 1>(vectors, static_cast<Function&&>(function));
  }
  function(std::integral_constant<int, Vectors>{});
}

template <class T>
void values(const ValueArguments<T, T>& block) {
  std::int64_t offset = 0;
  for (int left = block.value_vectors; left > 0;) {
    const int count = Isa::value_vectors(left);
    with_value_vectors(count, [&](auto vectors) { value_features<T, vectors>(block, offset); });
    offset += count * lanes<T>;
    left -= count;
  }
}

/// Rare: some value of the block is not finite, so excluded keys (weight −0) must not be multiplied. Attended keys are
/// added in the order and with the roundings of `values`.
template <class T>
void values_careful(const ValueArguments<T, T>& block) {
  for (int row = 0; row < block.rows; ++row) {
    for (int f = 0; f < block.value_vectors; ++f) {
      const std::int64_t offset = f * lanes<T>;
      Vector<T> sum[1][1] = {{Vector<T>(T(0))}};
      for (int j = 0; j < block.keys; ++j) {
        const T weight = block.weights[static_cast<std::int64_t>(j) * block.row_stride + row];
        if (std::signbit(weight)) continue;
        sum[0][0] = fma(Vector<T>(weight), load(block.value.data + j * block.value.stride + offset), sum[0][0]);
      }
      put_values(block, row, offset, sum);
    }
  }
}

}  // namespace
}  // namespace headwise::detail
