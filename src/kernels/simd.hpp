// What the kernels need of a vector and xsimd 8.1 lacks or does less well. Workarounds live here and nowhere else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/isa.hpp"
#include "kernels/kernel_table.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define HEADWISE_INLINE [[gnu::always_inline]] inline

namespace headwise::detail {
namespace {

/// Calls f(0), f(1) … f(Count−1) with compile-time indices: register arrays stay in registers.
template <int Count, class Function>
HEADWISE_INLINE void static_for(Function&& function) {
  [&]<int... Index>(std::integer_sequence<int, Index...>) __attribute__((always_inline)) {
    (function(std::integral_constant<int, Index>{}), ...);
  }(std::make_integer_sequence<int, Count>{});
}

template <class T>
HEADWISE_INLINE Vector<T> load(const T* source) {
  return Vector<T>::load_unaligned(source);
}

template <class T>
HEADWISE_INLINE void store(T* target, Vector<T> x) {
  x.store_unaligned(target);
}

/// x itself, but the compiler cannot see through it. clang otherwise computes all lanes first and selects afterwards, or
/// fills lanes it does not need with junk, so that lanes which were to be spared raise FE_INVALID or FE_DIVBYZERO.
template <class T>
HEADWISE_INLINE Vector<T> settled(Vector<T> x) {
#if defined(HEADWISE_KERNELS_NEON64)
  asm("" : "+w"(x.data));
#elif defined(HEADWISE_KERNELS_AVX512)
  asm("" : "+v"(x.data));
#else
  asm("" : "+x"(x.data));
#endif
  return x;
}

/// p itself, but the compiler cannot derive other addresses from it.
template <class T>
HEADWISE_INLINE T* opaque(T* p) {
  asm("" : "+r"(p));
  return p;
}

template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();

/// a·b + c; one rounding on every instruction set but sse2, which has none.
/// Delete the 512-bit branch when the oldest supported xsimd has a real fma for avx512 (8.1: multiply and add).
template <class T>
HEADWISE_INLINE Vector<T> fma(Vector<T> a, Vector<T> b, Vector<T> c) {
#if defined(HEADWISE_KERNELS_AVX512)
  if constexpr (sizeof(T) == 4) {
    return _mm512_fmadd_ps(a, b, c);
  } else {
    return _mm512_fmadd_pd(a, b, c);
  }
#elif defined(HEADWISE_KERNELS_SSE2)
  return a * b + c;
#else
  return xsimd::fma(a, b, c);
#endif
}

/// The larger of accumulator and x. NaN never sticks in the accumulator: one in x gives NaN here, the next x replaces it.
template <class T>
HEADWISE_INLINE Vector<T> maximum(Vector<T> accumulator, Vector<T> x) {
  return xsimd::max(accumulator, x);
}

/// Interleaves the low halves of each 128-bit lane: a0 b0 (a1 b1). xsimd's zip crosses lanes on 256 and 512 bits.
template <class T>
HEADWISE_INLINE Vector<T> unpack_low(Vector<T> a, Vector<T> b) {
#if defined(HEADWISE_KERNELS_AVX512)
  if constexpr (sizeof(T) == 4) return _mm512_unpacklo_ps(a, b);
  else return _mm512_unpacklo_pd(a, b);
#elif defined(HEADWISE_KERNELS_AVX2)
  if constexpr (sizeof(T) == 4) return _mm256_unpacklo_ps(a, b);
  else return _mm256_unpacklo_pd(a, b);
#else
  return xsimd::zip_lo(a, b);
#endif
}

/// Interleaves the high halves of each 128-bit lane.
template <class T>
HEADWISE_INLINE Vector<T> unpack_high(Vector<T> a, Vector<T> b) {
#if defined(HEADWISE_KERNELS_AVX512)
  if constexpr (sizeof(T) == 4) return _mm512_unpackhi_ps(a, b);
  else return _mm512_unpackhi_pd(a, b);
#elif defined(HEADWISE_KERNELS_AVX2)
  if constexpr (sizeof(T) == 4) return _mm256_unpackhi_ps(a, b);
  else return _mm256_unpackhi_pd(a, b);
#else
  return xsimd::zip_hi(a, b);
#endif
}

/// The lanes in opposite order.
template <class T>
HEADWISE_INLINE Vector<T> reversed(Vector<T> x) {
#if defined(HEADWISE_KERNELS_AVX512)
  if constexpr (sizeof(T) == 4) {
    const __m512i order = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_permutexvar_ps(order, x);
  } else {
    return _mm512_permutexvar_pd(_mm512_setr_epi64(7, 6, 5, 4, 3, 2, 1, 0), x);
  }
#elif defined(HEADWISE_KERNELS_AVX2)
  if constexpr (sizeof(T) == 4) {
    return _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0));
  } else {
    return _mm256_permute4x64_pd(x, 0x1B);
  }
#else
  T lane[lanes<T>];
  store(lane, x);
  std::reverse(lane, lane + lanes<T>);
  return load(lane);
#endif
}

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

/// Largest and sum of all lanes, in a fixed order.
template <class T, class Combine>
HEADWISE_INLINE T reduce(Vector<T> x, Combine combine) {
  T lane[lanes<T>];
  store(lane, x);
  for (int width = lanes<T> / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] = combine(lane[i], lane[i + width]);
  }
  return lane[0];
}

/// True in the lanes whose word has `bit` set.
template <class T>
HEADWISE_INLINE xsimd::batch_bool<T, Isa::Arch> has_bit(const KeyBits<T>* words, KeyBits<T> bit) {
  using Integer = std::make_signed_t<KeyBits<T>>;
  using Integers = xsimd::batch<Integer, Isa::Arch>;
  const Integers found =
      Integers::load_unaligned(reinterpret_cast<const Integer*>(words)) & Integers(static_cast<Integer>(bit));
  return xsimd::bool_cast(found != Integers(Integer(0)));
}

/// Bit i is set where bytes[i] is not zero, for a whole word of bits.
template <class T>
HEADWISE_INLINE KeyBits<T> nonzero_bits(const std::uint8_t* bytes) {
  constexpr int bits = 8 * static_cast<int>(sizeof(KeyBits<T>));
#if defined(HEADWISE_KERNELS_AVX512)
  if constexpr (bits == 32) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
    return _mm256_test_epi8_mask(x, x);
  } else {
    const __m512i x = _mm512_loadu_si512(bytes);
    return _mm512_test_epi8_mask(x, x);
  }
#elif defined(__SSE2__)
  KeyBits<T> zeros = 0;
  static_for<bits / 16>([&](auto i) __attribute__((always_inline)) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 16 * i));
    zeros |= static_cast<KeyBits<T>>(_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_setzero_si128()))) << (16 * i);
  });
  return ~zeros;
#else
  KeyBits<T> word = 0;
  for (int i = 0; i < bits; ++i) word |= KeyBits<T>(bytes[i] != 0) << i;
  return word;
#endif
}

/// Hints that a cache line will be read: into the first level, or into the second.
HEADWISE_INLINE void prefetch_near(const void* line) { __builtin_prefetch(line, 0, 3); }
HEADWISE_INLINE void prefetch_far(const void* line) { __builtin_prefetch(line, 0, 2); }

/// Hint that a cache line will be written.
HEADWISE_INLINE void prefetch_to_write(const void* line) { __builtin_prefetch(line, 1, 3); }

}  // namespace
}  // namespace headwise::detail
