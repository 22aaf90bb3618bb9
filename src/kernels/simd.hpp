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

/// The larger of |x| and an accumulator, which is not negative and stays what it is where x is NaN.
template <class T>
HEADWISE_INLINE Vector<T> larger_magnitude(Vector<T> x, Vector<T> accumulator) {
#if defined(HEADWISE_KERNELS_AVX512)
  constexpr int largest_magnitude_without_sign = 0x0B;
  if constexpr (sizeof(T) == 4) return _mm512_range_ps(x, accumulator, largest_magnitude_without_sign);
  else return _mm512_range_pd(x, accumulator, largest_magnitude_without_sign);
#else
  return xsimd::max(xsimd::abs(x), accumulator);
#endif
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
#if defined(HEADWISE_KERNELS_AVX512)
  const __m512i given = _mm512_loadu_si512(words);
  if constexpr (sizeof(T) == 4) {
    return _mm512_test_epi32_mask(given, _mm512_set1_epi32(static_cast<int>(bit)));
  } else {
    return _mm512_test_epi64_mask(given, _mm512_set1_epi64(static_cast<std::int64_t>(bit)));
  }
#else
  using Integer = std::make_signed_t<KeyBits<T>>;
  using Integers = xsimd::batch<Integer, Isa::Arch>;
  const Integers found =
      Integers::load_unaligned(reinterpret_cast<const Integer*>(words)) & Integers(static_cast<Integer>(bit));
  return xsimd::bool_cast(found != Integers(Integer(0)));
#endif
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
