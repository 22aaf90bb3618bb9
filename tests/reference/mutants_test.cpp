// A test of the tests: mistakes planted in a copy of the reference are caught by the cases and the bound that judge
// attention(), and the copy without a mistake passes them all.
#include "reference/mutants.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/data_families.hpp"
#include "support/environment.hpp"
#include "support/option_grid.hpp"

namespace headwise::test {
namespace {

/// What the check of the pairwise grid says of the copy with a mistake.
template <class T>
Report judge(Mutation mutation, const AttentionCase& problem, const DataFamily<T>& family) {
  FamilyTensors<T> tensors(family, problem, 13);
  const AttentionArguments<T> arguments = tensors->arguments();
  const std::vector<RowIndex> rows = choose_rows(problem.shape, 12);
  const Mutant<ReferenceTypeOf<T>, T> mutant(arguments, problem.options, mutation);
  for (const RowIndex& row : rows) {
    if (row.query < query_length_of(arguments, row.batch)) mutant.write_row(row);
  }
  return check_rows(arguments, problem.options, rows);
}

TEST_CASE("test of the tests: every planted mistake is caught") {
  if (reduced_grid()) return;  // says nothing of the processor
  const std::vector<DataFamily<float>> families = data_families<float>();
  const std::vector<AttentionCase> grid = option_grid();
  for (int n = 1; n < static_cast<int>(Mutation::count); ++n) {
    std::string caught;
    for (std::size_t c = 0; c < grid.size() && caught.empty(); ++c) {
      const Report report = judge(static_cast<Mutation>(n), grid[c], families[c % families.size()]);
      if (report.violations > 0) caught = describe(grid[c]) + ": " + report.first_violation;
    }
    CHECK_MESSAGE(!caught.empty(), "mutation ", n, " is not caught by any case");
  }
}

TEST_CASE_TEMPLATE("test of the tests: the copy without a mistake passes", T, float, double) {
  const std::vector<DataFamily<T>> families = data_families<T>();
  const std::vector<AttentionCase> grid = option_grid();
  for (std::size_t c = 0; c < grid.size(); ++c) {
    if (reduced_grid() && c % 8 != 0) continue;
    const Report report = judge(Mutation::none, grid[c], families[c % families.size()]);
    CHECK_MESSAGE(report.violations == 0, describe(grid[c]), ": ", report.first_violation);
  }
}

}  // namespace
}  // namespace headwise::test
