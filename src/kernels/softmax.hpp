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

/// Up to this size of the reference, score accumulators start at −reference instead of 0: further off, adding scores
/// to it would lose their low bits (the first keys biased by −1e4 would spoil all later ones). Scores of normal data stay
/// within it; at 32, biases of deviation 3 made the largest error six times that of scores that start at 0.
template <class T>
constexpr T largest_start = T(8);

/// Moves the references of one vector of rows and says what the exponential pass must subtract.
template <class T>
HEADWISE_INLINE void move_reference(const RowState<T>& state, int row, bool may_start_there) {
  const Vector<T> zero(T(0)), none(-infinity<T>);
  const Vector<T> before = load(state.reference + row);
  const Vector<T> start = load(state.start + row);
  const Vector<T> largest = load(state.maximum + row);
  // With a start of −reference the maximum is relative already; such a reference is finite, and 0 starts at 0 too.
  const auto relative = start != zero;
  const auto fresh = before == none;
  const Vector<T> offset = settled(xsimd::select(relative | fresh, zero, before));
  const Vector<T> growth = xsimd::select(fresh, largest, largest - offset);
  const auto moves = xsimd::select(fresh, largest, growth - Vector<T>(reference_slack<T>)) >
                     xsimd::select(fresh, none, zero);
  const Vector<T> absolute = xsimd::select(relative, largest - start, largest);
  const Vector<T> reference = xsimd::select(moves, absolute, before);
  const auto alive = reference != none;
  // Operands are selected before they are subtracted: −∞ − (−∞) would raise FE_INVALID.
  const auto kept = fresh | !moves;
  const Vector<T> factor =
      exp2(settled(xsimd::select(kept, zero, before)) - settled(xsimd::select(kept, zero, reference)));
  store(state.factor + row, factor);
  store(state.reference + row, reference);
  store(state.shift + row, xsimd::select(alive, xsimd::select(relative, reference + start, reference), zero));
  store(state.sum + row, load(state.sum + row) * factor);
  const auto small = xsimd::abs(reference) <= Vector<T>(may_start_there ? largest_start<T> : T(-1));
  store(state.start + row, xsimd::select(small, zero - reference, zero));
}

/// Whether no row of a vector changes its reference and accumulators started there: nothing to do, factor 1, no shift.
template <class T>
HEADWISE_INLINE bool reference_stays(const RowState<T>& state, int row) {
  const Vector<T> start = load(state.start + row), reference = load(state.reference + row);
  return xsimd::all((start == -reference) & (load(state.maximum + row) <= Vector<T>(reference_slack<T>)));
}

/// Weights of one span, and their sums over its keys.
template <class T, int Vectors, bool Shift, bool Mark>
HEADWISE_INLINE void weigh_span(const BlockArguments<T, T>& block, const KeySpan& span, T* sums) {
  const int row = span.first_vector * lanes<T>;
  Vector<T> sum[Vectors], shift[Vectors];
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    sum[v] = load(sums + row + v * lanes<T>);
    shift[v] = load(block.state.shift + row + v * lanes<T>);
  });
  T* scores = block.scores + static_cast<std::int64_t>(span.first_key) * block.row_stride + row;
#pragma GCC unroll 2
  for (int j = 0; j < span.keys; ++j, scores += block.row_stride) {
    static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
      const Vector<T> score = load(scores + v * lanes<T>);
      Vector<T> weight = exp2(Shift ? score - shift[v] : score);
      sum[v] += weight;
      if constexpr (Mark) weight = xsimd::select(score == Vector<T>(-infinity<T>), Vector<T>(T(-0.0)), weight);
      store(scores + v * lanes<T>, weight);
    });
  }
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) { store(sums + row + v * lanes<T>, sum[v]); });
}

template <class T, int Vectors, bool Shift, bool Mark>
[[gnu::noinline]] void weigh(const BlockArguments<T, T>& block, const KeySpan& span, T* sums) {
  weigh_span<T, Vectors, Shift, Mark>(block, span, sums);
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
  bool shifted = false;
  for (int row = 0; row < block.row_stride; row += lanes<T>) {
    if (reference_stays(state, row)) [[likely]] {
      store(state.factor + row, Vector<T>(T(1)));
      store(state.shift + row, Vector<T>(T(0)));
    } else {
      // A softcap acts on scores that start at 0.
      move_reference(state, row, block.adjustment.softcap == T(0));
      shifted = shifted || xsimd::any(load(state.shift + row) != Vector<T>(T(0)));
    }
    store(sums + row, Vector<T>(T(0)));
  }
  for (int s = 0; s < block.num_spans; ++s) {
    const KeySpan& span = block.spans[s];
    with_vectors(span.vectors, [&](auto vectors) {
      if (mark_excluded) {
        weigh<T, vectors, true, true>(block, span, sums);
      } else if (shifted) {
        weigh<T, vectors, true, false>(block, span, sums);
      } else {
        weigh<T, vectors, false, false>(block, span, sums);
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
