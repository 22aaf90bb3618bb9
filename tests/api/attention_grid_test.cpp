// attention() over the size grid: the whole length grid at head_dim 64, all head sizes at four lengths, the rest
// pairwise. Each case within the error bound, with the same bits for every thread count, between guard pages, with the
// memory between the outputs' elements untouched.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/environment.hpp"

namespace headwise::test {
namespace {

struct HeadSize {
  std::int64_t head_dim, value_dim;
};
constexpr std::array head_sizes{HeadSize{1, 1},     HeadSize{2, 2},    HeadSize{7, 7},     HeadSize{8, 8},
                                HeadSize{16, 16},   HeadSize{32, 32},  HeadSize{40, 40},   HeadSize{64, 64},
                                HeadSize{72, 72},   HeadSize{80, 80},  HeadSize{96, 96},   HeadSize{111, 111},
                                HeadSize{128, 128}, HeadSize{137, 61}, HeadSize{192, 128}, HeadSize{256, 256}};
constexpr std::array<std::int64_t, 16> lengths{0, 1, 2, 3, 5, 17, 31, 33, 63, 65, 97, 127, 128, 129, 257, 1030};

struct Heads {
  std::int64_t query, key;
};
constexpr std::array head_counts{Heads{1, 1}, Heads{4, 2}, Heads{6, 1}, Heads{3, 3}};

/// Which keys a row attends.
struct Exclusion {
  bool causal;
  QueryPosition position;
  bool key_lengths;
};
constexpr std::array exclusions{
    Exclusion{false, QueryPosition::top_left, false},    Exclusion{true, QueryPosition::top_left, false},
    Exclusion{true, QueryPosition::bottom_right, false}, Exclusion{true, QueryPosition::given, false},
    Exclusion{false, QueryPosition::top_left, true},     Exclusion{true, QueryPosition::bottom_right, true},
    Exclusion{true, QueryPosition::given, true}};

/// Rows that the reference computes, so that a case costs some milliseconds however large it is.
template <class T>
std::int64_t affordable_rows(const AttentionShape& shape) {
  const std::int64_t products = (reduced_grid() ? 100'000 : 1'000'000) / (std::is_same_v<T, float> ? 1 : 3);
  const std::int64_t per_row = std::max<std::int64_t>(1, shape.key_length * (shape.head_dim + shape.value_dim));
  return std::max<std::int64_t>(products / per_row, reduced_grid() ? 4 : 16);
}

/// `n`: which case of its grid; the reduced grid computes each with one number of threads, in turn.
template <class T>
void check_case(const AttentionCase& problem, int n) {
  AttentionTensors<T> tensors(problem);
  tensors.fill(7);
  tensors.make_inputs_read_only();
  const std::vector<int> threads = thread_counts();
  const Outputs<T> expected = tensors.run(reduced_grid() ? threads[static_cast<std::size_t>(n) % threads.size()] : 1);
  const auto rows = choose_rows(problem.shape, affordable_rows<T>(problem.shape));
  const Report report = check_rows(tensors.arguments(), problem.options, rows);
  CHECK_MESSAGE(report.violations == 0, describe(problem), ": ", report.violations, " of ", report.elements,
                " elements, first ", report.first_violation);
  CHECK_MESSAGE(tensors.gaps_untouched(), describe(problem), ": wrote between the elements of an output");
  if (reduced_grid()) return;
  for (const int num_threads : threads) {
    const bool same = same_bits(tensors.run(num_threads), expected);
    CHECK_MESSAGE(same, describe(problem), ": other bits with ", num_threads, " threads");
  }
}

void exclude(AttentionCase& problem, const Exclusion& exclusion) {
  const AttentionShape& shape = problem.shape;
  problem.options.causal = exclusion.causal;
  problem.options.query_position = exclusion.position;
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    if (exclusion.position == QueryPosition::given) {
      problem.query_offsets.push_back(b == 0 ? shape.key_length / 2 : -3);
    }
    if (exclusion.key_lengths) problem.key_lengths.push_back(b == 0 ? shape.key_length - shape.key_length / 3 : 0);
  }
}

/// Row (a, b) of an orthogonal array: any two of its columns together take every pair of levels over all a, b < 17,
/// since 17 is prime and no factor has more levels.
constexpr std::uint64_t prime = 17;
struct Combination {
  std::uint64_t a, b;
  template <class Levels>
  const auto& choose(std::uint64_t column, const Levels& levels) const {
    static_assert(std::tuple_size_v<Levels> <= prime);
    return levels[(a + column * b) % prime % levels.size()];
  }
};

AttentionCase pairwise_case(Combination combination) {
  constexpr std::array no_yes{false, true};
  constexpr std::array<std::int64_t, 2> batches{1, 2};
  constexpr std::array placements{Placement::before_guard, Placement::after_guard};
  AttentionCase problem;
  const HeadSize size = combination.choose(0, head_sizes);
  const Heads heads = combination.choose(1, head_counts);
  problem.shape = {combination.choose(2, batches), heads.query,   heads.key,     combination.choose(3, lengths),
                   combination.choose(4, lengths), size.head_dim, size.value_dim};
  if (reduced_grid() && problem.shape.query_length * problem.shape.key_length > 8'000) {
    problem.shape.query_length = std::min<std::int64_t>(problem.shape.query_length, 17);
    if (problem.shape.key_length > 1'000) problem.shape.query_length = 5;
    problem.shape.batch = 1;
  }
  problem.layout = combination.choose(5, all_layouts);
  problem.placement = combination.choose(6, placements);
  problem.logsumexp = combination.choose(7, no_yes);
  problem.weights = combination.choose(8, no_yes);
  exclude(problem, combination.choose(9, exclusions));
  return problem;
}

TEST_CASE_TEMPLATE("attention: every pair of lengths at head_dim 64", T, float, double) {
  int n = 0;
  for (const std::int64_t query_length : lengths) {
    for (const std::int64_t key_length : lengths) {
      ++n;
      for (const bool causal : {false, true}) {
        if (reduced_grid() && causal != (n % 2 == 0)) continue;
        const std::int64_t heads = reduced_grid() && query_length * key_length > 5'000 ? 1 : 2;
        AttentionCase problem{.shape = {1, heads, 1, query_length, key_length, 64, 64}};
        if (reduced_grid() && query_length * key_length > 30'000) problem.shape.query_length = 30'000 / key_length;
        problem.options.causal = causal;
        problem.options.query_position = QueryPosition::bottom_right;
        problem.layout = n % 3 == 0 ? Layout::bshd : Layout::bhsd;
        problem.placement = causal ? Placement::after_guard : Placement::before_guard;
        problem.logsumexp = problem.weights = causal;
        check_case<T>(problem, n / 2);
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention: every head size at four lengths", T, float, double) {
  constexpr std::array<std::int64_t, 4> few_lengths{3, 33, 128, 257};
  int n = 0;
  for (const HeadSize& size : head_sizes) {
    if (reduced_grid() && size.head_dim != 64) continue;
    for (const std::int64_t query_length : few_lengths) {
      for (const std::int64_t key_length : few_lengths) {
        AttentionCase problem{.shape = {1, 1, 1, query_length, key_length, size.head_dim, size.value_dim}};
        problem.options.causal = query_length == key_length;
        problem.placement = query_length < key_length ? Placement::after_guard : Placement::before_guard;
        problem.logsumexp = true;
        check_case<T>(problem, ++n);
      }
    }
  }
  check_case<T>({.shape = {1, 1, 1, reduced_grid() ? 17 : 65, 129, 1024, 1024}}, n);
}

TEST_CASE_TEMPLATE("attention: sizes, layouts, heads, exclusions and outputs pairwise", T, float, double) {
  int n = 0;
  for (std::uint64_t a = 0; a < prime; ++a) {
    for (std::uint64_t b = 0; b < prime; ++b) check_case<T>(pairwise_case({a, b}), ++n);
  }
}

}  // namespace
}  // namespace headwise::test
