// NaN, infinities and very large numbers in attention(): they reach exactly the rows and features that use them. Every
// other element keeps the bits it has without them. Shapes for the kernel of many rows and the one of few.
#include <doctest/doctest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "support/environment.hpp"
#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/error_bound.hpp"
#include "support/random.hpp"

namespace headwise::test {
namespace {

constexpr std::int64_t key_length = 203;
constexpr std::int64_t value_dim = 37;
constexpr std::int64_t special_key = 100;
constexpr std::int64_t special_feature = 5;

template <class T>
constexpr T nan = std::numeric_limits<T>::quiet_NaN();
template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();

/// Few and many rows, all keys and causal. A single query has a key head of its own, or the two rows of a group would
/// be many for the narrowest vectors.
std::vector<AttentionCase> problems() {
  std::vector<AttentionCase> cases;
  std::vector<std::int64_t> lengths = few_and_many_queries();
  if (!reduced_grid()) lengths.push_back(key_length);
  for (const std::int64_t queries : lengths) {
    for (const bool causal : {false, true}) {
      const std::int64_t num_kv_heads = queries == 1 ? 4 : 2;
      AttentionCase problem{.shape = {2, 4, num_kv_heads, queries, key_length, 64, value_dim},
                            .logsumexp = true,
                            .weights = true};
      problem.options.causal = causal;
      problem.options.query_position = QueryPosition::bottom_right;
      cases.push_back(problem);
    }
  }
  return cases;
}

/// What an element of the output must be.
enum class Expectation { unchanged, not_a_number, plus_infinity };

/// Runs a case on normal numbers, then once more after `spoil`, and compares each output element with `expect(row, c)`.
template <class T>
void check_containment(const AttentionCase& problem, const std::string& what,
                       const std::function<void(const AttentionTensors<T>&)>& spoil,
                       const std::function<Expectation(const RowIndex&, std::int64_t)>& expect) {
  AttentionTensors<T> tensors(problem);
  tensors.fill(9);
  const std::vector<T> before = tensors.run().output;
  spoil(tensors);
  const std::vector<T> after = tensors.run().output;
  std::string wrong;
  for (std::size_t n = 0; n < after.size() && wrong.empty(); ++n) {
    const auto flat = static_cast<std::int64_t>(n);
    const std::int64_t row = flat / value_dim, sequence = row / problem.shape.query_length;
    const RowIndex index{sequence / 4, sequence % 4, row % problem.shape.query_length};
    bool good = false;
    switch (expect(index, flat % value_dim)) {
      case Expectation::unchanged: good = same_bits(std::vector{after[n]}, std::vector{before[n]}); break;
      case Expectation::not_a_number: good = std::isnan(after[n]); break;
      case Expectation::plus_infinity: good = after[n] == infinity<T>; break;
    }
    if (good) continue;
    std::ostringstream text;
    text << "output[" << index.batch << ", " << index.head << ", " << index.query << ", " << flat % value_dim << "] is "
         << after[n] << ", was " << before[n];
    wrong = text.str();
  }
  CHECK_MESSAGE(wrong.empty(), describe(problem), ", ", what, ": ", wrong);
}

/// Whether a row belongs to batch entry 1 and key head 0, which hold the special key, and attends it.
template <class T>
bool uses_special_key(const AttentionTensors<T>& tensors, const RowIndex& row) {
  const AttentionArguments<T> arguments = tensors.arguments();
  return row.batch == 1 && kv_head_of(arguments, row.head) == 0 &&
         attends(arguments, tensors.problem().options, row, special_key);
}

TEST_CASE_TEMPLATE("attention: NaN in a query reaches its row only", T, float, double) {
  for (const AttentionCase& problem : problems()) {
    const std::int64_t special_query = problem.shape.query_length / 2;
    check_containment<T>(
        problem, "query NaN",
        [&](const AttentionTensors<T>& tensors) { tensors.query()(1, 2, special_query, special_feature) = nan<T>; },
        [&](const RowIndex& row, std::int64_t) {
          return row.batch == 1 && row.head == 2 && row.query == special_query ? Expectation::not_a_number
                                                                               : Expectation::unchanged;
        });
  }
}

TEST_CASE_TEMPLATE("attention: NaN in a key reaches the rows that attend it only", T, float, double) {
  for (const AttentionCase& problem : problems()) {
    const AttentionTensors<T> rows(problem);
    check_containment<T>(
        problem, "key NaN",
        [](const AttentionTensors<T>& tensors) { tensors.key()(1, 0, special_key, special_feature) = nan<T>; },
        [&](const RowIndex& row, std::int64_t) {
          return uses_special_key(rows, row) ? Expectation::not_a_number : Expectation::unchanged;
        });
  }
}

TEST_CASE_TEMPLATE("attention: NaN and inf in a value reach one feature of the rows that attend it only", T, float,
                   double) {
  for (const AttentionCase& problem : problems()) {
    const AttentionTensors<T> rows(problem);
    for (const T special : {nan<T>, infinity<T>}) {
      check_containment<T>(
          problem, "value special",
          [&](const AttentionTensors<T>& tensors) { tensors.value()(1, 0, special_key, special_feature) = special; },
          [&](const RowIndex& row, std::int64_t c) {
            if (c != special_feature || !uses_special_key(rows, row)) return Expectation::unchanged;
            return std::isnan(special) ? Expectation::not_a_number : Expectation::plus_infinity;
          });
    }
  }
}

TEST_CASE_TEMPLATE("attention: a score of +inf makes its row NaN, one of -inf has weight 0", T, float, double) {
  for (const AttentionCase& problem : problems()) {
    for (const T special : {infinity<T>, std::numeric_limits<T>::max()}) {
      AttentionTensors<T> tensors(problem);
      tensors.fill(9);
      // Queries of even rows are positive there, those of odd rows negative; the largest number overflows times 1000.
      for (std::int64_t i = 0; i < problem.shape.query_length; ++i) {
        fill_with(tensors.query().slice(2, i, i + 1).slice(3, special_feature, special_feature + 1),
                  i % 2 == 0 ? T{1000} : T{-1000});
      }
      fill_with(tensors.key().slice(3, special_feature, special_feature + 1), T{0});
      tensors.key()(1, 0, special_key, special_feature) = special;
      tensors.run();
      const AttentionArguments<T> arguments = tensors.arguments();
      // The reference scores in a wider type, which the largest number does not overflow.
      tensors.key()(1, 0, special_key, special_feature) = infinity<T>;
      const Report report = check_rows(arguments, problem.options, choose_rows(problem.shape, 60));
      CHECK_MESSAGE(report.violations == 0, describe(problem), ", key ", special, ": ", report.first_violation);
    }
  }
}

TEST_CASE_TEMPLATE("attention: a row whose scores are all -inf is dead", T, float, double) {
  for (const AttentionCase& problem : problems()) {
    AttentionTensors<T> tensors(problem);
    tensors.fill(9);
    fill_with(tensors.query().slice(3, 0, 1), T{1});
    fill_with(tensors.key().slice(3, 0, 1), -infinity<T>);
    const Outputs<T> got = tensors.run();
    const Outputs<T> expected{std::vector<T>(got.output.size(), T{0}),
                              std::vector<T>(got.logsumexp.size(), -infinity<T>),
                              std::vector<T>(got.weights.size(), T{0})};
    CHECK_MESSAGE(same_bits(got, expected), describe(problem));
  }
}

TEST_CASE_TEMPLATE("attention: NaN in the query of a row without keys leaves it +0", T, float, double) {
  for (AttentionCase problem : problems()) {
    problem.key_lengths = {0, 0};
    check_containment<T>(
        problem, "query NaN", [](const AttentionTensors<T>& tensors) { fill_with(tensors.query(), nan<T>); },
        [](const RowIndex&, std::int64_t) { return Expectation::unchanged; });
  }
}

TEST_CASE_TEMPLATE("attention: equal scores of -1e30 give equal weights at every length", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    for (const std::int64_t keys : {1, 5, 17, 33, 65, 97, 129, 203}) {
      AttentionTensors<T> tensors({.shape = {1, 2, 1, queries, keys, 64, value_dim}, .weights = true});
      tensors.fill(9);
      fill_with(tensors.query(), T(-1e15));
      fill_with(tensors.key(), T(1e15));
      T worst = 0;
      for (const T weight : tensors.run().weights) {
        worst = std::max(worst, std::abs(weight * static_cast<T>(keys) - 1));
      }
      CHECK_MESSAGE(worst <= 8 * rounding_unit<T>, describe(tensors.problem()), ": off by ", worst);
    }
  }
}

TEST_CASE_TEMPLATE("attention: subnormal numbers are only numbers", T, float, double) {
  for (const AttentionCase& problem : problems()) {
    AttentionTensors<T> tensors(problem);
    Random random(9);
    for (const auto& view : {tensors.query(), tensors.key(), tensors.value()}) {
      fill_normal(random, view, static_cast<double>(std::numeric_limits<T>::min()) / 16);
    }
    tensors.run();
    const Report report = check_rows(tensors.arguments(), problem.options, choose_rows(problem.shape, 30));
    CHECK_MESSAGE(report.violations == 0, describe(problem), ": ", report.first_violation);
  }
}

TEST_CASE_TEMPLATE("attention: scales of 0, below it and subnormal ones are only numbers", T, float, double) {
  for (AttentionCase problem : problems()) {
    for (const double scale : {0.0, -0.0, -1.5, 5e-324, 1e-40}) {
      problem.options.scale = scale;
      AttentionTensors<T> tensors(problem);
      tensors.fill(9);
      tensors.run();
      const Report report = check_rows(tensors.arguments(), problem.options, choose_rows(problem.shape, 30));
      CHECK_MESSAGE(report.violations == 0, describe(problem), ": ", report.first_violation);
    }
  }
}

TEST_CASE_TEMPLATE("attention: finite numbers raise no floating-point exception that could trap", T, float, double) {
  for (AttentionCase problem : problems()) {
    problem.key_lengths = {key_length, 97};
    AttentionTensors<T> tensors(problem);
    tensors.fill(9);
    std::feclearexcept(FE_ALL_EXCEPT);
    tensors.run();
    CHECK_MESSAGE(std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW) == 0, describe(problem));
  }
}

}  // namespace
}  // namespace headwise::test
