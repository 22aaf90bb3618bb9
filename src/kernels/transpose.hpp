// Vectors transposed and summed in registers, by their 128-bit pieces.
#pragma once

#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// Elements of one 128-bit piece, and pieces of a vector.
template <class T>
constexpr int piece = 16 / static_cast<int>(sizeof(T));
template <class T>
constexpr int pieces = lanes<T> / piece<T>;

/// A vector of 128-bit pieces, piece i from sources[i · step] + offset.
template <class T>
HEADWISE_INLINE Vector<T> load_pieces(const T* const* sources, int step, std::int64_t offset) {
#if defined(HEADWISE_KERNELS_AVX512)
  const auto at = [&](int i) { return sources[i * step] + offset; };
  if constexpr (sizeof(T) == 4) {
    __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(at(0)));
    x = _mm512_insertf32x4(x, _mm_loadu_ps(at(1)), 1);
    x = _mm512_insertf32x4(x, _mm_loadu_ps(at(2)), 2);
    return _mm512_insertf32x4(x, _mm_loadu_ps(at(3)), 3);
  } else {
    __m512d x = _mm512_castpd128_pd512(_mm_loadu_pd(at(0)));
    x = _mm512_insertf64x2(x, _mm_loadu_pd(at(1)), 1);
    x = _mm512_insertf64x2(x, _mm_loadu_pd(at(2)), 2);
    return _mm512_insertf64x2(x, _mm_loadu_pd(at(3)), 3);
  }
#elif defined(HEADWISE_KERNELS_AVX2)
  const auto at = [&](int i) { return sources[i * step] + offset; };
  if constexpr (sizeof(T) == 4) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(at(0))), _mm_loadu_ps(at(1)), 1);
  } else {
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(at(0))), _mm_loadu_pd(at(1)), 1);
  }
#else
  (void)step;
  return load(sources[0] + offset);
#endif
}

/// Transposes the piece × piece blocks that lie side by side in `piece` vectors.
template <class T>
HEADWISE_INLINE void transpose_pieces(Vector<T> (&x)[piece<T>]) {
  if constexpr (piece<T> == 4) {
    const Vector<T> a = unpack_low(x[0], x[2]), b = unpack_high(x[0], x[2]);
    const Vector<T> c = unpack_low(x[1], x[3]), d = unpack_high(x[1], x[3]);
    x[0] = unpack_low(a, c), x[1] = unpack_high(a, c), x[2] = unpack_low(b, d), x[3] = unpack_high(b, d);
  } else {
    const Vector<T> a = x[0];
    x[0] = unpack_low(a, x[1]), x[1] = unpack_high(a, x[1]);
  }
}

/// Transposes a square of lanes × lanes elements.
template <class T>
HEADWISE_INLINE void transpose(Vector<T> (&x)[lanes<T>]) {
  static_for<pieces<T>>([&](auto p) __attribute__((always_inline)) {
    Vector<T> block[piece<T>];
    static_for<piece<T>>([&](auto i) __attribute__((always_inline)) { block[i] = x[p * piece<T> + i]; });
    transpose_pieces(block);
    static_for<piece<T>>([&](auto i) __attribute__((always_inline)) { x[p * piece<T> + i] = block[i]; });
  });
  // Then the pieces themselves: piece p of vector g becomes piece g of vector p.
#if defined(HEADWISE_KERNELS_AVX512)
  const auto shuffle = [](Vector<T> a, Vector<T> b, auto order) __attribute__((always_inline)) -> Vector<T> {
    if constexpr (sizeof(T) == 4) return _mm512_shuffle_f32x4(a, b, order);
    else return _mm512_shuffle_f64x2(a, b, order);
  };
  constexpr std::integral_constant<int, 0x44> low;
  constexpr std::integral_constant<int, 0xEE> high;
  constexpr std::integral_constant<int, 0x88> even;
  constexpr std::integral_constant<int, 0xDD> odd;
  static_for<piece<T>>([&](auto i) __attribute__((always_inline)) {
    constexpr int step = piece<T>;
    const Vector<T> a = shuffle(x[i], x[i + step], low), b = shuffle(x[i], x[i + step], high);
    const Vector<T> c = shuffle(x[i + 2 * step], x[i + 3 * step], low);
    const Vector<T> d = shuffle(x[i + 2 * step], x[i + 3 * step], high);
    x[i] = shuffle(a, c, even), x[i + step] = shuffle(a, c, odd);
    x[i + 2 * step] = shuffle(b, d, even), x[i + 3 * step] = shuffle(b, d, odd);
  });
#elif defined(HEADWISE_KERNELS_AVX2)
  static_for<piece<T>>([&](auto i) __attribute__((always_inline)) {
    const Vector<T> a = x[i], b = x[i + piece<T>];
    if constexpr (sizeof(T) == 4) {
      x[i] = _mm256_permute2f128_ps(a, b, 0x20), x[i + piece<T>] = _mm256_permute2f128_ps(a, b, 0x31);
    } else {
      x[i] = _mm256_permute2f128_pd(a, b, 0x20), x[i + piece<T>] = _mm256_permute2f128_pd(a, b, 0x31);
    }
  });
#endif
}

/// Lane i of the result is the sum of x[i]'s lanes, added in the same order for every i. Overwrites x.
template <class T>
HEADWISE_INLINE Vector<T> sum_each(Vector<T> (&x)[lanes<T>]) {
  // First inside the 128-bit pieces: `piece` vectors become one that holds their sums per piece.
  static_for<pieces<T>>([&](auto p) __attribute__((always_inline)) {
    constexpr int i = p * piece<T>;
    if constexpr (piece<T> == 4) {
      const Vector<T> a = unpack_low(x[i], x[i + 2]) + unpack_high(x[i], x[i + 2]);
      const Vector<T> b = unpack_low(x[i + 1], x[i + 3]) + unpack_high(x[i + 1], x[i + 3]);
      x[p] = unpack_low(a, b) + unpack_high(a, b);
    } else {
      x[p] = unpack_low(x[i], x[i + 1]) + unpack_high(x[i], x[i + 1]);
    }
  });
  // Then across the pieces.
#if defined(HEADWISE_KERNELS_AVX512)
  if constexpr (sizeof(T) == 4) {
    const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(x[0], x[1], 0x88), _mm512_shuffle_f32x4(x[0], x[1], 0xDD));
    const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(x[2], x[3], 0x88), _mm512_shuffle_f32x4(x[2], x[3], 0xDD));
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
  } else {
    const __m512d a = _mm512_add_pd(_mm512_shuffle_f64x2(x[0], x[1], 0x88), _mm512_shuffle_f64x2(x[0], x[1], 0xDD));
    const __m512d b = _mm512_add_pd(_mm512_shuffle_f64x2(x[2], x[3], 0x88), _mm512_shuffle_f64x2(x[2], x[3], 0xDD));
    return _mm512_add_pd(_mm512_shuffle_f64x2(a, b, 0x88), _mm512_shuffle_f64x2(a, b, 0xDD));
  }
#elif defined(HEADWISE_KERNELS_AVX2)
  if constexpr (sizeof(T) == 4) {
    return _mm256_add_ps(_mm256_permute2f128_ps(x[0], x[1], 0x20), _mm256_permute2f128_ps(x[0], x[1], 0x31));
  } else {
    return _mm256_add_pd(_mm256_permute2f128_pd(x[0], x[1], 0x20), _mm256_permute2f128_pd(x[0], x[1], 0x31));
  }
#else
  return x[0];
#endif
}

}  // namespace
}  // namespace headwise::detail
