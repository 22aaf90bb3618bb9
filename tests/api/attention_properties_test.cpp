// What attention() promises over random shapes, strides and option sets: equalities to the last bit, and what holds
// within the error bound.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/environment.hpp"
#include "support/error_bound.hpp"
#include "support/random.hpp"
#include "support/random_case.hpp"
#include "support/rearranged.hpp"

namespace headwise::test {
namespace {

/// Runs the problem of these tensors with other arguments into the same, poisoned outputs.
template <class T>
Outputs<T> run_with(AttentionTensors<T>& tensors, const AttentionArguments<T>& arguments) {
  tensors.poison_outputs();
  attention<T>(arguments, tensors.problem().options);
  return copy_outputs(arguments);
}

/// A problem whose keys may come in any order.
AttentionCase without_positions(AttentionCase problem) {
  problem.options.causal = problem.alibi = problem.relative_bias = false;
  problem.options.window = {};
  problem.key_lengths.clear();
  return problem;
}

TEST_CASE_TEMPLATE("attention: a mask equals the 0/-inf bias bit for bit", T, float, double) {
  for_random_cases(1, draws(reduced_grid()), [](const AttentionCase& problem, std::uint64_t seed) {
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    const Outputs<T> expected = tensors.run();
    const DenseTensor<T> joined(scores_extents(tensors.arguments()));
    join_biases(tensors.arguments(), joined.view);
    const Outputs<T> got = run_with(tensors, with_only_bias(tensors.arguments(), joined.view));
    CHECK_MESSAGE(same_bits(got, expected), describe(problem), ", seed ", seed);
  });
}

TEST_CASE_TEMPLATE("attention: a window over everything equals none", T, float, double) {
  for_random_cases(2, draws(reduced_grid()), [](AttentionCase problem, std::uint64_t seed) {
    // Offsets are at most a few more than the keys.
    const std::int64_t everything = problem.shape.key_length + problem.shape.query_length + 10;
    const auto run = [&](Window window) {
      problem.options.window = window;
      AttentionTensors<T> tensors(problem);
      tensors.fill(seed);
      return tensors.run();
    };
    const Outputs<T> expected = run({});
    CHECK_MESSAGE(same_bits(run({everything, everything}), expected), describe(problem), ", seed ", seed);
    CHECK_MESSAGE(same_bits(run({-1, everything}), expected), describe(problem), ", seed ", seed);
  });
}

TEST_CASE_TEMPLATE("attention: grouped heads equal repeated heads bit for bit", T, float, double) {
  for_random_cases(3, draws(reduced_grid()), [](AttentionCase problem, std::uint64_t seed) {
    // A tile of grouped heads spans fewer queries: positions would cut its keys elsewhere.
    problem.options.causal = false;
    problem.options.window = {};
    AttentionShape repeated = problem.shape;
    repeated.num_kv_heads = repeated.num_heads;
    const AttentionPlan<T> plan(problem.shape, problem.options), repeated_plan(repeated, problem.options);
    if (plan.path(repeated.query_length, 0) != repeated_plan.path(repeated.query_length, 0)) return;
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    const Outputs<T> expected = tensors.run();
    AttentionArguments<T> arguments = tensors.arguments();
    const std::int64_t group = repeated.num_heads / problem.shape.num_kv_heads;
    const DenseTensor<T> key({repeated.batch, repeated.num_heads, repeated.key_length, repeated.head_dim});
    const DenseTensor<T> value({repeated.batch, repeated.num_heads, repeated.key_length, repeated.value_dim});
    const auto group_of = [&](std::int64_t head) { return head / group; };
    copy_tokens(arguments.key, key.view, group_of, std::identity());
    copy_tokens(arguments.value, value.view, group_of, std::identity());
    arguments.key = key.view;
    arguments.value = value.view;
    CHECK_MESSAGE(same_bits(run_with(tensors, arguments), expected), describe(problem), ", seed ", seed);
  });
}

TEST_CASE_TEMPLATE("attention: a batch equals its parts bit for bit", T, float, double) {
  for_random_cases(4, draws(reduced_grid()), [](const AttentionCase& problem, std::uint64_t seed) {
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    const Outputs<T> expected = tensors.run();
    tensors.poison_outputs();
    const AttentionArguments<T> whole = tensors.arguments();
    for (std::int64_t b = 0; b < problem.shape.batch; ++b) attention<T>(sequence_of(whole, b), problem.options);
    CHECK_MESSAGE(same_bits(copy_outputs(whole), expected), describe(problem), ", seed ", seed);
  });
}

TEST_CASE_TEMPLATE("attention: strided tensors equal packed ones bit for bit", T, float, double) {
  for_random_cases(5, draws(reduced_grid()), [](AttentionCase problem, std::uint64_t seed) {
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    const Outputs<T> got = tensors.run(3);
    CHECK_MESSAGE(tensors.gaps_untouched(), describe(problem), ", seed ", seed);
    AttentionCase packed = problem;
    packed.layout = Layout::bhsd;
    AttentionTensors<T> packed_tensors(packed);
    packed_tensors.fill(seed);
    CHECK_MESSAGE(same_bits(got, packed_tensors.run()), describe(problem), ", seed ", seed);
  });
}

/// Everything that was written for a row.
template <class T>
std::vector<T> row_outputs(const AttentionArguments<T>& arguments, RowIndex row) {
  const auto rows = [&](const auto& view) {
    return view.slice(0, row.batch, row.batch + 1).slice(1, row.head, row.head + 1).slice(2, row.query, row.query + 1);
  };
  std::vector<T> elements = dense(rows(arguments.output));
  for (const T weight : dense(rows(*arguments.weights))) elements.push_back(weight);
  elements.push_back(dense(rows(*arguments.logsumexp)).front());
  return elements;
}

TEST_CASE_TEMPLATE("attention: what an excluded key holds changes no bit", T, float, double) {
  constexpr std::array intruders{std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(),
                                 -std::numeric_limits<T>::infinity(), std::numeric_limits<T>::max(), T{3}};
  for_random_cases(6, draws(reduced_grid()), [&](const AttentionCase& problem, std::uint64_t seed) {
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    const AttentionArguments<T> arguments = tensors.arguments();
    Random random(seed);
    const std::int64_t changed = random.below(problem.shape.key_length);
    const T intruder = random.among(intruders);
    std::vector<RowIndex> rows = choose_rows(problem.shape, 300);
    std::erase_if(rows, [&](RowIndex row) { return attends(arguments, problem.options, row, changed); });
    tensors.run();
    std::vector<std::vector<T>> expected;
    for (const RowIndex& row : rows) expected.push_back(row_outputs(arguments, row));
    for (const auto& view : {tensors.key(), tensors.value()}) fill_with(view.slice(2, changed, changed + 1), intruder);
    tensors.run();
    std::int64_t other = 0;
    for (std::size_t n = 0; n < rows.size(); ++n) other += !same_bits(row_outputs(arguments, rows[n]), expected[n]);
    CHECK_MESSAGE(other == 0, describe(problem), ", seed ", seed, ": ", other, " of ", rows.size(),
                  " rows changed with key ", changed, " of ", intruder);
  });
}

TEST_CASE_TEMPLATE("attention: scaling the values by a power of two is exact under all options", T, float, double) {
  for_random_cases(7, draws(reduced_grid(), 2), [](const AttentionCase& problem, std::uint64_t seed) {
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    Outputs<T> expected = tensors.run();
    const T factor = seed % 2 == 0 ? T{0x1p-30} : T{0x1p40};
    visit_elements(tensors.value(), [&](T& value) { value *= factor; });
    for (T& element : expected.output) element *= factor;
    CHECK_MESSAGE(same_bits(tensors.run(), expected), describe(problem), ", seed ", seed);
  });
}

// ------------------------------------------------------------------------------------------------ within the bound

template <class T>
void check_against(const AttentionArguments<T>& arguments, const AttentionCase& problem, std::uint64_t seed) {
  const Report report = check_rows(arguments, problem.options, choose_rows(problem.shape, 12));
  CHECK_MESSAGE(report.violations == 0, describe(problem), ", seed ", seed, ": ", report.first_violation);
}

TEST_CASE_TEMPLATE("attention: the order of keys matters within the bound only", T, float, double) {
  for_random_cases(8, draws(reduced_grid(), 2), [](const AttentionCase& drawn, std::uint64_t seed) {
    const AttentionCase problem = without_positions(drawn);
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    AttentionArguments<T> ordered = tensors.arguments(), permuted = ordered;
    std::vector<std::int64_t> order(static_cast<std::size_t>(problem.shape.key_length));
    std::iota(order.begin(), order.end(), 0);
    Random random(seed);
    for (std::size_t n = order.size(); n > 1; --n) {
      std::swap(order[n - 1], order[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(n)))]);
    }
    const auto from = [&](std::int64_t j) { return order[static_cast<std::size_t>(j)]; };
    const DenseTensor<T> key(ordered.key.extents), value(ordered.value.extents);
    const DenseTensor<T> joined(scores_extents(ordered)), bias(scores_extents(ordered));
    copy_tokens(ordered.key, key.view, std::identity(), from);
    copy_tokens(ordered.value, value.view, std::identity(), from);
    join_biases(ordered, joined.view);
    visit_scores(bias.view, [&](RowIndex row, std::int64_t j, T& element) {
      element = joined.view(row.batch, row.head, row.query, from(j));
    });
    permuted = with_only_bias(permuted, bias.view);
    permuted.key = key.view;
    permuted.value = value.view;
    permuted.weights.reset();
    run_with(tensors, permuted);
    ordered.weights.reset();
    check_against(ordered, problem, seed);
  });
}

TEST_CASE_TEMPLATE("attention: a constant added to all scores of a row matters within the bound only", T, float,
                   double) {
  for_random_cases(9, draws(reduced_grid(), 2), [](AttentionCase problem, std::uint64_t seed) {
    problem.sinks = false;
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    const AttentionArguments<T> arguments = tensors.arguments();
    const DenseTensor<T> bias(scores_extents(arguments)), shifted(scores_extents(arguments));
    join_biases(arguments, bias.view);
    // Multiples of 1/8: the sums are exact, so that what was computed also answers the shifted problem.
    visit_elements(bias.view, [](T& element) { element = std::round(8 * element) / 8; });
    visit_scores(shifted.view, [&](RowIndex row, std::int64_t j, T& element) {
      element = bias.view(row.batch, row.head, row.query, j) + static_cast<T>((row.query + 3 * row.head) % 40 - 20);
    });
    run_with(tensors, with_only_bias(arguments, bias.view));
    AttentionArguments<T> moved = with_only_bias(arguments, shifted.view);
    moved.logsumexp.reset();
    check_against(moved, problem, seed);
  });
}

TEST_CASE_TEMPLATE("attention: weights sum to 1 and outputs lie between the values", T, float, double) {
  using Real = ReferenceTypeOf<T>;
  for_random_cases(10, draws(reduced_grid()), [](const AttentionCase& problem, std::uint64_t seed) {
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    tensors.run();
    const AttentionArguments<T> arguments = tensors.arguments();
    for (const RowIndex& row : choose_rows(problem.shape, 4)) {
      const auto reference = reference_row<Real>(arguments, problem.options, row);
      const auto bound = error_bound(reference, arguments, problem.options, row);
      Real sum = reference.sink_weight, allowed = 0;
      std::vector<Real> lowest(reference.output.size(), reference.sink_weight > 0 ? 0 : INFINITY), highest = lowest;
      for (Real& element : highest) element = -element;
      for (std::size_t j = 0; j < reference.weight.size(); ++j) {
        const auto key = static_cast<std::int64_t>(j);
        sum += static_cast<Real>((*arguments.weights)(row.batch, row.head, row.query, key));
        allowed += bound.weights[j];
        for (std::size_t c = 0; c < lowest.size() && reference.attended[j]; ++c) {
          const auto kv_head = kv_head_of(arguments, row.head);
          const Real v = arguments.value(row.batch, kv_head, key, static_cast<std::int64_t>(c));
          lowest[c] = std::min(lowest[c], v);
          highest[c] = std::max(highest[c], v);
        }
      }
      const bool dead = std::count(reference.attended.begin(), reference.attended.end(), char{1}) == 0;
      CHECK_MESSAGE(std::abs(sum - (dead && !problem.sinks ? 0 : 1)) <= allowed, describe(problem), ", seed ", seed);
      for (std::size_t c = 0; c < lowest.size() && !dead; ++c) {
        const Real got = arguments.output(row.batch, row.head, row.query, static_cast<std::int64_t>(c));
        const bool within = got >= lowest[c] - bound.output[c] && got <= highest[c] + bound.output[c];
        CHECK_MESSAGE(within, describe(problem), ", seed ", seed, ": ", got, " not from ", lowest[c], " to ",
                      highest[c]);
      }
    }
  });
}

}  // namespace
}  // namespace headwise::test
