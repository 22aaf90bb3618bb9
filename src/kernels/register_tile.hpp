// The inner product that score tiles and panels share: rows read in place and broadcast × packed vectors.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// `Count` rows, read in place one column after another. Four by four behind a pointer each: one offset register per row
/// would not leave enough registers, and g++ then keeps offsets in vector registers, inside the loop.
template <class T, int Count>
class BroadcastRows {
 public:
  HEADWISE_INLINE BroadcastRows(const T* rows, std::int64_t stride) : stride_(stride) {
    static_for<groups>([&](auto g) __attribute__((always_inline)) { first_[g] = opaque(rows + 4 * g * stride); });
  }

  /// sum[r][v] += row r's next `columns` elements × vectors v of as many packed rows, which `packed` passes: every vector
  /// is loaded once per column and used for all rows, every element is broadcast once and used for all vectors.
  template <int Vectors>
  HEADWISE_INLINE void multiply(int columns, const T*& packed, int packed_stride, Vector<T> (&sum)[Count][Vectors]) {
    constexpr int together = Isa::columns_together(Vectors);
    if constexpr (together > 1) {
      for (; columns >= together; columns -= together) multiply_together<together>(packed, packed_stride, sum);
    }
#pragma GCC unroll Isa::unrolled_columns
    for (const T* const end = packed + static_cast<std::int64_t>(columns) * packed_stride; packed < end;
         packed += packed_stride) {
      Vector<T> column[Vectors];
      static_for<Vectors>([&](auto v) __attribute__((always_inline)) { column[v] = load(packed + v * lanes<T>); });
      static_for<Count>([&](auto r) __attribute__((always_inline)) {
        const Vector<T> element(first_[r / 4][r % 4 * stride_]);
        static_for<Vectors>([&](auto v) __attribute__((always_inline)) { sum[r][v] = fma(element, column[v], sum[r][v]); });
      });
      static_for<groups>([&](auto g) __attribute__((always_inline)) { ++first_[g]; });
    }
  }

 private:
  /// The same for `Columns` columns, whose vectors stay in registers while four rows at a time are multiplied: elements lie
  /// at constant offsets from pointers then.
  template <int Columns, int Vectors>
  HEADWISE_INLINE void multiply_together(const T*& packed, int packed_stride, Vector<T> (&sum)[Count][Vectors]) {
    Vector<T> column[Columns][Vectors];
    static_for<Columns>([&](auto c) __attribute__((always_inline)) {
      static_for<Vectors>([&](auto v) __attribute__((always_inline)) { column[c][v] = load(packed + v * lanes<T>); });
      packed += packed_stride;
    });
    static_for<groups>([&](auto g) __attribute__((always_inline)) {
      constexpr int rows = std::min(4, Count - 4 * g);
      const T* row[rows];
      row[0] = first_[g];
      static_for<rows - 1>([&](auto r) __attribute__((always_inline)) { row[r + 1] = opaque(row[r] + stride_); });
      static_for<Columns>([&](auto c) __attribute__((always_inline)) {
        static_for<rows>([&](auto r) __attribute__((always_inline)) {
          const Vector<T> element(row[r][c]);
          static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
            sum[4 * g + r][v] = fma(element, column[c][v], sum[4 * g + r][v]);
          });
        });
      });
      first_[g] += Columns;
    });
  }

  static constexpr int groups = (Count + 3) / 4;
  const T* first_[groups];
  std::int64_t stride_;
};

}  // namespace
}  // namespace headwise::detail
