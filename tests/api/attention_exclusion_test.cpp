// Which keys attention() attends: causal at every query position, key lengths, and that excluded keys are never used.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "support/attention_case.hpp"
#include "support/environment.hpp"

namespace headwise::test {
namespace {

constexpr std::int64_t key_length = 203;
constexpr std::int64_t largest_offset = std::int64_t{1} << 62;  // accepted

/// Rows of few and many queries, all outputs asked for.
std::vector<AttentionCase> problems() {
  std::vector<AttentionCase> cases;
  std::vector<std::int64_t> lengths = few_and_many_queries();
  if (!reduced_grid()) lengths.push_back(230);
  for (const std::int64_t queries : lengths) {
    // A single query has a key head of its own, or the rows of a group would be many for the narrowest vectors.
    const std::int64_t num_kv_heads = queries == 1 ? 4 : 2;
    cases.push_back({.shape = {2, 4, num_kv_heads, queries, key_length, 64, 37}, .logsumexp = true, .weights = true});
  }
  return cases;
}

AttentionCase causal_at(AttentionCase problem, QueryPosition position, std::vector<std::int64_t> offsets = {}) {
  problem.options.causal = true;
  problem.options.query_position = position;
  problem.query_offsets = std::move(offsets);
  return problem;
}

template <class T>
Outputs<T> run_case(const AttentionCase& problem) {
  AttentionTensors<T> tensors(problem);
  tensors.fill(5);
  return tensors.run();
}

/// Writes one number to the keys and values from `begin` on.
template <class T>
void overwrite_keys(const AttentionTensors<T>& tensors, std::int64_t begin, T number) {
  fill_with(tensors.key().slice(2, begin, key_length), number);
  fill_with(tensors.value().slice(2, begin, key_length), number);
}

template <class T>
std::vector<T> intruders() {
  if (reduced_grid()) return {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()};
  return {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::signaling_NaN(),
          std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity(), std::numeric_limits<T>::max(), T{0}};
}

TEST_CASE_TEMPLATE("attention: keys beyond key_lengths never touch the result", T, float, double) {
  for (AttentionCase problem : problems()) {
    for (const std::int64_t counted : {1, 63, 64, 130, 202}) {
      problem.key_lengths = {counted, counted};
      AttentionTensors<T> tensors(problem);
      tensors.fill(5);
      overwrite_keys(tensors, counted, T{1});
      const Outputs<T> expected = tensors.run();
      for (const T intruder : intruders<T>()) {
        overwrite_keys(tensors, counted, intruder);
        CHECK_MESSAGE(same_bits(tensors.run(), expected), describe(problem), ", excluded keys ", intruder);
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention: keys right of a causal query never touch its row", T, float, double) {
  for (const AttentionCase& base : problems()) {
    for (const std::int64_t offset : {-3, 0, 40, 140}) {
      if (reduced_grid() && offset % 140 == 0) continue;
      const AttentionCase problem = causal_at(base, QueryPosition::given, {offset, offset});
      AttentionTensors<T> tensors(problem);
      tensors.fill(5);
      const AttentionArguments<T> arguments = tensors.arguments();
      for (const std::int64_t changed : {std::int64_t{0}, std::int64_t{1}, offset + 17, offset + 64, offset + 129}) {
        if (changed < 0 || changed >= key_length) continue;
        // The rows before position `changed`: none of them attends a key from there on.
        const std::int64_t rows = std::clamp<std::int64_t>(changed - offset, 0, problem.shape.query_length);
        tensors.fill(5);
        tensors.run();
        const std::vector<T> output = dense(arguments.output.slice(2, 0, rows));
        const std::vector<T> weights = dense(arguments.weights->slice(2, 0, rows));
        for (const T intruder : intruders<T>()) {
          overwrite_keys(tensors, changed, intruder);
          tensors.run();
          const bool same = same_bits(dense(arguments.output.slice(2, 0, rows)), output) &&
                            same_bits(dense(arguments.weights->slice(2, 0, rows)), weights);
          CHECK_MESSAGE(same, describe(problem), ", keys from ", changed, " on are ", intruder);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention: key_lengths equal shorter tensors", T, float, double) {
  for (AttentionCase problem : problems()) {
    for (const std::int64_t counted : {1, 64, 97, 202}) {
      problem.key_lengths = {counted, counted};
      const std::vector<T> expected = run_case<T>(problem).output;
      AttentionTensors<T> tensors(problem);
      tensors.fill(5);
      AttentionArguments<T> sliced = tensors.arguments();
      sliced.key_lengths = {};
      sliced.key = sliced.key.slice(2, 0, counted);
      sliced.value = sliced.value.slice(2, 0, counted);
      sliced.weights.reset();
      attention<T>(sliced, problem.options);
      CHECK_MESSAGE(same_bits(dense(sliced.output), expected), describe(problem));
    }
  }
}

TEST_CASE_TEMPLATE("attention: query positions are offsets", T, float, double) {
  for (AttentionCase problem : problems()) {
    const std::int64_t queries = problem.shape.query_length;
    const auto causal = [&](QueryPosition position, std::vector<std::int64_t> offsets = {}) {
      return run_case<T>(causal_at(problem, position, std::move(offsets)));
    };
    CHECK_MESSAGE(same_bits(causal(QueryPosition::top_left), causal(QueryPosition::given, {0, 0})), describe(problem));
    CHECK_MESSAGE(same_bits(causal(QueryPosition::bottom_right),
                            causal(QueryPosition::given, {key_length - queries, key_length - queries})),
                  describe(problem));
    problem.key_lengths = {150, 3};
    CHECK_MESSAGE(
        same_bits(causal(QueryPosition::bottom_right), causal(QueryPosition::given, {150 - queries, 3 - queries})),
        describe(problem));
  }
}

TEST_CASE_TEMPLATE("attention: causal behind the last key excludes nothing", T, float, double) {
  for (const AttentionCase& problem : problems()) {
    const Outputs<T> expected = run_case<T>(problem);
    for (const std::int64_t offset : {key_length, largest_offset}) {
      const AttentionCase causal = causal_at(problem, QueryPosition::given, {offset, offset});
      CHECK_MESSAGE(same_bits(run_case<T>(causal), expected), describe(causal));
    }
  }
}

TEST_CASE_TEMPLATE("attention: query positions and key lengths without causal change nothing", T, float, double) {
  for (AttentionCase problem : problems()) {
    const Outputs<T> expected = run_case<T>(problem);
    problem.options.query_position = QueryPosition::bottom_right;
    CHECK_MESSAGE(same_bits(run_case<T>(problem), expected), describe(problem));
    problem.key_lengths = {key_length, key_length};
    CHECK_MESSAGE(same_bits(run_case<T>(problem), expected), describe(problem));
  }
}

TEST_CASE_TEMPLATE("attention: a negative offset kills the leading rows only", T, float, double) {
  for (const AttentionCase& base : problems()) {
    const AttentionCase problem = causal_at(base, QueryPosition::given, {-2, -2});
    AttentionTensors<T> tensors(problem);
    tensors.fill(5);
    tensors.run();
    for (std::int64_t i = 0; i < problem.shape.query_length; ++i) {
      const std::vector<T> row = dense(tensors.arguments().logsumexp->slice(2, i, i + 1));
      const bool dead = row == std::vector<T>(row.size(), -std::numeric_limits<T>::infinity());
      CHECK_MESSAGE(dead == (i < 2), describe(problem), ", row ", i);
    }
  }
}

}  // namespace
}  // namespace headwise::test
