/// \file
/// Running one conformance case on the instruction set of this process.
#pragma once

#include <array>
#include <iosfwd>

#include "conformance/case.hpp"
#include "conformance/judge.hpp"

namespace headwise::test {

/// Thread counts that every case runs with.
inline constexpr std::array case_thread_counts{1, 3};

/// Runs an expressible case with each number of threads and judges every output there is. A case with past keys runs
/// also without present outputs, where attention reads past and new keys in two pieces.
/// \param failures receives a line per output that fails, or what was thrown
CaseResult run_case(const Case& conformance_case, std::ostream& failures);

}  // namespace headwise::test
