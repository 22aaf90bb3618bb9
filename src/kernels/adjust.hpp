// What happens to scores between the product and the softmax: softcap, ALiBi, bias.
#pragma once

#include "kernels/exp2.hpp"
#include "kernels/kernel_table.hpp"
#include "kernels/mask.hpp"
#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// cap · tanh(x / cap). With e = 2^z − 1, z = 2·log2(e)·|x|/cap, tanh = e / (e + 2); e comes from 2^n − 1 (exact) and
/// 2^n·(2^r − 1), whose polynomial r·q(r) keeps its relative accuracy down to 0.
template <class T>
HEADWISE_INLINE Vector<T> soft_cap(Vector<T> x, Vector<T> cap, Vector<T> inverse_cap) {
  using Integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  using Integers = xsimd::batch<Integer, Isa::Arch>;
  constexpr int mantissa_bits = std::numeric_limits<T>::digits - 1;
  // tanh is 1 to the last bit beyond 9 (float) and 19.1 (double). NaN passes: it is the second operand.
  constexpr T largest = sizeof(T) == 4 ? T(28) : T(58);
  const Vector<T> product = xsimd::abs(x * inverse_cap) * Vector<T>(T(2.885390081777926814719849362003784));
  const Vector<T> z = xsimd::min(Vector<T>(largest), product);
  const Vector<T> magic(T(3) * T(Integer(1) << (mantissa_bits - 1)));
  const Vector<T> shifted = z + magic;
  const Vector<T> r = z - (shifted - magic);
  const Integers exponent = xsimd::bitwise_cast<Integers>(shifted) << mantissa_bits;
  const Vector<T> one(T(1));
  const Vector<T> power = xsimd::bitwise_cast<Vector<T>>(exponent + xsimd::bitwise_cast<Integers>(one));
  Vector<T> q;
  // Minimax of (2^r − 1)/r on [−1/2, 1/2] in relative error.
  if constexpr (sizeof(T) == 4) {
    constexpr float c[] = {0.6931471879f,   0.2402264980f,   0.05550357505f,
                           0.009618237351f, 0.001339069736f, 0.0001540351219f};
    q = polynomial<T>(r, c);
  } else {
    constexpr double c[] = {0.6931471805599453093,    0.2402265069591007129,    0.05550410866482162639,
                            0.00961812910762843708,   0.001333355814640668789,  0.0001540353039346594941,
                            0.00001525273384130386989, 1.321548672148866759e-6, 1.017805720774455465e-7,
                            7.054932247624709073e-9,  4.455798004222968687e-10, 2.567842318931381143e-11};
    q = polynomial<T>(r, c);
  }
  const Vector<T> e = fma(power, r * q, power - one);
  const Vector<T> capped = cap * (e / (e + Vector<T>(T(2))));
  return xsimd::select(x < Vector<T>(T(0)), -capped, capped);
}

/// Largest bias whose product with `unit` is finite; one step below the quotient, whichever way both round.
template <class T>
HEADWISE_INLINE T largest_bias(T unit) {
  constexpr T largest = std::numeric_limits<T>::max();
  return unit > T(1) ? largest / unit * (T(1) - std::numeric_limits<T>::epsilon()) : largest;
}

/// bias · unit, kept finite where the bias is: clamped before the product, which would raise FE_OVERFLOW.
template <class T>
HEADWISE_INLINE Vector<T> scaled_bias(Vector<T> bias, T unit) {
  const Vector<T> limit(largest_bias(unit));
  const auto beyond = (xsimd::abs(bias) > limit) & (xsimd::abs(bias) <= Vector<T>(std::numeric_limits<T>::max()));
  const Vector<T> clamped = xsimd::select(bias < Vector<T>(T(0)), -limit, limit);
  return settled(xsimd::select(beyond, clamped, bias)) * Vector<T>(unit);
}

/// Whether rows lie one element apart, as a relative bias has them: a vector of them is then a load, for any key.
template <class T>
HEADWISE_INLINE bool rows_are_apart_by(const T* const* rows, std::int64_t step) {
  for (int r = 1; r < lanes<T>; ++r) {
    if (rows[r] != rows[0] + r * step) return false;
  }
  return true;
}

template <class T>
BlockCoverage pack_bias(const T* const* bias, std::int64_t key_stride, int keys, int rows, T unit, T* packed,
                        int row_stride) {
  const Vector<T> none(-infinity<T>), limit(largest_bias(unit)), factor(unit);
  bool excluded = false, attended = false;
  const auto put = [&](Vector<T> x, T* target) __attribute__((always_inline)) {
    if (xsimd::all(xsimd::abs(x) <= limit)) [[likely]] {
      attended = true;
      store(target, x * factor);
    } else {
      const auto is_none = x == none;
      excluded = excluded || xsimd::any(is_none);
      attended = attended || !xsimd::all(is_none);
      store(target, scaled_bias(x, unit));
    }
  };
  constexpr int line = 64 / static_cast<int>(sizeof(T));
  for (int first = 0; first < row_stride; first += lanes<T>) {
    const int count = std::clamp(rows - first, 0, lanes<T>);
    const T* const* row = bias + first;
    T* target = packed + first;
    int j = 0;
    if (count == lanes<T> && rows_are_apart_by(row, -1)) {
      for (; j < keys; ++j) put(reversed(load(row[lanes<T> - 1] + j * key_stride)), target + j * row_stride);
    } else if (count == lanes<T> && rows_are_apart_by(row, 1)) {
      for (; j < keys; ++j) put(load(row[0] + j * key_stride), target + j * row_stride);
    } else if (count == lanes<T> && key_stride == 1) {
      for (; j + piece<T> <= keys; j += piece<T>) {
        // So many rows are too many streams for the hardware: the same keys of the next block.
        if (j % line == 0) {
          static_for<lanes<T>>([&](auto r) __attribute__((always_inline)) { prefetch_far(row[r] + keys + j); });
        }
        Vector<T> x[piece<T>];
        static_for<piece<T>>([&](auto i) __attribute__((always_inline)) { x[i] = load_pieces(row + i, piece<T>, j); });
        transpose_pieces(x);
        static_for<piece<T>>([&](auto i) __attribute__((always_inline)) { put(x[i], target + (j + i) * row_stride); });
      }
    }
    for (; j < keys; ++j) {
      T lane[lanes<T>];
      // Lanes without a row repeat the last one, so that they say nothing of their own.
      for (int r = 0; r < lanes<T>; ++r) lane[r] = bias[std::min(first + r, rows - 1)][j * key_stride];
      put(load(lane), target + j * row_stride);
    }
  }
  return {attended, excluded};
}

/// Adjusts and masks the scores of a span, and takes their maxima.
template <class T, int Vectors>
[[gnu::noinline]] void adjust_span(const BlockArguments<T, T>& block, const KeySpan& span) {
  const int row = span.first_vector * lanes<T>;
  const ScoreAdjustment<T>& adjustment = block.adjustment;
  const PairMask<T> mask = pair_mask(block, span);
  const Vector<T> cap(adjustment.softcap), inverse_cap(adjustment.softcap == T(0) ? T(0) : T(1) / adjustment.softcap);
  Vector<T> largest[Vectors];
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    largest[v] = load(block.state.maximum + row + v * lanes<T>);
  });
  for (int j = span.first_key; j < span.first_key + span.keys; ++j) {
    const std::int64_t offset = static_cast<std::int64_t>(j) * block.row_stride + row;
    static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
      Vector<T> score = load(block.scores + offset + v * lanes<T>);
      if (adjustment.softcap != T(0)) score = soft_cap(score, cap, inverse_cap);
      if (adjustment.slope != nullptr) {
        const Vector<T> distance = load(adjustment.distance + row + v * lanes<T>) + Vector<T>(static_cast<T>(j));
        score = fma(load(adjustment.slope + row + v * lanes<T>), distance, score);
      }
      if (adjustment.bias != nullptr) {
        const Vector<T> bias = load(adjustment.bias + offset + v * lanes<T>);
        if (adjustment.bias_excludes) {
          // Selected first: +∞ − ∞ would raise FE_INVALID for a pair that is not used.
          const auto none = bias == Vector<T>(-infinity<T>);
          score = xsimd::select(none, bias, score + settled(xsimd::select(none, Vector<T>(T(0)), bias)));
        } else {
          score += bias;
        }
      }
      if (mask.any()) score = mask.apply(score, j, v * lanes<T>);
      largest[v] = maximum(largest[v], score);
      store(block.scores + offset + v * lanes<T>, score);
    });
  }
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    store(block.state.maximum + row + v * lanes<T>, largest[v]);
  });
}

template <class T>
bool row_adjust(T* scores, int keys, const RowAdjustment<T>& adjustment) {
  bool excluded = false;
  const Vector<T> cap(adjustment.softcap), inverse_cap(adjustment.softcap == T(0) ? T(0) : T(1) / adjustment.softcap);
  for (int first = 0; first < keys; first += lanes<T>) {
    const int count = std::min(lanes<T>, keys - first);
    T given[lanes<T>] = {}, bias[lanes<T>] = {}, distance[lanes<T>] = {};
    bool kept[lanes<T>] = {};
    for (int i = 0; i < count; ++i) {
      const std::int64_t j = first + i;
      given[i] = scores[j];
      distance[i] = adjustment.distance + static_cast<T>(j);
      if (adjustment.bias != nullptr) bias[i] = adjustment.bias[j * adjustment.bias_stride];
      kept[i] = bias[i] != -infinity<T> &&
                (adjustment.mask == nullptr || adjustment.mask[j * adjustment.mask_stride] != 0) &&
                (adjustment.padding == nullptr || adjustment.padding[j * adjustment.padding_stride] == 0);
      if (!kept[i]) bias[i] = T(0);
    }
    // Not from the scores: what lies behind the last one may raise FE_INVALID.
    Vector<T> score = load(given);
    if (adjustment.softcap != T(0)) score = soft_cap(score, cap, inverse_cap);
    if (adjustment.slope != T(0)) score = fma(Vector<T>(adjustment.slope), load(distance), score);
    if (adjustment.bias != nullptr) score += scaled_bias(load(bias), adjustment.unit);
    T lane[lanes<T>];
    store(lane, score);
    for (int i = 0; i < count; ++i) {
      scores[first + i] = kept[i] ? lane[i] : -infinity<T>;
      excluded = excluded || !kept[i];
    }
  }
  return excluded;
}

}  // namespace
}  // namespace headwise::detail
