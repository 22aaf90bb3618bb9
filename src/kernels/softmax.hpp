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
  // Operands are selected before they are subtracted: −∞ − (−∞) would raise FE_INVALID.
  const auto kept = (!moves) | (before == Vector<T>(-infinity<T>));
  const Vector<T> factor =
      exp2(settled(xsimd::select(kept, zero, before)) - settled(xsimd::select(kept, zero, reference)));
  store(state.factor + row, factor);
  store(state.reference + row, reference);
  store(state.sum + row, load(state.sum + row) * factor);
}

/// Weights of one span, and their sums over its keys.
template <class T, int Vectors, bool Mark>
[[gnu::noinline]] void weigh_span(const BlockArguments<T, T>& block, const KeySpan& span, T* sums) {
  const int row = span.first_vector * lanes<T>;
  const Vector<T> none(-infinity<T>);
  Vector<T> sum[Vectors], shift[Vectors];
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    sum[v] = load(sums + row + v * lanes<T>);
    const Vector<T> reference = load(block.state.reference + row + v * lanes<T>);
    shift[v] = xsimd::select(reference == none, Vector<T>(T(0)), reference);
  });
  T* scores = block.scores + static_cast<std::int64_t>(span.first_key) * block.row_stride + row;
#pragma GCC unroll 2
  for (int j = 0; j < span.keys; ++j, scores += block.row_stride) {
    static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
      const Vector<T> score = load(scores + v * lanes<T>);
      Vector<T> weight = exp2(score - shift[v]);
      sum[v] += weight;
      if constexpr (Mark) weight = xsimd::select(score == none, Vector<T>(T(-0.0)), weight);
      store(scores + v * lanes<T>, weight);
    });
  }
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) { store(sums + row + v * lanes<T>, sum[v]); });
}

/// Pairs outside a span's vectors are excluded: weight 0.
template <class T>
HEADWISE_INLINE void clear_outside(const BlockArguments<T, T>& block, const KeySpan& span, T zero) {
  const int begin = span.first_vector * lanes<T>, end = begin + span.vectors * lanes<T>;
  T* scores = block.scores + static_cast<std::int64_t>(span.first_key) * block.row_stride;
  for (int j = 0; j < span.keys; ++j, scores += block.row_stride) {
    for (int row = 0; row < begin; row += lanes<T>) store(scores + row, Vector<T>(zero));
    for (int row = end; row < block.row_stride; row += lanes<T>) store(scores + row, Vector<T>(zero));
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
    with_vectors(span.vectors, [&](auto vectors) {
      if (mark_excluded) {
        weigh_span<T, vectors, true>(block, span, sums);
      } else {
        weigh_span<T, vectors, false>(block, span, sums);
      }
    });
    clear_outside(block, span, mark_excluded ? T(-0.0) : T(0));
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
