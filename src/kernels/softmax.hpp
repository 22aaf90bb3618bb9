// Online softmax of a score tile: reference, exponentials, sums. Everything is per lane, nothing is horizontal.
#pragma once

#include "kernels/exp2.hpp"
#include "kernels/kernel_table.hpp"
#include "kernels/scores.hpp"
#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// How far, in powers of two, a maximum may pass the reference before the reference moves: weights stay below 2^8.
template <class T>
constexpr T reference_slack = T(8);

template <class T>
void start(const RowState<T>& state, int row_stride) {
  for (int row = 0; row < row_stride; row += lanes<T>) {
    store(state.reference + row, Vector<T>(-infinity<T>));
    store(state.sum + row, Vector<T>(T(0)));
  }
}

/// Moves the references of one vector of rows to the maxima that passed them by more.
template <class T>
HEADWISE_INLINE void move_reference(const RowState<T>& state, int row) {
  const Vector<T> zero(T(0));
  const Vector<T> before = load(state.reference + row), largest = load(state.maximum + row);
  const auto moves = largest > before + Vector<T>(reference_slack<T>);
  if (!xsimd::any(moves)) [[likely]] {
    store(state.factor + row, Vector<T>(T(1)));
    return;
  }
  const Vector<T> reference = xsimd::select(moves, largest, before);
  if (xsimd::all(before == Vector<T>(-infinity<T>))) {  // no keys yet: nothing to scale
    store(state.factor + row, Vector<T>(T(1)));
    store(state.reference + row, reference);
    return;
  }
  // Operands are selected before they are subtracted: −∞ − (−∞) would raise FE_INVALID.
  const auto kept = (!moves) | (before == Vector<T>(-infinity<T>));
  const Vector<T> factor =
      exp2(settled(xsimd::select(kept, zero, before)) - settled(xsimd::select(kept, zero, reference)));
  store(state.factor + row, factor);
  store(state.reference + row, reference);
  store(state.sum + row, load(state.sum + row) * factor);
}

/// Sums and references of the rows of a span.
template <class T, int Vectors>
struct SpanRows {
  Vector<T> sum[Vectors], shift[Vectors];
};

/// Weights of `Keys` keys from `scores` on, and their sums.
template <class T, int Vectors, int Keys, bool Mark>
HEADWISE_INLINE void weigh_keys(T* scores, std::int64_t row_stride, SpanRows<T, Vectors>& rows) {
  const auto address = [&](int i) __attribute__((always_inline)) {
    return scores + i / Vectors * row_stride + i % Vectors * lanes<T>;
  };
  Vector<T> score[Keys * Vectors], weight[Keys * Vectors];
  static_for<Keys * Vectors>([&](auto i) __attribute__((always_inline)) {
    score[i] = load(address(i));
    weight[i] = score[i] - rows.shift[i % Vectors];
  });
  exp2_all<T>(weight);
  static_for<Keys * Vectors>([&](auto i) __attribute__((always_inline)) {
    rows.sum[i % Vectors] += weight[i];
    if constexpr (Mark) {
      weight[i] = xsimd::select(score[i] == Vector<T>(-infinity<T>), Vector<T>(T(-0.0)), weight[i]);
    }
    store(address(i), weight[i]);
  });
}

/// Scores of some keys of some vectors of rows, to become weights.
template <class T>
struct WeighedSpan {
  T* scores;
  std::int64_t row_stride;
  int keys;
  const T* reference;  ///< per row
  T* sums;             ///< per row: the weights are added
};

/// Weights of one span, and their sums over its keys.
template <class T, int Vectors, bool Mark>
[[gnu::noinline]] void weigh_span(const WeighedSpan<T>& given) {
  const WeighedSpan<T> span = given;  // of its own: no store can change it
  const Vector<T> none(-infinity<T>);
  SpanRows<T, Vectors> rows;
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    rows.sum[v] = load(span.sums + v * lanes<T>);
    const Vector<T> reference = load(span.reference + v * lanes<T>);
    rows.shift[v] = xsimd::select(reference == none, Vector<T>(T(0)), reference);
  });
  T* scores = span.scores;
  constexpr int together = Isa::weight_keys(Vectors);
  int j = 0;
#pragma GCC unroll 2
  for (; j + together <= span.keys; j += together, scores += together * span.row_stride) {
    weigh_keys<T, Vectors, together, Mark>(scores, span.row_stride, rows);
  }
  if constexpr (together > 1) {
    for (; j < span.keys; ++j, scores += span.row_stride) weigh_keys<T, Vectors, 1, Mark>(scores, span.row_stride, rows);
  }
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) { store(span.sums + v * lanes<T>, rows.sum[v]); });
}

/// Pairs outside a span's vectors are excluded: weight 0.
template <class T>
HEADWISE_INLINE void clear_outside(T* scores, int row_stride, const KeySpan& span, T zero) {
  const int begin = span.first_vector * lanes<T>, end = begin + span.vectors * lanes<T>;
  if (begin == 0 && end == row_stride) return;
  scores += static_cast<std::int64_t>(span.first_key) * row_stride;
  for (int j = 0; j < span.keys; ++j, scores += row_stride) {
    for (int row = 0; row < begin; row += lanes<T>) store(scores + row, Vector<T>(zero));
    for (int row = end; row < row_stride; row += lanes<T>) store(scores + row, Vector<T>(zero));
  }
}

template <class T>
void softmax(const BlockArguments<T, T>& block, bool mark_excluded) {
  const RowState<T>& state = block.state;
  T sums[Isa::tile_vectors * lanes<T>];
  for (int row = 0; row < block.row_stride; row += lanes<T>) {
    move_reference(state, row);
    store(sums + row, Vector<T>(T(0)));
  }
  for (int s = 0; s < block.num_spans; ++s) {
    const KeySpan& span = block.spans[s];
    const int row = span.first_vector * lanes<T>;
    const WeighedSpan<T> weighed{.scores = block.scores + static_cast<std::int64_t>(span.first_key) * block.row_stride + row,
                                 .row_stride = block.row_stride,
                                 .keys = span.keys,
                                 .reference = state.reference + row,
                                 .sums = sums + row};
    with_vectors(span.vectors, [&](auto vectors) {
      if (mark_excluded) {
        weigh_span<T, vectors, true>(weighed);
      } else {
        weigh_span<T, vectors, false>(weighed);
      }
    });
    clear_outside(block.scores, block.row_stride, span, mark_excluded ? T(-0.0) : T(0));
  }
  for (int row = 0; row < block.row_stride; row += lanes<T>) {
    store(state.sum + row, load(state.sum + row) + load(sums + row));
  }
}

template <class T>
void finish(const RowState<T>& state, int row_stride) {
  const Vector<T> zero(T(0)), one(T(1));
  for (int row = 0; row < row_stride; row += lanes<T>) {
    const Vector<T> sum = load(state.sum + row);
    const auto dead = sum == zero;
    store(state.inverse + row, xsimd::select(dead, zero, one / settled(xsimd::select(dead, one, sum))));
  }
}

}  // namespace
}  // namespace headwise::detail
