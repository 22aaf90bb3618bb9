#include "support/machine_peak.hpp"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "support/clock.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace headwise::bench {
namespace {

// Instructions of one timed loop: about 0.2 ms at two a cycle.
constexpr std::int64_t instructions = 1'000'000;

// Keeps the compiler from dropping a loop whose result nobody reads.
volatile double sink;

// Each loop below advances independent accumulators c = c·a + b, with values that stay near 1 and starts that differ,
// so that no two of them can be merged. The loops are alike but cannot be one template: vector code is only compiled
// inside a function that carries its target attribute.
volatile double factor_seed = 0.999;

#if defined(__x86_64__)

template <class T, int accumulators>
__attribute__((target("avx512f"), noinline)) void avx512_loop(std::int64_t steps) {
  using Vector __attribute__((vector_size(64))) = T;
  const T seed = static_cast<T>(factor_seed);
  const Vector a = Vector{} + seed;
  const Vector b = Vector{} + (1 - seed);
  Vector c[accumulators];
#pragma GCC unroll 32
  for (int i = 0; i < accumulators; ++i) c[i] = b + static_cast<T>(i);
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 32
    for (int i = 0; i < accumulators; ++i) {
      if constexpr (std::is_same_v<T, float>) {
        c[i] = _mm512_fmadd_ps(c[i], a, b);
      } else {
        c[i] = _mm512_fmadd_pd(c[i], a, b);
      }
    }
  }
#pragma GCC unroll 32
  for (int i = 1; i < accumulators; ++i) c[0] += c[i];
  sink = c[0][0];
}

template <class T, int accumulators>
__attribute__((target("avx2,fma"), noinline)) void avx2_loop(std::int64_t steps) {
  using Vector __attribute__((vector_size(32))) = T;
  const T seed = static_cast<T>(factor_seed);
  const Vector a = Vector{} + seed;
  const Vector b = Vector{} + (1 - seed);
  Vector c[accumulators];
#pragma GCC unroll 32
  for (int i = 0; i < accumulators; ++i) c[i] = b + static_cast<T>(i);
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 32
    for (int i = 0; i < accumulators; ++i) {
      if constexpr (std::is_same_v<T, float>) {
        c[i] = _mm256_fmadd_ps(c[i], a, b);
      } else {
        c[i] = _mm256_fmadd_pd(c[i], a, b);
      }
    }
  }
#pragma GCC unroll 32
  for (int i = 1; i < accumulators; ++i) c[0] += c[i];
  sink = c[0][0];
}

template <class T, int accumulators>
__attribute__((noinline)) void sse2_loop(std::int64_t steps) {
  using Vector __attribute__((vector_size(16))) = T;
  const T seed = static_cast<T>(factor_seed);
  const Vector a = Vector{} + seed;
  const Vector b = Vector{} + (1 - seed);
  Vector c[accumulators];
#pragma GCC unroll 32
  for (int i = 0; i < accumulators; ++i) c[i] = b + static_cast<T>(i);
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 32
    for (int i = 0; i < accumulators; ++i) c[i] = c[i] * a + b;
  }
#pragma GCC unroll 32
  for (int i = 1; i < accumulators; ++i) c[0] += c[i];
  sink = c[0][0];
}

#elif defined(__aarch64__)

template <class T, int accumulators>
__attribute__((noinline)) void neon64_loop(std::int64_t steps) {
  using Vector __attribute__((vector_size(16))) = T;
  const T seed = static_cast<T>(factor_seed);
  const Vector a = Vector{} + seed;
  const Vector b = Vector{} + (1 - seed);
  Vector c[accumulators];
#pragma GCC unroll 32
  for (int i = 0; i < accumulators; ++i) c[i] = b + static_cast<T>(i);
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 32
    for (int i = 0; i < accumulators; ++i) {
      if constexpr (std::is_same_v<T, float>) {
        c[i] = vfmaq_f32(b, c[i], a);
      } else {
        c[i] = vfmaq_f64(b, c[i], a);
      }
    }
  }
#pragma GCC unroll 32
  for (int i = 1; i < accumulators; ++i) c[0] += c[i];
  sink = c[0][0];
}

#endif

// Multiply-adds a second of one loop.
double rate(void (*loop)(std::int64_t), int accumulators, int instructions_per_multiply_add = 1) {
  const std::int64_t steps = instructions / (accumulators * instructions_per_multiply_add);
  double seconds = 1e300;
  for (int repeat = 0; repeat < 2; ++repeat) {
    const double begin = now();
    loop(steps);
    seconds = std::min(seconds, now() - begin);
  }
  return static_cast<double>(steps * accumulators) / seconds;
}

// The numbers of accumulators tried must hide a latency of 4–5 cycles at two instructions a cycle (four on some
// aarch64 cores) and leave two registers for a and b. On x86-64 that is at most 14 of 16 registers: avx512 has 32, but
// clang 14 uses only 16 of them in a function that gets them from its attribute, and spills.
template <class T>
double best_rate(std::string_view isa) {
#if defined(__x86_64__)
  if (isa == "avx512") {
    return std::max({rate(avx512_loop<T, 10>, 10), rate(avx512_loop<T, 12>, 12), rate(avx512_loop<T, 14>, 14)});
  }
  if (isa == "avx2") {
    return std::max({rate(avx2_loop<T, 10>, 10), rate(avx2_loop<T, 12>, 12), rate(avx2_loop<T, 14>, 14)});
  }
  if (isa == "sse2") {
    return std::max({rate(sse2_loop<T, 10>, 10, 2), rate(sse2_loop<T, 12>, 12, 2), rate(sse2_loop<T, 14>, 14, 2)});
  }
#elif defined(__aarch64__)
  if (isa == "neon64") {
    return std::max({rate(neon64_loop<T, 12>, 12), rate(neon64_loop<T, 16>, 16), rate(neon64_loop<T, 24>, 24)});
  }
#endif
  throw std::invalid_argument("headwise benchmarks: isa is " + std::string(isa) +
                              ", expected an instruction set of this architecture");
}

}  // namespace

double peak_flops_per_second(std::string_view isa, bool is_double) {
  const std::int64_t lanes = (isa == "avx512" ? 64 : isa == "avx2" ? 32 : 16) / (is_double ? 8 : 4);
  return 2.0 * static_cast<double>(lanes) * (is_double ? best_rate<double>(isa) : best_rate<float>(isa));
}

}  // namespace headwise::bench
