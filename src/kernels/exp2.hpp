// 2^x for softmax weights: x ≤ about 8, exactly 0 below the cut, so that no subnormal weight ever reaches an FMA (they
// make it 100 times slower), NaN stays NaN, 2^0 is exactly 1.
#pragma once

#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// Below this exponent the result is 0: the smallest normal number's.
template <class T>
constexpr T exp2_cut = T(std::numeric_limits<T>::min_exponent - 1);

/// Polynomials of several vectors, step by step for all of them.
template <class T, int Count, int Terms>
HEADWISE_INLINE void polynomials(Vector<T> (&sum)[Count], const Vector<T> (&x)[Count], const T (&coefficient)[Terms]) {
  static_for<Count>([&](auto i) __attribute__((always_inline)) { sum[i] = Vector<T>(coefficient[Terms - 1]); });
  static_for<Terms - 1>([&](auto term) __attribute__((always_inline)) {
    const Vector<T> next(coefficient[Terms - 2 - term]);
    static_for<Count>([&](auto i) __attribute__((always_inline)) { sum[i] = fma(sum[i], x[i], next); });
  });
}

template <class T, int Terms>
HEADWISE_INLINE Vector<T> polynomial(Vector<T> x, const T (&coefficient)[Terms]) {
  Vector<T> sum[1];
  polynomials<T>(sum, {x}, coefficient);
  return sum[0];
}

#if defined(HEADWISE_KERNELS_SSE2)

// Minimax polynomials of 2^r on [−1/2, 1/2] in relative error with p(0) = 1: 1.5 u and 0.16 u.
constexpr float float_coefficients[] = {1.0f,           0.6931469779f,   0.2402224249f,
                                        0.05550733422f, 0.009671486069f, 0.001326476126f};
constexpr double double_coefficients[] = {1.0,
                                          0.6931471805599456968,
                                          0.2402265069591009801,
                                          0.05550410866479039455,
                                          0.00961812910760700238,
                                          0.001333355815343996475,
                                          0.0001540353044157213033,
                                          0.0000152527273851938682,
                                          1.321544267532982214e-6,
                                          1.018064765923413889e-7,
                                          7.07257041281442351e-9,
                                          4.078071929588336665e-10};

#elif defined(HEADWISE_KERNELS_AVX512)

// Minimax polynomial of 2^r on [0, 1) in relative error with p(0) = 1: 1.4 u.
constexpr float float_coefficients[] = {1.0f,          0.6931513118f,   0.2401644501f,
                                        0.0557999131f, 0.009017030284f, 0.001867130082f};

#else

// The same with p(1) = 2 as well, which the fraction of a tiny number below 0 rounds to: 1.6 u and 0.03 u.
constexpr float float_coefficients[] = {1.0f,           0.6931517124f,   0.2401593179f,
                                        0.05581867322f, 0.008990995586f, 0.001879318617f};
constexpr double double_coefficients[] = {1.0,
                                          0.693147180559946,
                                          0.24022650695906156,
                                          0.05550410866563527,
                                          0.009618129099246104,
                                          0.001333355864557783,
                                          0.00015403511793250687,
                                          1.5253185630579457e-05,
                                          1.3208229379544405e-06,
                                          1.0254321333740148e-07,
                                          6.554520023972944e-09,
                                          6.273189306667871e-10};

#endif

#if defined(HEADWISE_KERNELS_AVX512)

// vreduce leaves x − ⌊x⌋, vscalef multiplies by 2^⌊x⌋: ten operations a vector.
HEADWISE_INLINE Vector<float> exp2(Vector<float> x) {
  const __m512 fraction = _mm512_reduce_ps(x, 0x09);
  const __mmask16 kept = _mm512_cmp_ps_mask(x, _mm512_set1_ps(exp2_cut<float>), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(kept, polynomial<float>(fraction, float_coefficients), x);
}

// Sixteenths from a table, the rest by a polynomial on [0, 1/16): 0.07 u at degree 6. Its last step adds the small part
// to the table's value, so that 2^0 is exactly 1.
HEADWISE_INLINE Vector<double> exp2(Vector<double> x) {
  alignas(64) static constexpr double table[16] = {
      0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0,
      0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0,
      0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0,
      0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0};
  constexpr double c[] = {0.693147180559937741,   0.2402265069614632587,  0.05550410841954198597,
                          0.009618140803086094233, 0.001333074224522484656, 0.0001573628285455842852};
  const __m512d fraction = _mm512_reduce_pd(x, 0x49);
  // Adding 1.5·2^48 leaves ⌊16 x⌋ in the low bits, of which the permutation reads four.
  const __m512d index =
      _mm512_add_round_pd(x, _mm512_set1_pd(0x1.8p+48), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  const __m512d base =
      _mm512_permutex2var_pd(_mm512_load_pd(table), _mm512_castpd_si512(index), _mm512_load_pd(table + 8));
  const __m512d rest = _mm512_mul_pd(polynomial<double>(fraction, c), fraction);
  const __mmask8 kept = _mm512_cmp_pd_mask(x, _mm512_set1_pd(exp2_cut<double>), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_pd(kept, _mm512_fmadd_pd(base, rest, base), x);
}

template <class T, int Count>
HEADWISE_INLINE void exp2_all(Vector<T> (&x)[Count]) {
  static_for<Count>([&](auto i) __attribute__((always_inline)) { x[i] = exp2(x[i]); });
}

#else

// 2^x = 2^n · 2^r, n an integer and r = x − n. n + 1.5·2^(mantissa bits) + bias has n + bias in its low bits; a shift moves
// them to where the exponent of 2^n stands. x is clamped first, keeping NaN, so that −∞ − (−∞) never occurs.

template <class T>
constexpr T exponent_magic =
    T(1.5) / std::numeric_limits<T>::epsilon() + T(std::numeric_limits<T>::max_exponent - 1);

/// 2^n of several n + exponent_magic.
template <class T>
HEADWISE_INLINE Vector<T> power_of_two(Vector<T> n_and_magic) {
  using Integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  const auto bits = xsimd::bitwise_cast<xsimd::batch<Integer, Isa::Arch>>(n_and_magic);
  return xsimd::bitwise_cast<Vector<T>>(bits << (std::numeric_limits<T>::digits - 1));
}

/// 2^n and r of several x.
template <class T, int Count>
HEADWISE_INLINE void split_exponents(Vector<T> (&x)[Count], Vector<T> (&scale)[Count], Vector<T> (&fraction)[Count]) {
  const Vector<T> magic(exponent_magic<T>);
  const auto for_each = [](auto&& step) __attribute__((always_inline)) { static_for<Count>(step); };
#if defined(HEADWISE_KERNELS_SSE2)
  // No instruction rounds down, but adding the magic number rounds to nearest. Clamped to the number next to the cut: what
  // is equal to it is 0.
  constexpr T cut_ulp = std::numeric_limits<T>::epsilon() * T(std::numeric_limits<T>::max_exponent / 2);
  const Vector<T> below_cut(exp2_cut<T> - cut_ulp);
  for_each([&](auto i) __attribute__((always_inline)) { x[i] = maximum(below_cut, x[i]); });
  for_each([&](auto i) __attribute__((always_inline)) { scale[i] = x[i] + magic; });
  for_each([&](auto i) __attribute__((always_inline)) { fraction[i] = x[i] - (scale[i] - magic); });
  for_each([&](auto i) __attribute__((always_inline)) {
    scale[i] = xsimd::select(x[i] == below_cut, Vector<T>(T(0)), power_of_two<T>(scale[i]));
  });
#else
  // Clamped to one below the cut, whose power of two comes out as 0, as does that of all else below the cut.
  const Vector<T> below_cut(exp2_cut<T> - T(1));
  for_each([&](auto i) __attribute__((always_inline)) { x[i] = maximum(below_cut, x[i]); });
  for_each([&](auto i) __attribute__((always_inline)) { scale[i] = xsimd::floor(x[i]); });
  for_each([&](auto i) __attribute__((always_inline)) { fraction[i] = x[i] - scale[i]; });
  for_each([&](auto i) __attribute__((always_inline)) { scale[i] = power_of_two<T>(scale[i] + magic); });
#endif
}

/// 2^x of several vectors, step by step for all of them: each step waits for the one before, and a scheduler of a few
/// dozen operations does not reach the next vector meanwhile.
template <class T, int Count>
HEADWISE_INLINE void exp2_all(Vector<T> (&x)[Count]) {
  Vector<T> fraction[Count], scale[Count], power[Count];
  split_exponents<T>(x, scale, fraction);
  if constexpr (sizeof(T) == 4) polynomials<T>(power, fraction, float_coefficients);
  else polynomials<T>(power, fraction, double_coefficients);
  static_for<Count>([&](auto i) __attribute__((always_inline)) { x[i] = power[i] * scale[i]; });
}

template <class T>
HEADWISE_INLINE Vector<T> exp2(Vector<T> x) {
  Vector<T> all[1] = {x};
  exp2_all<T>(all);
  return all[0];
}

#endif

}  // namespace
}  // namespace headwise::detail
