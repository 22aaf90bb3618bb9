/// \file
/// The arithmetic limit of one core, measured here and now: the denominator of every share of peak.
#pragma once

#include <string_view>

namespace headwise::bench {

/// Highest rate of floating-point operations of the calling thread with the instruction set `isa` ("sse2", "avx2",
/// "avx512" or "neon64", which this machine must have): the best of several register-only loops of fused
/// multiply-adds, each counted as two operations. sse2 has none: pairs of a multiplication and an addition there.
/// Takes 1–2 ms. Clock rates drift, so call it right before and after what it is compared with.
/// \throws std::invalid_argument if there is no loop for `isa` on this architecture.
double peak_flops_per_second(std::string_view isa, bool is_double);

}  // namespace headwise::bench
