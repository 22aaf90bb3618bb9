#include "conformance/judge.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <sstream>

#include "support/error_bound.hpp"

namespace headwise::test {
namespace {

std::string list_text(const std::vector<std::int64_t>& numbers) {
  std::string text = "[";
  for (const std::int64_t number : numbers) text.append(text.size() == 1 ? "" : ", ").append(std::to_string(number));
  return text + "]";
}

/// Indices of an element of a dense tensor.
std::vector<std::int64_t> unravel(std::size_t element, const std::vector<std::int64_t>& extents) {
  auto rest = static_cast<std::int64_t>(element);
  std::vector<std::int64_t> indices(extents.size());
  for (std::size_t axis = extents.size(); axis-- > 0; rest /= extents[axis]) indices[axis] = rest % extents[axis];
  return indices;
}

/// An error as a share of what is allowed: at most 1 is good.
double share_of_allowed(double got, double expected, double allowed) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (std::isnan(expected)) return std::isnan(got) ? 0 : infinity;
  if (std::isinf(expected)) return got == expected ? 0 : infinity;
  if (got == expected) return 0;
  const double share = std::abs(got - expected) / allowed;
  return std::isnan(share) ? infinity : share;
}

}  // namespace

Expectation::Expectation(const Case& conformance_case, const ExpectedOutput& output, const Arithmetic& arithmetic)
    : case_(conformance_case),
      output_(output),
      arithmetic_(arithmetic),
      type_(*find_element_type(output.type)),
      values_(read_elements<double>(output.values)) {
  if (output.bound_u) bound_u_ = read_elements<double>(*output.bound_u);
}

double Expectation::allowed_error(std::size_t element, const std::vector<double>& reference_bound) const {
  // ONNX computed its expectations for f16 in f16: they are this far from the exact values.
  constexpr double error_of_16_bit_expectations = 1e-3;
  const double expected = values_[element];
  double allowed = 0;
  if (output_.bound_u) {
    allowed = KernelErrorModel::margin * bound_u_[element] * arithmetic_.rounding_unit + arithmetic_.smallest_normal;
  } else if (needs_reference_bound()) {
    allowed = reference_bound[element];
  } else if (!output_.exact) {
    const double atol = type_.precision > 0 ? std::max(case_.atol, error_of_16_bit_expectations) : case_.atol;
    allowed = atol + case_.rtol * std::abs(expected);
  }
  if (is_copy()) return allowed;
  return allowed + half_unit_in_last_place(type_, std::abs(expected) + allowed);
}

void Expectation::judge(const std::string& run, const std::vector<double>& got,
                        const std::vector<std::int64_t>& extents, const std::vector<double>& reference_bound,
                        CaseResult& result, std::ostream& failures) const {
  std::ostringstream line;
  line.precision(std::numeric_limits<double>::max_digits10);
  line << "FAIL " << case_.name << " " << run << " " << role();
  if (extents != output_.values.shape) {
    failures << line.str() << ": has extents " << list_text(extents) << ", expected " << list_text(output_.values.shape)
             << std::endl;
    result.passed = false;
    return;
  }
  std::size_t failed = 0, worst = 0;
  double worst_share = 0;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const double share =
        share_of_allowed(rounded_to(type_, got[i]), values_[i], allowed_error(i, reference_bound));
    if (!(share <= 1)) ++failed;
    if (share <= worst_share) continue;
    worst_share = share;
    worst = i;
  }
  result.elements += static_cast<std::int64_t>(values_.size());
  result.worst_share = std::max(result.worst_share, worst_share);
  if (failed == 0) return;
  result.passed = false;
  line << list_text(unravel(worst, extents)) << ": got " << rounded_to(type_, got[worst]) << ", expected "
       << values_[worst] << ", allowed " << allowed_error(worst, reference_bound) << " (" << failed << " of "
       << values_.size() << " elements fail)";
  failures << line.str() << std::endl;
}

}  // namespace headwise::test
