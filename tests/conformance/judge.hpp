/// \file
/// Judging the outputs of a case.
///
/// An element may differ from its expectation by
///
/// - 1.1 · bound_u · u + the smallest normal number, where the case brings a bound;
/// - else, where the expectation was computed in double, the bound of support/error_bound.hpp; copies must be exact;
/// - else atol + rtol · |expected|;
///
/// in each case and half a unit in the last place of an output that is stored as f16 or bf16. An infinity must be that
/// infinity, a NaN a NaN.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "conformance/case.hpp"

namespace headwise::test {

struct CaseResult {
  bool passed = false;
  std::int64_t elements = 0;  ///< compared, over all runs
  double worst_share = 0;     ///< largest error as a share of what is allowed
};

/// The numbers of the type that a case is computed in.
struct Arithmetic {
  double rounding_unit = 0, smallest_normal = 0;
};

/// What an output is compared with, read from the case's files.
class Expectation {
 public:
  /// \throws std::runtime_error if a file is missing or has another size
  Expectation(const Case& conformance_case, const ExpectedOutput& output, const Arithmetic& arithmetic);

  const std::string& role() const { return output_.values.role; }
  bool is_copy() const { return role() == "present_key" || role() == "present_value"; }
  /// Whether it is judged by the bound of support/error_bound.hpp.
  bool needs_reference_bound() const { return output_.exact && !output_.bound_u && !is_copy(); }

  /// Compares an output; the line of a failure names its worst element.
  /// \param run what ran, for that line
  /// \param got,extents the output, dense
  /// \param reference_bound an allowed error per element; empty unless needed
  void judge(const std::string& run, const std::vector<double>& got, const std::vector<std::int64_t>& extents,
             const std::vector<double>& reference_bound, CaseResult& result, std::ostream& failures) const;

 private:
  double allowed_error(std::size_t element, const std::vector<double>& reference_bound) const;

  const Case& case_;
  const ExpectedOutput& output_;
  Arithmetic arithmetic_;
  const ElementType& type_;
  std::vector<double> values_, bound_u_;
};

}  // namespace headwise::test
