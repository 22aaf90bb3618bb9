#include "platform/cpu.hpp"

#include <unistd.h>

namespace headwise::detail {

// __builtin_cpu_supports also asks whether the operating system saves the registers.
#if defined(__x86_64__)
bool cpu_has_sse2() { return true; }
bool cpu_has_avx2_fma() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool cpu_has_avx512() {
  return cpu_has_avx2_fma() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
bool cpu_has_neon64() { return false; }
#else
bool cpu_has_sse2() { return false; }
bool cpu_has_avx2_fma() { return false; }
bool cpu_has_avx512() { return false; }
bool cpu_has_neon64() {
#if defined(__aarch64__)
  return true;
#else
  return false;
#endif
}
#endif

double second_level_cache_bytes() {
  long told = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  told = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
  return told > 0 ? static_cast<double>(told) : 512.0 * 1024;
}

}  // namespace headwise::detail
