// Sequences of different lengths side by side, and keys that lie in several runs: equal to separate calls on tensors in
// one piece, bit for bit where key blocks end alike and within the bound everywhere.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/environment.hpp"
#include "support/random.hpp"
#include "support/random_case.hpp"
#include "support/rearranged.hpp"

namespace headwise::test {
namespace {

/// A random problem whose sequences have random lengths, some of them none.
AttentionCase ragged(AttentionCase problem, std::uint64_t seed) {
  Random random(seed);
  make_ragged(problem, random);
  return problem;
}

TEST_CASE_TEMPLATE("attention: a ragged batch equals its sequences bit for bit", T, float, double) {
  for_random_cases(21, draws(reduced_grid()), [](const AttentionCase& drawn, std::uint64_t seed) {
    const AttentionCase problem = ragged(drawn, seed);
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    const AttentionArguments<T> whole = tensors.arguments();
    std::vector<Outputs<T>> expected;
    for (std::int64_t b = 0; b < problem.shape.batch; ++b) {
      const AttentionArguments<T> sequence = sequence_of(whole, b);
      attention<T>(sequence, problem.options);
      expected.push_back(copy_outputs(sequence));
    }
    tensors.run(3);
    CHECK_MESSAGE(tensors.gaps_untouched(), describe(problem), ", seed ", seed);
    for (std::int64_t b = 0; b < problem.shape.batch; ++b) {
      const bool same = same_bits(copy_outputs(sequence_of(whole, b)), expected[static_cast<std::size_t>(b)]);
      CHECK_MESSAGE(same, describe(problem), ", sequence ", b, ", seed ", seed);
    }
  });
}

TEST_CASE_TEMPLATE("attention: a ragged batch equals a padded one bit for bit", T, float, double) {
  for_random_cases(22, draws(reduced_grid(), 2), [](const AttentionCase& drawn, std::uint64_t seed) {
    AttentionCase problem = ragged(drawn, seed);
    // Padding moves the last query and, where positions limit keys, the keys of a tile.
    problem.options.causal = problem.relative_bias = false;
    problem.options.window = {};
    if (problem.options.query_position == QueryPosition::bottom_right) {
      problem.options.query_position = QueryPosition::top_left;
    }
    const AttentionPlan<T> plan(problem.shape, problem.options);
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    tensors.run();
    AttentionCase padded = problem;
    padded.query_starts.clear();
    padded.key_starts.clear();
    for (std::int64_t b = 0; b < problem.shape.batch; ++b) {
      padded.key_lengths.push_back(key_length_of(tensors.arguments(), b));
    }
    AttentionTensors<T> padded_tensors(padded);
    padded_tensors.fill(seed);
    padded_tensors.options() = tensors.options();
    const AttentionArguments<T> from = tensors.arguments(), to = padded_tensors.arguments();
    for (std::int64_t b = 0; b < problem.shape.batch; ++b) {
      const AttentionArguments<T> sequence = sequence_of(from, b);
      const auto entry_of = [&](const TensorView<T, 4>& view, std::int64_t length) {
        return view.slice(0, b, b + 1).slice(2, 0, length);
      };
      copy_elements(sequence.query, entry_of(padded_tensors.query(), sequence.query.extent(2)));
      copy_elements(sequence.key, entry_of(padded_tensors.key(), sequence.key.extent(2)));
      copy_elements(sequence.value, entry_of(padded_tensors.value(), sequence.key.extent(2)));
    }
    padded_tensors.run();
    for (std::int64_t b = 0; b < problem.shape.batch; ++b) {
      const std::int64_t queries = query_length_of(from, b);
      if (plan.path(queries, 0) != plan.path(problem.shape.query_length, 0)) continue;
      const std::vector<T> expected = dense(sequence_of(from, b).output);
      const bool same = same_bits(dense(to.output.slice(0, b, b + 1).slice(2, 0, queries)), expected);
      CHECK_MESSAGE(same, describe(problem), ", sequence ", b, ", seed ", seed);
    }
  });
}

TEST_CASE_TEMPLATE("attention: rows longer than any sequence end with 0 and -inf", T, float, double) {
  AttentionCase problem{.shape = {2, 2, 1, 70, 150, 16, 16}, .weights = true};
  problem.mean_weights = problem.scores = true;
  problem.options.score_stage = ScoreStage::biased;
  problem.query_starts = {0, 70, 73};
  problem.key_starts = {0, 90, 97};
  AttentionTensors<T> tensors(problem);
  tensors.fill(3);
  tensors.run();
  for (std::int64_t b = 0; b < 2; ++b) {
    const AttentionArguments<T> arguments = tensors.arguments();
    const std::int64_t queries = query_length_of(arguments, b), keys = key_length_of(arguments, b);
    const auto beyond = [&](const TensorView<T, 4>& view) {
      return dense(view.slice(0, b, b + 1).slice(2, 0, queries).slice(3, keys, 150));
    };
    for (const T weight : beyond(*arguments.weights)) REQUIRE(same_bits(std::vector{weight}, std::vector{T{0}}));
    for (const T score : beyond(*arguments.scores)) REQUIRE(score == -std::numeric_limits<T>::infinity());
    for (const T mean : dense(arguments.mean_weights->slice(0, b, b + 1).slice(1, 0, queries).slice(2, keys, 150))) {
      REQUIRE(same_bits(std::vector{mean}, std::vector{T{0}}));
    }
  }
}

// ------------------------------------------------------------------------------------------------------------ runs

/// The keys of a tensor as consecutive runs, cut at the same positions in every batch entry; every second run lies
/// behind slots that hold NaN.
template <class T>
class CutKeys {
 public:
  CutKeys(const AttentionArguments<T>& whole, const std::vector<std::int64_t>& ends) {
    const std::int64_t batch = whole.key.extent(0);
    std::int64_t begin = 0;
    for (const std::int64_t end : ends) {
      const std::int64_t unused = pieces_.size() % 4 == 2 ? 3 : 0;
      first_slot_.emplace_back(static_cast<std::size_t>(batch), unused);
      first_position_.emplace_back(static_cast<std::size_t>(batch), begin);
      length_.emplace_back(static_cast<std::size_t>(batch), end - begin);
      runs_.push_back({copy_of(whole.key, begin, end, unused), copy_of(whole.value, begin, end, unused),
                       first_slot_.back(), first_position_.back(), length_.back()});
      begin = end;
    }
  }
  CutKeys(const CutKeys&) = delete;
  CutKeys& operator=(const CutKeys&) = delete;

  /// The arguments with these runs instead of key and value.
  AttentionArguments<T> instead_of(AttentionArguments<T> whole) const {
    whole.key = whole.value = {};
    whole.key_runs = runs_;
    return whole;
  }

 private:
  TensorView<const T, 4> copy_of(const TensorView<const T, 4>& view, std::int64_t begin, std::int64_t end,
                                 std::int64_t unused) {
    std::array<std::int64_t, 4> extents = view.extents;
    extents[2] = end - begin + unused;
    pieces_.push_back(make_tensor<T, 4>(extents, Layout::bshd, Placement::before_guard));
    const auto& piece = pieces_.back().view;
    const auto same = [](std::int64_t h) { return h; };
    copy_tokens(view, piece.slice(2, unused, extents[2]), same, [&](std::int64_t j) { return begin + j; });
    return piece;
  }

  std::vector<Tensor<T, 4>> pieces_;
  // Lists of their own: the spans of runs stay valid while the outer vectors move them.
  std::vector<std::vector<std::int64_t>> first_slot_, first_position_, length_;
  std::vector<KeyRun<T>> runs_;
};

AttentionCase padded_equally(AttentionCase problem) {
  problem.key_lengths.clear();
  return problem;
}

TEST_CASE_TEMPLATE("attention: keys in runs equal keys in one tensor within the bound", T, float, double) {
  for_random_cases(23, draws(reduced_grid(), 2), [](const AttentionCase& drawn, std::uint64_t seed) {
    const AttentionCase problem = padded_equally(drawn);
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    Random random(seed);
    const std::int64_t keys = problem.shape.key_length;
    std::vector<std::int64_t> ends{random.below(keys + 1), random.below(keys + 1), keys};
    std::sort(ends.begin(), ends.end());
    const CutKeys<T> cut(tensors.arguments(), ends);
    tensors.poison_outputs();
    attention<T>(cut.instead_of(tensors.arguments()), problem.options);
    // The reference reads the tensor in one piece.
    const Report report = check_rows(tensors.arguments(), problem.options, choose_rows(problem.shape, 12));
    CHECK_MESSAGE(report.violations == 0, describe(problem), ", seed ", seed, ": ", report.first_violation);
    CHECK_MESSAGE(tensors.gaps_untouched(), describe(problem), ", seed ", seed);
  });
}

TEST_CASE_TEMPLATE("attention: past and new keys equal one tensor bit for bit at ends of key blocks", T, float,
                   double) {
  // Key blocks end at multiples of 96, steps of few rows at multiples of 64; a rest of up to 160 keys is one block.
  constexpr std::int64_t past = 192;
  for_random_cases(24, draws(reduced_grid(), 2), [](AttentionCase problem, std::uint64_t seed) {
    problem = padded_equally(problem);
    problem.shape.key_length = past + 96 + problem.shape.key_length;
    problem.options.causal = false;
    problem.options.window = {};
    AttentionTensors<T> tensors(problem);
    tensors.fill(seed);
    const Outputs<T> expected = tensors.run();
    const CutKeys<T> cut(tensors.arguments(), {past, problem.shape.key_length});
    tensors.poison_outputs();
    attention<T>(cut.instead_of(tensors.arguments()), problem.options);
    CHECK_MESSAGE(same_bits(copy_outputs(tensors.arguments()), expected), describe(problem), ", seed ", seed);
  });
}

TEST_CASE_TEMPLATE("attention: positions between runs are excluded keys", T, float, double) {
  constexpr std::int64_t gap_begin = 120, gap_end = 150;
  const auto check = [](std::int64_t queries, bool causal) {
    AttentionCase problem{.shape = {2, 2, 2, queries, 300, 32, 32}, .logsumexp = true, .weights = true};
    problem.alibi = true;
    problem.mask = Varies{.head = false, .query = false};
    if (causal) {  // the last query stands between the runs
      problem.options.causal = true;
      problem.options.query_position = QueryPosition::given;
      problem.query_offsets.assign(2, (gap_begin + gap_end) / 2 - queries);
    }
    AttentionTensors<T> tensors(problem);
    tensors.fill(5);
    fill_with(tensors.options().mask->view, std::uint8_t{1});
    fill_with(tensors.options().mask->view.slice(3, gap_begin, gap_end), std::uint8_t{0});
    AttentionArguments<T> arguments = tensors.arguments();
    const std::vector<std::int64_t> first_slot[] = {{0, 0}, {gap_end, gap_end}};
    const std::vector<std::int64_t> length[] = {{gap_begin, gap_begin}, {300 - gap_end, 300 - gap_end}};
    const std::array runs{KeyRun<T>{arguments.key, arguments.value, first_slot[0], first_slot[0], length[0]},
                          KeyRun<T>{arguments.key, arguments.value, first_slot[1], first_slot[1], length[1]}};
    arguments.key = arguments.value = {};
    arguments.key_runs = runs;
    arguments.mask.reset();
    attention<T>(arguments, problem.options);
    const Report report = check_rows(tensors.arguments(), problem.options, choose_rows(problem.shape, 20));
    CHECK_MESSAGE(report.violations == 0, describe(problem), ": ", report.first_violation);
  };
  for (const std::int64_t queries : few_and_many_queries()) {
    check(queries, false);
    check(queries, true);
  }
}

TEST_CASE_TEMPLATE("attention: windows behind all runs attend nothing", T, float, double) {
  constexpr std::int64_t keys = 300;
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase problem{.shape = {2, 2, 2, queries, keys, 32, 32}, .logsumexp = true, .weights = true};
    problem.options.window = {.left = 9};
    problem.options.query_position = QueryPosition::given;
    problem.query_offsets = {keys + 9, keys - queries};  // the first entry's window begins at the end of its keys
    AttentionTensors<T> tensors(problem);
    tensors.fill(5);
    const CutKeys<T> cut(tensors.arguments(), {100, keys});
    tensors.poison_outputs();
    attention<T>(cut.instead_of(tensors.arguments()), problem.options);
    const Report report = check_rows(tensors.arguments(), problem.options, choose_rows(problem.shape, 20));
    CHECK_MESSAGE(report.violations == 0, describe(problem), ": ", report.first_violation);
    for (const T sum : dense(tensors.arguments().logsumexp->slice(0, 0, 1))) {
      REQUIRE(sum == -std::numeric_limits<T>::infinity());
    }
  }
}

TEST_CASE_TEMPLATE("attention: chunked prefill equals one call bit for bit where tiles and key blocks agree", T, float,
                   double) {
  constexpr std::int64_t length = 450;
  for (const std::int64_t past : {192, 384}) {  // whole tiles of every instruction set and group
    AttentionCase problem{.shape = {1, 2, 1, length, length, 64, 64}, .logsumexp = true, .weights = true};
    problem.options.causal = true;
    problem.alibi = problem.sinks = true;
    AttentionTensors<T> tensors(problem);
    tensors.fill(5);
    const Outputs<T> expected = tensors.run();
    tensors.poison_outputs();
    AttentionOptions options = problem.options;
    options.query_position = QueryPosition::bottom_right;
    for (const auto& [begin, end] : {std::array{std::int64_t{0}, past}, std::array{past, length}}) {
      AttentionArguments<T> chunk = tensors.arguments();
      chunk.query = chunk.query.slice(2, begin, end);
      chunk.output = chunk.output.slice(2, begin, end);
      chunk.logsumexp = chunk.logsumexp->slice(2, begin, end);
      chunk.weights = chunk.weights->slice(2, begin, end).slice(3, 0, end);
      chunk.key = chunk.key.slice(2, 0, end);
      chunk.value = chunk.value.slice(2, 0, end);
      attention<T>(chunk, options);
    }
    fill_with(tensors.arguments().weights->slice(2, 0, past).slice(3, past, length), T{0});
    CHECK_MESSAGE(same_bits(copy_outputs(tensors.arguments()), expected), describe(problem), ", past ", past);
  }
}

}  // namespace
}  // namespace headwise::test
