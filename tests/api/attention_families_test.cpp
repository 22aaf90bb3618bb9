// attention() on every data family: no element outside the error bound (rule 1), and over the family an error like that
// of a plain sequential implementation in the same type (rule 2), which catches a sloppy exp. Prints both.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/data_families.hpp"
#include "support/environment.hpp"

namespace headwise::test {
namespace {

/// Problems of one kind, and the rows of each to compare: 10,000 output elements a family, or more.
struct Workload {
  const char* name;
  std::vector<AttentionCase> problems;
  std::int64_t rows;
};

AttentionCase case_of(const AttentionShape& shape, bool causal) {
  AttentionCase problem{.shape = shape};
  problem.options.causal = causal;
  problem.options.query_position = QueryPosition::bottom_right;
  problem.logsumexp = problem.weights = true;
  return problem;
}

/// Few queries against long keys: a batch of questions to one text.
AttentionCase few_queries(std::int64_t batch, std::int64_t query_length, std::int64_t dim) {
  const std::int64_t sequences = reduced_grid() ? 3 : batch;
  AttentionCase problem = case_of({sequences, 1, 1, query_length, 2000, dim, dim}, query_length > 1);
  problem.one_key_sequence = true;
  return problem;
}

std::vector<Workload> workloads() {
  const std::vector<AttentionCase> many_rows =
      reduced_grid() ? std::vector{case_of({1, 1, 1, 20, 330, 64, 64}, false), case_of({1, 2, 1, 20, 150, 64, 64}, true),
                                   case_of({1, 1, 1, 20, 150, 128, 128}, true)}
                     : std::vector{case_of({1, 1, 1, 300, 1030, 64, 64}, false),
                                   case_of({1, 2, 1, 300, 300, 64, 64}, true),
                                   case_of({1, 1, 1, 257, 300, 128, 128}, true)};
  return {{"many rows", many_rows, 50},
          {"few rows", {few_queries(60, 1, 64), few_queries(15, 4, 64), few_queries(20, 1, 128)}, 60}};
}

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
  const auto path_of_first = [](const Workload& workload) {
    const AttentionCase& problem = workload.problems.front();
    return AttentionPlan<T>(problem.shape, problem.options).path(problem.shape.query_length, 0);
  };
  CHECK(path_of_first(workloads()[0]) == KernelPath::query_tile);
  CHECK(path_of_first(workloads()[1]) == KernelPath::row_dot);
}

}  // namespace
}  // namespace headwise::test
