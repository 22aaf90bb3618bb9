// attention() on every data family: no element outside the error bound (rule 1), and over the family an error like that
// of a plain sequential implementation in the same type (rule 2), which catches a sloppy exp. Prints both.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "headwise/runtime.hpp"
#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/data_families.hpp"
#include "support/environment.hpp"
#include "support/error_bound.hpp"
#include "support/workloads.hpp"

namespace headwise::test {
namespace {

template <class T>
T largest_magnitude(const TensorView<T, 4>& view) {
  T largest = 0;
  visit_elements(view, [&](T element) { largest = std::max(largest, std::abs(element)); });
  return largest;
}

template <class T>
void check_family(const DataFamily<T>& family, const Workload& workload) {
  const std::string name = std::string(active_isa()) + ", " + family.name + ", " + workload.name;
  Report total;
  T largest = 0;
  for (const AttentionCase& problem : workload.problems) {
    FamilyTensors<T> tensors(family, problem, 11);
    largest = std::max(largest, largest_magnitude(tensors->value()));
    tensors->run();
    const std::int64_t rows = reduced_grid() ? workload.rows / 10 : workload.rows;
    const Report report = check_rows(tensors->arguments(), problem.options, choose_rows(problem.shape, rows), true);
    CHECK_MESSAGE(report.violations == 0, name, ", ", describe(tensors->problem()), ": ", report.violations, " of ",
                  report.elements, " elements, first ", report.first_violation);
    total.add(report);
  }
  if (reduced_grid()) return;  // too few outputs for a fair comparison of two errors
  CHECK_MESSAGE(total.outputs >= 10'000, name, ": only ", total.outputs, " outputs");
  const long double allowed = 2 * total.plain_error() + static_cast<long double>(rounding_unit<T> * largest);
  CHECK_MESSAGE(total.error() <= allowed, name, ": RMS error is ", total.error(), ", expected at most ", allowed);
  MESSAGE(name, ": RMS error ", static_cast<double>(total.error()), " = ",
          static_cast<double>(total.error() / total.plain_error()), " x plain, worst element at ",
          static_cast<double>(100 * total.worst_share), " % of its bound");
}

TEST_CASE_TEMPLATE("attention: error on every data family", T, float, double) {
  for (const Workload& workload : workloads()) {
    for (const DataFamily<T>& family : data_families<T>()) check_family(family, workload);
  }
}

TEST_CASE_TEMPLATE("attention: the data families are computed by both kernels", T, float, double) {
  for (const Workload& workload : workloads()) {
    const AttentionCase& problem = workload.problems.front();
    const AttentionPlan<T> plan(problem.shape, problem.options);
    CHECK(plan.path(problem.shape.query_length, 0) == workload.path);
  }
}

}  // namespace
}  // namespace headwise::test
