// attention() with all options pairwise, on every data family: within the error bound, with the same bits for every
// thread count, between guard pages, with the memory between the outputs' elements untouched.
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

template <class T>
void check_case(const AttentionCase& problem, const DataFamily<T>& family, bool threaded) {
  FamilyTensors<T> tensors(family, problem, 13);
  tensors->make_inputs_read_only();
  const Outputs<T> expected = tensors->run(threaded ? 3 : 1);
  const std::string name = describe(tensors->problem()) + ", " + family.name;
  const Report report =
      check_rows(tensors->arguments(), problem.options, choose_rows(problem.shape, reduced_grid() ? 5 : 12));
  CHECK_MESSAGE(report.violations == 0, name, ": ", report.violations, " of ", report.elements, " elements, first ",
                report.first_violation);
  CHECK_MESSAGE(tensors->gaps_untouched(), name, ": wrote between the elements of an output");
  if (reduced_grid()) return;
  CHECK_MESSAGE(same_bits(tensors->run(threaded ? 1 : 3), expected), name, ": other bits with 3 threads");
}

TEST_CASE_TEMPLATE("attention: all options pairwise, on every data family", T, float, double) {
  const std::vector<DataFamily<T>> families = data_families<T>();
  std::size_t n = 0;
  for (const AttentionCase& problem : option_grid()) {
    ++n;
    for (std::size_t f = 0; f < families.size(); ++f) {
      if (reduced_grid() && (f + n) % families.size() > 0) continue;
      check_case(problem, families[f], n % 2 == 1);
    }
  }
}

}  // namespace
}  // namespace headwise::test
