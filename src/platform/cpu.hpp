// What this processor, under this operating system, can run, and what it holds.
#pragma once

namespace headwise::detail {

bool cpu_has_sse2();
bool cpu_has_avx2_fma();
bool cpu_has_avx512();  ///< f, cd, dq, bw and vl
bool cpu_has_neon64();

/// Bytes of a core's second-level cache; where the system does not tell, 512 KiB. Asks it each time: for calls that take
/// some 100 µs.
double second_level_cache_bytes();

}  // namespace headwise::detail
