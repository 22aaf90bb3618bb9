// What attention() gives beside the output: logsumexp, weights, their mean over heads, scores at each stage. How they
// hang together, and what they hold for excluded keys.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/data_families.hpp"
#include "support/environment.hpp"
#include "support/error_bound.hpp"
#include "support/rearranged.hpp"

namespace headwise::test {
namespace {

constexpr std::int64_t key_length = 203;
constexpr std::array stages{ScoreStage::scaled, ScoreStage::softcapped, ScoreStage::biased};

template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();

/// Few and many rows with every option that acts on scores, all outputs asked for.
std::vector<AttentionCase> problems() {
  std::vector<AttentionCase> cases;
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase problem{.shape = {2, 4, queries == 1 ? 4 : 2, queries, key_length, 64, 37}};
    problem.options.softcap = 2;
    problem.options.causal = true;
    problem.options.window.left = 90;
    problem.options.query_position = QueryPosition::bottom_right;
    problem.key_lengths = {key_length, 150};
    problem.mask = Varies{.batch = false};
    problem.bias = Varies{.head = false};
    problem.alibi = problem.sinks = true;
    problem.logsumexp = problem.weights = problem.mean_weights = problem.scores = true;
    cases.push_back(problem);
  }
  return cases;
}

template <class T>
Outputs<T> run_case(const AttentionCase& problem) {
  AttentionTensors<T> tensors(problem);
  tensors.fill(17);
  return tensors.run();
}

TEST_CASE_TEMPLATE("attention: every subset of outputs has the same bits", T, float, double) {
  for (AttentionCase problem : problems()) {
    const Outputs<T> all = run_case<T>(problem);
    for (unsigned subset = 0; subset < 16; ++subset) {
      if (reduced_grid() && std::popcount(subset) == 2) continue;
      problem.logsumexp = (subset & 1) != 0;
      problem.weights = (subset & 2) != 0;
      problem.mean_weights = (subset & 4) != 0;
      problem.scores = (subset & 8) != 0;
      Outputs<T> expected = all;
      if (!problem.logsumexp) expected.logsumexp.clear();
      if (!problem.weights) expected.weights.clear();
      if (!problem.mean_weights) expected.mean_weights.clear();
      if (!problem.scores) expected.scores.clear();
      CHECK_MESSAGE(same_bits(run_case<T>(problem), expected), describe(problem));
    }
  }
}

TEST_CASE_TEMPLATE("attention: excluded keys have weight +0 and a biased score of -inf", T, float, double) {
  for (AttentionCase problem : problems()) {
    problem.options.score_stage = ScoreStage::biased;
    AttentionTensors<T> tensors(problem);
    tensors.fill(17);
    tensors.run();
    const AttentionArguments<T> arguments = tensors.arguments();
    std::int64_t wrong = 0, excluded = 0;
    visit_scores(*arguments.weights, [&](RowIndex row, std::int64_t j, T weight) {
      const T score = (*arguments.scores)(row.batch, row.head, row.query, j);
      if (attends(arguments, problem.options, row, j)) {
        wrong += !std::isfinite(score) || !(weight >= 0);
      } else {
        ++excluded;
        wrong += score != -infinity<T> || !same_bits(std::vector{weight}, std::vector{T{0}});
      }
    });
    CHECK_MESSAGE(wrong == 0, describe(problem), ": ", wrong, " keys, ", excluded, " are excluded");
    CHECK(excluded > 0);
  }
}

TEST_CASE_TEMPLATE("attention: scores before the bias know nothing of bias, mask, lengths and positions", T, float,
                   double) {
  for (const AttentionCase& base : problems()) {
    for (const ScoreStage stage : {ScoreStage::scaled, ScoreStage::softcapped}) {
      AttentionCase problem = base;
      problem.options.score_stage = stage;
      problem.key_lengths = {key_length, key_length};
      AttentionTensors<T> tensors(problem);
      tensors.fill(17);
      const std::vector<T> scores = tensors.run().scores;
      AttentionArguments<T> arguments = tensors.arguments();
      const std::vector<std::int64_t> fewer{key_length, 0};
      arguments.key_lengths = fewer;
      attention<T>(arguments, problem.options);
      CHECK_MESSAGE(same_bits(dense(*arguments.scores), scores), describe(problem), ": with key lengths");

      AttentionOptions plain = problem.options;
      plain.causal = false;
      plain.window = {};
      arguments.mask.reset();
      arguments.bias.reset();
      arguments.alibi_slopes = arguments.sinks = {};
      attention<T>(arguments, plain);
      CHECK_MESSAGE(same_bits(dense(*arguments.scores), scores), describe(problem), ": without options");
      CHECK_MESSAGE(std::all_of(scores.begin(), scores.end(), [](T score) { return std::isfinite(score); }),
                    describe(problem));
    }
  }
}

TEST_CASE_TEMPLATE("attention: NaN in an excluded key shows in its scores only", T, float, double) {
  constexpr std::int64_t special_key = 30;
  for (AttentionCase problem : problems()) {
    problem.options.window = {20, 0};
    problem.options.query_position = QueryPosition::given;
    problem.query_offsets = {120, 60};
    AttentionTensors<T> tensors(problem);
    tensors.fill(17);
    const Outputs<T> expected = tensors.run();
    fill_with(tensors.key().slice(2, special_key, special_key + 1), std::numeric_limits<T>::quiet_NaN());
    Outputs<T> got = tensors.run();
    const AttentionArguments<T> arguments = tensors.arguments();
    for (const T score : dense(arguments.scores->slice(3, special_key, special_key + 1))) CHECK(std::isnan(score));
    got.scores = expected.scores;
    CHECK_MESSAGE(same_bits(got, expected), describe(problem));
  }
}

/// Scores of the case at each stage.
template <class T>
std::array<std::vector<T>, 3> all_stages(AttentionTensors<T>& tensors) {
  std::array<std::vector<T>, 3> scores;
  for (std::size_t n = 0; n < stages.size(); ++n) {
    AttentionOptions options = tensors.problem().options;
    options.score_stage = stages[n];
    attention<T>(tensors.arguments(), options);
    scores[n] = dense(*tensors.arguments().scores);
  }
  return scores;
}

TEST_CASE_TEMPLATE("attention: each stage of the scores follows from the one before, the weights from the last", T,
                   float, double) {
  for (AttentionCase problem : problems()) {
    problem.key_lengths = {};
    AttentionTensors<T> tensors(problem);
    tensors.fill(17);
    const std::array<std::vector<T>, 3> at_stage = all_stages(tensors);
    const Outputs<T> got = copy_outputs(tensors.arguments());
    const AttentionArguments<T> arguments = tensors.arguments();
    double worst_cap = 0, worst_bias = 0, worst_weight = 0;
    std::size_t n = 0;
    visit_scores(*arguments.weights, [&](RowIndex row, std::int64_t j, T weight) {
      const double scaled = at_stage[0][n], capped = at_stage[1][n], score = at_stage[2][n];
      worst_cap = std::max(worst_cap, std::abs(capped - 2 * std::tanh(scaled / 2)));
      if (attends(arguments, problem.options, row, j)) {
        const Term<double> added = added_to_score<double>(arguments, problem.options, row, j);
        const double logsumexp = (*arguments.logsumexp)(row.batch, row.head, row.query);
        worst_bias = std::max(worst_bias, std::abs(score - capped - added.value) / (2 + added.magnitude));
        worst_weight = std::max(worst_weight, std::abs(static_cast<double>(weight) - std::exp(score - logsumexp)));
      }
      ++n;
    });
    // Roundings of numbers of about 2 and of scores of up to a few dozen: far from a mistake, far from the last bit.
    const double u = rounding_unit<T>;
    CHECK_MESSAGE(worst_cap <= 30 * u, describe(problem), ": ", worst_cap / u, " u");
    CHECK_MESSAGE(worst_bias <= 4 * u, describe(problem), ": ", worst_bias / u, " u");
    CHECK_MESSAGE(worst_weight <= 600 * u, describe(problem), ": ", worst_weight / u, " u");
  }
}

TEST_CASE_TEMPLATE("attention: all stages of the scores and all outputs are within the bound", T, float, double) {
  for (AttentionCase problem : problems()) {
    for (const double softcap : {0.0, 2.0, 50.0}) {
      for (const ScoreStage stage : stages) {
        if (reduced_grid() && (softcap == 2) != (stage == ScoreStage::softcapped)) continue;
        problem.options.softcap = softcap;
        problem.options.score_stage = stage;
        AttentionTensors<T> tensors(problem);
        tensors.fill(17);
        const Outputs<T> expected = tensors.run();
        const auto rows = choose_rows(problem.shape, reduced_grid() ? 5 : 16);
        const Report report = check_rows(tensors.arguments(), problem.options, rows);
        CHECK_MESSAGE(report.violations == 0, describe(problem), ": ", report.violations, " of ", report.elements,
                      ", first ", report.first_violation);
        CHECK_MESSAGE(same_bits(tensors.run(3), expected), describe(problem));
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention: all outputs are within the bound on every data family", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase problem{.shape = {1, 4, queries == 1 ? 4 : 2, queries, key_length, 64, 37}};
    problem.logsumexp = problem.weights = problem.mean_weights = problem.scores = true;
    problem.options.score_stage = ScoreStage::biased;
    for (const DataFamily<T>& family : data_families<T>()) {
      FamilyTensors<T> tensors(family, problem, 17);
      tensors->run();
      const auto rows = choose_rows(problem.shape, reduced_grid() ? 3 : 12);
      const Report report = check_rows(tensors->arguments(), problem.options, rows);
      CHECK_MESSAGE(report.violations == 0, (describe(tensors->problem()) + ", " + family.name), ": ",
                    report.first_violation);
    }
  }
}

TEST_CASE_TEMPLATE("attention: no key at all leaves empty or neutral outputs", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase problem{.shape = {2, 4, 2, queries, 0, 16, 16}};
    problem.logsumexp = problem.weights = problem.mean_weights = problem.scores = problem.sinks = true;
    AttentionTensors<T> tensors(problem);
    tensors.fill(17);
    const Outputs<T> got = tensors.run();
    CHECK(same_bits(got.output, std::vector<T>(got.output.size(), T{0})));
    CHECK(got.weights.empty());
    const Report report = check_rows(tensors.arguments(), problem.options, choose_rows(problem.shape, 1000));
    CHECK_MESSAGE(report.violations == 0, describe(problem), ": ", report.first_violation);
  }
}

}  // namespace
}  // namespace headwise::test
