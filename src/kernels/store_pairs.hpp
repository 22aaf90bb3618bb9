// Scores and weights of a tile to the caller's rows: lanes are query rows here, keys there.
#pragma once

#include <algorithm>

#include "kernels/exp2.hpp"
#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"
#include "kernels/softmax.hpp"
#include "kernels/transpose.hpp"

namespace headwise::detail {
namespace {

/// Writes finish(score, row) of every pair to target[row][key · key_stride], or adds it there, row by row in order.
/// Whole vectors of keys leave at once: pieces of the cache lines of so many rows would push each other out of the
/// first level.
template <class T, bool Add, class Finish>
HEADWISE_INLINE void store_pairs(const BlockArguments<T, T>& block, int keys, int rows, T* const* target,
                                 std::int64_t key_stride, Finish finish) {
  for (int s = 0; s < block.num_spans; ++s) {
    clear_outside(block.scores, block.row_stride, block.spans[s], -infinity<T>);
  }
  for (int j = 0; j < keys; j += lanes<T>) {
    const int num_keys = std::min(lanes<T>, keys - j);
    for (int row = 0; row < rows; row += lanes<T>) {
      const int num_rows = std::min(lanes<T>, rows - row);
      const T* scores = block.scores + static_cast<std::int64_t>(j) * block.row_stride + row;
      Vector<T> x[lanes<T>];
      if (num_keys == lanes<T> && num_rows == lanes<T> && key_stride == 1) [[likely]] {
        static_for<lanes<T>>([&](auto i) __attribute__((always_inline)) {
          x[i] = finish(load(scores + i * block.row_stride), row);
        });
        transpose(x);
        static_for<lanes<T>>([&](auto r) __attribute__((always_inline)) {
          T* to = target[row + r] + j;
          store(to, Add ? load(to) + x[r] : x[r]);
        });
        continue;
      }
      for (int i = 0; i < num_keys; ++i) {
        T lane[lanes<T>];
        store(lane, finish(load(scores + i * block.row_stride), row));
        for (int r = 0; r < num_rows; ++r) {
          T* to = target[row + r] + (j + i) * key_stride;
          *to = Add ? *to + lane[r] : lane[r];
        }
      }
    }
  }
}

template <class T>
void store_scores(const BlockArguments<T, T>& block, int keys, int rows, T* const* target, std::int64_t key_stride) {
  store_pairs<T, false>(
      block, keys, rows, target, key_stride, [](Vector<T> score, int) __attribute__((always_inline)) { return score; });
}

/// 2^(score − reference) · inverse, 0 where the pair is excluded.
template <class T>
HEADWISE_INLINE Vector<T> final_weight(Vector<T> score, Vector<T> reference, Vector<T> inverse) {
  const Vector<T> none(-infinity<T>), zero(T(0));
  const Vector<T> shift = xsimd::select(reference == none, zero, reference);
  return xsimd::select(score == none, zero, exp2(score - shift) * inverse);
}

template <class T>
void add_weights(const BlockArguments<T, T>& block, int keys, int rows, T* const* target, std::int64_t key_stride) {
  const RowState<T> state = block.state;
  store_pairs<T, true>(
      block, keys, rows, target, key_stride, [&](Vector<T> score, int row) __attribute__((always_inline)) {
        return final_weight(score, load(state.reference + row), load(state.inverse + row));
      });
}

template <class T>
void weigh_row(T* scores, std::int64_t key_stride, std::int64_t keys, T reference, T inverse) {
  const Vector<T> references(reference), inverses(inverse);
  std::int64_t j = 0;
  if (key_stride == 1) {
    for (; j + lanes<T> <= keys; j += lanes<T>) store(scores + j, final_weight(load(scores + j), references, inverses));
  }
  for (; j < keys; j += lanes<T>) {
    const int count = static_cast<int>(std::min<std::int64_t>(lanes<T>, keys - j));
    T lane[lanes<T>];
    for (int i = 0; i < lanes<T>; ++i) lane[i] = scores[(j + std::min(i, count - 1)) * key_stride];
    store(lane, final_weight(load(lane), references, inverses));
    for (int i = 0; i < count; ++i) scores[(j + i) * key_stride] = lane[i];
  }
}

}  // namespace
}  // namespace headwise::detail
