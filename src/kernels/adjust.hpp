// What happens to scores between the product and the softmax: softcap, ALiBi, bias.
#pragma once

#include "kernels/exp2.hpp"
#include "kernels/kernel_table.hpp"
#include "kernels/mask.hpp"
#include "kernels/simd.hpp"
#include "kernels/transpose.hpp"

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

/// The bias, or what is nearest to it where its product with `unit` would not be finite though the bias is: bounded
/// before the product, which would raise FE_OVERFLOW.
template <class T>
HEADWISE_INLINE Vector<T> bounded_bias(Vector<T> bias, T unit) {
  const Vector<T> limit(largest_bias(unit));
  const auto beyond = (xsimd::abs(bias) > limit) & (xsimd::abs(bias) <= Vector<T>(std::numeric_limits<T>::max()));
  return xsimd::select(beyond, xsimd::select(bias < Vector<T>(T(0)), -limit, limit), bias);
}

/// Whether rows lie `step` elements apart.
template <class T>
HEADWISE_INLINE bool rows_are_apart_by(const T* const* rows, std::int64_t step) {
  for (int r = 1; r < lanes<T>; ++r) {
    if (rows[r] != rows[0] + r * step) return false;
  }
  return true;
}

template <class T>
bool bias_excludes_all(const T* const* bias, std::int64_t offset, std::int64_t key_stride, int keys, int rows) {
  const T none = -infinity<T>;
  for (int r = 0; r < rows; ++r) {
    const T* row = bias[r] + offset;
    int j = 0;
    if (key_stride == 1) {
      for (; j + lanes<T> <= keys; j += lanes<T>) {
        if (!xsimd::all(load(row + j) == Vector<T>(none))) return false;
      }
    }
    for (; j < keys; ++j) {
      if (row[j * key_stride] != none) return false;
    }
  }
  return true;
}

/// Softcap and ALiBi of the scores of a span; masks them and takes their maxima.
template <class T, int Vectors>
[[gnu::noinline]] void adjust_span(const BlockArguments<T, T>& block, const KeySpan& span, const PairMask<T>& mask) {
  const int row = span.first_vector * lanes<T>;
  const ScoreAdjustment<T>& adjustment = block.adjustment;
  const Vector<T> cap(adjustment.softcap), inverse_cap(adjustment.softcap == T(0) ? T(0) : T(1) / adjustment.softcap);
  Vector<T> largest[Vectors];
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    largest[v] = load(block.state.maximum + row + v * lanes<T>);
  });
  for (int j = span.first_key; j < span.first_key + span.keys; ++j) {
    T* scores = block.scores + static_cast<std::int64_t>(j) * block.row_stride + row;
    static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
      Vector<T> score = load(scores + v * lanes<T>);
      if (adjustment.softcap != T(0)) score = soft_cap(score, cap, inverse_cap);
      if (adjustment.slope != nullptr) {
        const Vector<T> distance = load(adjustment.distance + row + v * lanes<T>) + Vector<T>(static_cast<T>(j));
        score = fma(load(adjustment.slope + row + v * lanes<T>), distance, score);
      }
      if (mask.any()) score = mask.apply(score, j, v * lanes<T>);
      largest[v] = maximum(largest[v], score);
      store(scores + v * lanes<T>, score);
    });
  }
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    store(block.state.maximum + row + v * lanes<T>, largest[v]);
  });
}

/// How the biases of one vector of rows lie in memory.
enum class BiasLayout { square, shared, forward, backward, scattered };

/// The biases of one vector of rows. Lanes without a row repeat the last one, so that they say nothing of their own.
template <class T>
struct BiasRows {
  const T* row[lanes<T>];
  std::int64_t key_stride;
  BiasLayout layout;

  BiasRows(const ScoreAdjustment<T>& adjustment, int first) : key_stride(adjustment.bias_stride) {
    for (int r = 0; r < lanes<T>; ++r) {
      row[r] = adjustment.bias[std::min(first + r, adjustment.bias_rows - 1)] + adjustment.bias_offset;
    }
    // A relative bias has rows one element apart: a vector of them is then a load, for any key.
    layout = rows_are_apart_by(row, 0)    ? BiasLayout::shared
             : rows_are_apart_by(row, -1) ? BiasLayout::backward
             : rows_are_apart_by(row, 1)  ? BiasLayout::forward
             : key_stride == 1            ? BiasLayout::square
                                          : BiasLayout::scattered;
  }

  HEADWISE_INLINE Vector<T> at(int key) const {
    const std::int64_t offset = key * key_stride;
    if (layout == BiasLayout::shared) return Vector<T>(row[0][offset]);
    if (layout == BiasLayout::backward) return reversed(load(row[lanes<T> - 1] + offset));
    if (layout == BiasLayout::forward) return load(row[0] + offset);
    T lane[lanes<T>];
    for (int r = 0; r < lanes<T>; ++r) lane[r] = row[r][offset];
    return load(lane);
  }

  /// Biases of the keys from `key` on, a vector each.
  HEADWISE_INLINE void load_square(int key, Vector<T> (&x)[lanes<T>]) const {
    if (layout == BiasLayout::square) {
      // Whole cache lines: rows 4 KiB apart share the same few ways of the first level.
      static_for<lanes<T>>([&](auto r) __attribute__((always_inline)) { x[r] = load(row[r] + key); });
      transpose(x);
    } else {
      static_for<lanes<T>>([&](auto i) __attribute__((always_inline)) { x[i] = at(key + i); });
    }
  }
};

/// score + bias · unit where the bias may be anything: −∞ excludes, finite products stay finite.
template <class T>
HEADWISE_INLINE Vector<T> add_any_bias(Vector<T> score, Vector<T> bias, T unit) {
  const Vector<T> none(-infinity<T>);
  // Selected first: +∞ − ∞ would raise FE_INVALID for a pair that is not used.
  const auto excluded = bias == none;
  const Vector<T> used = settled(xsimd::select(excluded, Vector<T>(T(0)), bounded_bias(bias, unit)));
  return xsimd::select(excluded, none, fma(used, Vector<T>(unit), score));
}

/// Adds the bias to the scores of a span while it is transposed: a transposed copy of the block would push the scores
/// out of the first level. Masks them, takes their maxima. True if a bias excludes its pair.
template <class T, bool Masked>
[[gnu::noinline]] bool add_bias(const BlockArguments<T, T>& block, const KeySpan& span, const PairMask<T>& mask) {
  const ScoreAdjustment<T>& adjustment = block.adjustment;
  const Vector<T> none(-infinity<T>), zero(T(0)), limit(largest_bias(adjustment.unit)), unit(adjustment.unit);
  const int end = span.first_key + span.keys;
  bool any_excluded = false;
  for (int v = 0; v < span.vectors; ++v) {
    const int row = (span.first_vector + v) * lanes<T>;
    const BiasRows<T> bias(adjustment, row);
    Vector<T> largest = load(block.state.maximum + row);
    T* scores = block.scores + static_cast<std::int64_t>(span.first_key) * block.row_stride + row;
    const auto put = [&](Vector<T> score, int key) __attribute__((always_inline)) {
      if constexpr (Masked) score = mask.apply(score, key, v * lanes<T>);
      largest = maximum(largest, score);
      store(scores, score);
      scores += block.row_stride;
    };
    const auto put_any = [&](Vector<T> x, int key) __attribute__((always_inline)) {
      any_excluded = any_excluded || xsimd::any(x == none);
      put(add_any_bias(load(scores), x, adjustment.unit), key);
    };
    int j = span.first_key;
    for (; j + lanes<T> <= end; j += lanes<T>) {
      Vector<T> x[lanes<T>], size = zero;
      bias.load_square(j, x);
      // NaN is not kept by `size`: it needs no care.
      static_for<lanes<T>>([&](auto i) __attribute__((always_inline)) { size = larger_magnitude(x[i], size); });
      if (xsimd::all(size <= limit)) [[likely]] {
        static_for<lanes<T>>([&](auto i) __attribute__((always_inline)) { put(fma(x[i], unit, load(scores)), j + i); });
      } else {
        static_for<lanes<T>>([&](auto i) __attribute__((always_inline)) { put_any(x[i], j + i); });
      }
    }
    for (; j < end; ++j) put_any(bias.at(j), j);
    store(block.state.maximum + row, largest);
  }
  return any_excluded;
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
    if (adjustment.bias != nullptr) {
      score += settled(bounded_bias(load(bias), adjustment.unit)) * Vector<T>(adjustment.unit);
    }
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
