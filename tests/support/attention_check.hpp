/// \file
/// Comparing what attention() wrote with the reference, element by element, within the error bound.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "headwise/attention.hpp"
#include "reference/attention_reference.hpp"

namespace headwise::test {

/// What came out of comparing; reports of several cases add up.
struct Report {
  std::int64_t elements = 0;    ///< compared
  std::int64_t violations = 0;  ///< outside the bound
  std::string first_violation;
  long double worst_share = 0;          ///< largest error as a share of what is allowed
  long double squared_error = 0;        ///< of the outputs
  long double plain_squared_error = 0;  ///< of the outputs of the plain implementation
  std::int64_t outputs = 0;             ///< outputs that both were compared on

  void add(const Report& other) {
    if (violations == 0) first_violation = other.first_violation;
    elements += other.elements;
    violations += other.violations;
    worst_share = std::max(worst_share, other.worst_share);
    squared_error += other.squared_error;
    plain_squared_error += other.plain_squared_error;
    outputs += other.outputs;
  }
  long double error() const { return rms(squared_error); }
  long double plain_error() const { return rms(plain_squared_error); }

 private:
  long double rms(long double sum) const {
    return outputs == 0 ? 0 : std::sqrt(sum / static_cast<long double>(outputs));
  }
};

/// Up to `count` rows of a problem, spread evenly, the first and the last among them.
std::vector<RowIndex> choose_rows(const AttentionShape& shape, std::int64_t count);

/// Compares the elements of one row.
template <class T>
class RowCheck {
 public:
  using Real = ReferenceTypeOf<T>;
  RowCheck(Report& report, RowIndex row) : report_(report), row_(row) {}

  /// NaN is expected to be NaN, an infinity that infinity; where nothing is allowed the sign of zero counts, too.
  void compare(const char* tensor, std::int64_t column, T got, Real expected, Real allowed);

 private:
  Report& report_;
  RowIndex row_;
};

/// Compares the given rows of all outputs with the reference; on request measures the plain implementation, too. Rows
/// beyond a ragged sequence are left out.
template <class T>
Report check_rows(const AttentionArguments<T>& arguments, const AttentionOptions& options,
                  const std::vector<RowIndex>& rows, bool measure_plain = false);

}  // namespace headwise::test
