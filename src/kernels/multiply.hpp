// One panel of a matrix product: lanes are columns of the packed right factor, rows of the left one are read in place
// and broadcast.
#pragma once

#include <algorithm>

#include "kernels/kernel_table.hpp"
#include "kernels/prefetch.hpp"
#include "kernels/register_tile.hpp"
#include "kernels/scores.hpp"
#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// The first `count` elements of a vector, the others 0.
template <class T>
HEADWISE_INLINE Vector<T> load_first(const T* source, int count) {
  if (count >= lanes<T>) return load(source);
  T lane[lanes<T>] = {};
  std::copy_n(source, std::max(count, 0), lane);
  return load(static_cast<const T*>(lane));
}

template <class T>
HEADWISE_INLINE void store_first(T* target, Vector<T> x, int count) {
  if (count >= lanes<T>) return store(target, x);
  T lane[lanes<T>];
  store(lane, x);
  std::copy_n(lane, std::max(count, 0), target);
}

/// A register tile of `RowCount` rows × `Vectors` vectors of columns.
template <class T, int Vectors, int RowCount>
HEADWISE_INLINE void multiply_tile(const PanelArguments<T>& panel, const T* left, int row, T* result) {
  constexpr int line = 64 / static_cast<int>(sizeof(T));
  Vector<T> sum[RowCount][Vectors];
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    const int columns = panel.columns - v * lanes<T>;
    static_for<RowCount>([&](auto r) __attribute__((always_inline)) {
      sum[r][v] = panel.start != nullptr ? load(panel.start + v * lanes<T>)
                                         : load_first(result + r * panel.result_stride + v * lanes<T>, columns);
    });
  });
  BroadcastRows<T, RowCount> rows(left, panel.left_stride);
  const T* right = panel.right;
  // Prefetched: where the rows of the next register tile begin, which the hardware then follows, and as many of those that
  // the driver packs next.
  const T* next_rows = left + RowCount * panel.left_stride;
  const T* ahead_rows = row < panel.ahead_rows ? panel.ahead.data + row * panel.ahead.stride : nullptr;
  for (int i = 0; i < panel.inner; i += line) {
    if (i < 2 * line) prefetch_lines<RowCount, true>(Rows<T>{next_rows, panel.left_stride}, i);
    if (ahead_rows != nullptr) prefetch_lines<RowCount, false>(Rows<T>{ahead_rows, panel.ahead.stride}, i);
    rows.multiply(std::min(line, panel.inner - i), right, panel.right_stride, sum);
  }
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    const int columns = panel.columns - v * lanes<T>;
    static_for<RowCount>([&](auto r) __attribute__((always_inline)) {
      store_first(result + r * panel.result_stride + v * lanes<T>, sum[r][v], columns);
    });
  });
}

/// The rows that do not fill a register tile: tiles of half the size, a quarter …
template <class T, int Vectors, int RowCount>
HEADWISE_INLINE void multiply_rest(const PanelArguments<T>& panel, const T* left, int row, T* result) {
  if constexpr (RowCount > 0) {
    if (panel.rows - row >= RowCount) {
      multiply_tile<T, Vectors, RowCount>(panel, left, row, result);
      left += RowCount * panel.left_stride;
      result += RowCount * panel.result_stride;
      row += RowCount;
    }
    multiply_rest<T, Vectors, RowCount / 2>(panel, left, row, result);
  }
}

template <class T, int Vectors>
[[gnu::noinline]] void multiply_rows(const PanelArguments<T>& panel) {
  constexpr int tile = Isa::score_keys(Vectors);
  const T* left = panel.left;
  T* result = panel.result;
  int row = 0;
  for (; panel.rows - row >= tile; row += tile) {
    multiply_tile<T, Vectors, tile>(panel, left, row, result);
    left += tile * panel.left_stride;
    result += tile * panel.result_stride;
  }
  multiply_rest<T, Vectors, largest_power_below(tile)>(panel, left, row, result);
}

template <class T>
void multiply_panel(const PanelArguments<T>& panel) {
  with_vectors((panel.columns + lanes<T> - 1) / lanes<T>, [&](auto vectors) { multiply_rows<T, vectors>(panel); });
}

}  // namespace
}  // namespace headwise::detail
