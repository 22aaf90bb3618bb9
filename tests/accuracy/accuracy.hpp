/// \file
/// The parts of the accuracy report. Each prints a Markdown table of the instruction set in use to standard output and
/// returns whether everything in it is as good as promised.
#pragma once

#include <cstdint>

#include "accuracy/error_statistics.hpp"

namespace headwise::test {

/// Begins a table of errors.
void print_error_heading();

/// A line of it; true if the errors are as good as promised.
bool print_errors(const char* path, const char* type, const char* family, const char* output,
                  const ErrorStatistics& errors);

/// Attention, weights and logsumexp on every data family, by both kernels, in both types.
bool report_attention();

/// What a merge adds to the parts that it is given: attention over a third of the keys each.
bool report_merge();

/// The layer, from its inputs to its outputs.
bool report_layer();

/// 2^x of the softmax: every `step`-th float of those up to 8 and NaN, and 10^8 / step doubles.
bool report_exponential(std::int64_t step);

}  // namespace headwise::test
