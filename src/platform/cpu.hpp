// What this processor, under this operating system, can run.
#pragma once

namespace headwise::detail {

bool cpu_has_sse2();
bool cpu_has_avx2_fma();
bool cpu_has_avx512();  ///< f, cd, dq, bw and vl
bool cpu_has_neon64();

}  // namespace headwise::detail
