/// \file
/// The parts of the accuracy report. Each prints a Markdown table of the instruction set in use to standard output and
/// returns whether everything in it is as good as promised.
#pragma once

#include <cstdint>

namespace headwise::test {

/// Attention, weights and logsumexp on every data family, by both kernels, in both types.
bool report_attention();

/// 2^x of the softmax: every `step`-th float of those up to 8 and NaN, and 10^8 / step doubles.
bool report_exponential(std::int64_t step);

}  // namespace headwise::test
