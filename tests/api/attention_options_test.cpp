// Masks, biases, windows, ALiBi, softcap and sinks at their edges: special values, rows and blocks without keys, limits
// of 64 bits. Shapes for the kernel of many rows and the one of few.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
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
constexpr std::int64_t special_key = 100;
constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max();

template <class T>
constexpr T nan = std::numeric_limits<T>::quiet_NaN();
template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();

/// The special key's elements of a scores-shaped view.
template <class Element>
TensorView<Element, 4> at_special_key(const TensorView<Element, 4>& view) {
  return view.slice(3, special_key, special_key + 1);
}

/// Few and many rows, all of them with two heads to a key head but the first.
std::vector<AttentionCase> problems() {
  std::vector<AttentionCase> cases;
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase problem{.shape = {2, 4, queries == 1 ? 4 : 2, queries, key_length, 64, 37}};
    problem.logsumexp = problem.weights = problem.mean_weights = true;
    cases.push_back(problem);
  }
  return cases;
}

/// The case filled, with a mask that attends everything and a bias of normal numbers, where it has them.
template <class T>
void fill_plain(AttentionTensors<T>& tensors) {
  tensors.fill(9);
  Random random(10);
  if (tensors.options().mask) fill_with(tensors.options().mask->view, std::uint8_t{1});
  if (tensors.options().bias) fill_normal(random, tensors.options().bias->view);
}

template <class T>
bool all_are(const std::vector<T>& elements, T wanted) {
  return same_bits(elements, std::vector<T>(elements.size(), wanted));
}

/// Whether nothing was attended anywhere; without a sink.
template <class T>
bool is_dead(const Outputs<T>& got) {
  return all_are(got.output, T{0}) && all_are(got.weights, T{0}) && all_are(got.mean_weights, T{0}) &&
         all_are(got.logsumexp, -infinity<T>);
}

TEST_CASE_TEMPLATE("attention: a bias of NaN or +inf makes its row NaN and no other", T, float, double) {
  for (AttentionCase problem : problems()) {
    problem.bias = Varies{};
    for (const T special : {nan<T>, infinity<T>}) {
      AttentionTensors<T> tensors(problem);
      fill_plain(tensors);
      const std::int64_t query = problem.shape.query_length / 2;
      std::vector<T> expected = tensors.run().output;
      tensors.options().bias->view(1, 2, query, special_key) = special;
      const std::vector<T> got = tensors.run().output;
      const auto row = static_cast<std::size_t>(((1 * 4 + 2) * problem.shape.query_length + query) * 37);
      for (std::size_t c = row; c < row + 37; ++c) {
        CHECK_MESSAGE(std::isnan(got[c]), describe(problem), ", bias ", special);
        expected[c] = got[c];
      }
      CHECK_MESSAGE(same_bits(got, expected), describe(problem), ": other rows changed, bias ", special);
    }
  }
}

TEST_CASE_TEMPLATE("attention: the bias of a masked key is never used", T, float, double) {
  for (AttentionCase problem : problems()) {
    problem.bias = Varies{};
    problem.mask = Varies{.batch = false, .head = false};
    AttentionTensors<T> tensors(problem);
    fill_plain(tensors);
    fill_with(at_special_key(tensors.options().mask->view), std::uint8_t{0});
    const Outputs<T> expected = tensors.run();
    for (const T special : {nan<T>, infinity<T>, -infinity<T>, std::numeric_limits<T>::max()}) {
      fill_with(at_special_key(tensors.options().bias->view), special);
      CHECK_MESSAGE(same_bits(tensors.run(), expected), describe(problem), ", bias ", special);
    }
  }
}

/// A bias of −∞ at the special key of all rows, or of one of each head; special numbers there in all heads, or behind
/// heads of finite ones. They never touch the rows that exclude them.
template <class T>
void check_exclusion_by_bias(const AttentionCase& problem, bool by_one_row, bool in_last_head) {
  AttentionTensors<T> tensors(problem);
  fill_plain(tensors);
  const auto that_exclude = [&](const TensorView<T, 4>& view) {
    const std::int64_t middle = problem.shape.query_length / 2;
    return by_one_row ? view.slice(2, middle, middle + 1) : view;
  };
  const auto with_special_numbers = [&](const TensorView<T, 4>& view) {
    const auto key = view.slice(2, special_key, special_key + 1);
    const std::int64_t batch = view.extent(0), heads = view.extent(1);
    return in_last_head ? key.slice(0, batch - 1, batch).slice(1, heads - 1, heads) : key;
  };
  const auto rows = [&] {
    tensors.run();
    return dense(that_exclude(tensors.arguments().output));
  };
  fill_with(that_exclude(at_special_key(tensors.options().bias->view)), -infinity<T>);
  const std::vector<T> expected = rows();
  for (const T special : {nan<T>, infinity<T>, -infinity<T>}) {
    for (const TensorView<T, 4>& view : {tensors.value(), tensors.key()}) {
      fill_with(with_special_numbers(view), special);
      CHECK_MESSAGE(same_bits(rows(), expected), describe(problem), ", ", special,
                    by_one_row ? ", excluded by one row" : "", in_last_head ? ", in the last head" : "");
    }
  }
}

TEST_CASE_TEMPLATE("attention: what a bias of -inf excludes is never used", T, float, double) {
  for (AttentionCase problem : problems()) {
    problem.bias = Varies{};
    for (const std::int64_t value_dim : {37, 64}) {  // copied in blocks, and read in place
      problem.shape.value_dim = value_dim;
      for (const bool by_one_row : {false, true}) {
        for (const bool in_last_head : {false, true}) check_exclusion_by_bias<T>(problem, by_one_row, in_last_head);
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention: only -inf excludes, the lowest number does not", T, float, double) {
  for (AttentionCase problem : problems()) {
    problem.bias = Varies{.batch = false, .head = false, .query = false};
    for (const T low : {std::numeric_limits<T>::lowest(), T{-1e4}}) {
      AttentionTensors<T> tensors(problem);
      fill_plain(tensors);
      fill_with(tensors.query(), T{0});
      fill_with(tensors.options().bias->view, low);
      T worst = 0;
      for (const T weight : tensors.run().weights) {
        worst = std::max(worst, std::abs(weight * static_cast<T>(key_length) - 1));
      }
      CHECK_MESSAGE(worst <= 8 * rounding_unit<T>, describe(problem), ", all biases ", low, ": off by ", worst);
      tensors.options().bias->view(0, 0, 0, special_key) = 0;
      tensors.run();
      const std::vector<T> weight_of_key = dense(at_special_key(*tensors.arguments().weights));
      CHECK_MESSAGE(all_are(weight_of_key, T{1}), describe(problem), ", other biases ", low);
    }
  }
}

TEST_CASE_TEMPLATE("attention: any byte but zero is true", T, float, double) {
  for (AttentionCase problem : problems()) {
    problem.mask = Varies{};
    problem.key_padding_mask = true;
    AttentionTensors<T> tensors(problem);
    tensors.fill(9);
    const auto set_true_bytes = [&](std::uint8_t byte) {
      for (const auto& view : {tensors.options().mask->view, tensors.options().padding->view}) {
        visit_elements(view, [&](std::uint8_t& element) { element = element == 0 ? std::uint8_t{0} : byte; });
      }
      return tensors.run();
    };
    const Outputs<T> expected = set_true_bytes(1);
    for (const std::uint8_t byte : std::array<std::uint8_t, 5>{2, 127, 128, 254, 255}) {
      CHECK_MESSAGE(same_bits(set_true_bytes(byte), expected), describe(problem), ", byte ", int{byte});
    }
  }
}

/// The case with everything excluded, by one means after the other.
template <class Check>
void for_dead_cases(const AttentionCase& base, Check check) {
  AttentionCase problem = base;
  problem.mask = Varies{.batch = false, .head = false};
  check(problem, "mask");
  problem = base;
  problem.bias = Varies{.head = false, .query = false};
  check(problem, "bias");
  problem = base;
  problem.key_padding_mask = true;
  check(problem, "key padding mask");
  problem = base;
  problem.options.window = {5, 5};
  problem.options.query_position = QueryPosition::given;
  problem.query_offsets = {key_length + 5, -base.shape.query_length - 5};
  check(problem, "window");
}

template <class T>
void exclude_everything(AttentionTensors<T>& tensors) {
  tensors.fill(9);
  OptionTensors<T>& options = tensors.options();
  if (options.mask) fill_with(options.mask->view, std::uint8_t{0});
  if (options.bias) fill_with(options.bias->view, -infinity<T>);
  if (options.padding) fill_with(options.padding->view, std::uint8_t{1});
  fill_with(tensors.key(), nan<T>);
  fill_with(tensors.value(), nan<T>);
}

TEST_CASE_TEMPLATE("attention: rows without keys are +0 whatever excludes them", T, float, double) {
  for (const AttentionCase& base : problems()) {
    for_dead_cases(base, [](const AttentionCase& problem, const std::string& means) {
      AttentionTensors<T> tensors(problem);
      exclude_everything(tensors);
      CHECK_MESSAGE(is_dead(tensors.run()), describe(problem), ", by ", means);
    });
  }
}

TEST_CASE_TEMPLATE("attention: the logsumexp of rows without keys is the sink", T, float, double) {
  for (const AttentionCase& base : problems()) {
    for_dead_cases(base, [](AttentionCase problem, const std::string& means) {
      problem.sinks = true;
      AttentionTensors<T> tensors(problem);
      exclude_everything(tensors);
      tensors.options().sinks = {T{0.25}, T{-7}, T{1e4}, -infinity<T>};
      tensors.run();
      const auto rows = choose_rows(problem.shape, 1000);
      const Report report = check_rows(tensors.arguments(), problem.options, rows);
      CHECK_MESSAGE(report.violations == 0, describe(problem), ", by ", means, ": ", report.first_violation);
      fill_with(*tensors.arguments().logsumexp, -infinity<T>);
      CHECK_MESSAGE(is_dead(copy_outputs(tensors.arguments())), describe(problem), ", by ", means);
    });
  }
}

TEST_CASE_TEMPLATE("attention: a sink counts once, into however many chunks the keys are cut", T, float, double) {
  for (const std::int64_t queries : {std::int64_t{1}, std::int64_t{3}}) {
    AttentionCase problem{.shape = {1, 4, 2, queries, 1700, 64, 37}};
    problem.sinks = problem.logsumexp = problem.weights = true;
    AttentionTensors<T> tensors(problem);
    fill_plain(tensors);
    tensors.options().sinks = {T{7}, T{-7}, T{1e4}, -infinity<T>};
    tensors.run();
    const Report report = check_rows(tensors.arguments(), problem.options, choose_rows(problem.shape, 12));
    CHECK_MESSAGE(report.violations == 0, describe(problem), ": ", report.first_violation);
  }
}

TEST_CASE_TEMPLATE("attention: a sink may be any finite number", T, float, double) {
  for (const std::int64_t queries : {std::int64_t{1}, std::int64_t{40}}) {
    AttentionCase problem{.shape = {1, 4, 2, queries, 70, 16, 16}};
    problem.sinks = problem.logsumexp = true;
    AttentionTensors<T> tensors(problem);
    fill_plain(tensors);
    tensors.options().sinks.assign(4, -infinity<T>);
    const Outputs<T> without = tensors.run();
    tensors.options().sinks.assign(4, std::numeric_limits<T>::lowest());
    CHECK_MESSAGE(same_bits(tensors.run(), without), describe(problem), ": the lowest number");
    tensors.options().sinks.assign(4, std::numeric_limits<T>::max());
    const Outputs<T> all = tensors.run();
    for (const T element : all.output) REQUIRE(element == T(0));
    for (const T element : all.logsumexp) REQUIRE(element > T(0.69) * std::numeric_limits<T>::max());
    for (const T element : all.logsumexp) REQUIRE(element < infinity<T>);
  }
}

TEST_CASE_TEMPLATE("attention: options that do nothing change no bit", T, float, double) {
  for (const AttentionCase& base : problems()) {
    const auto run = [](const AttentionCase& problem, auto&& neutralise) {
      AttentionTensors<T> tensors(problem);
      tensors.fill(9);
      neutralise(tensors.options());
      return tensors.run();
    };
    const Outputs<T> expected = run(base, [](auto&) {});
    AttentionCase problem = base;
    problem.sinks = true;
    const auto no_sinks = [](OptionTensors<T>& options) { options.sinks.assign(4, -infinity<T>); };
    CHECK_MESSAGE(same_bits(run(problem, no_sinks), expected), describe(problem), ": sinks of -inf");
    problem = base;
    problem.alibi = true;
    const auto no_slopes = [](OptionTensors<T>& options) { options.alibi_slopes.assign(4, T{0}); };
    CHECK_MESSAGE(same_bits(run(problem, no_slopes), expected), describe(problem), ": slopes of 0");
    problem = base;
    problem.key_padding_mask = true;
    const auto no_padding = [](OptionTensors<T>& options) { fill_with(options.padding->view, std::uint8_t{0}); };
    CHECK_MESSAGE(same_bits(run(problem, no_padding), expected), describe(problem), ": no padding");
    problem = base;
    problem.mask = Varies{.batch = false, .head = false, .query = false, .key = false};
    const auto all_true = [](OptionTensors<T>& options) { fill_with(options.mask->view, std::uint8_t{255}); };
    CHECK_MESSAGE(same_bits(run(problem, all_true), expected), describe(problem), ": one true byte");
    problem = base;
    problem.bias = Varies{.query = false};
    const auto no_bias = [](OptionTensors<T>& options) { fill_with(options.bias->view, T{0}); };
    CHECK_MESSAGE(same_bits(run(problem, no_bias), expected), describe(problem), ": bias of 0");
  }
}

TEST_CASE_TEMPLATE("attention: windows and positions near the limits of 64 bits", T, float, double) {
  constexpr std::int64_t largest_offset = std::int64_t{1} << 62;
  for (AttentionCase problem : problems()) {
    problem.options.query_position = QueryPosition::given;
    const auto run = [&](std::int64_t offset, Window window, bool causal = false) {
      problem.query_offsets = {offset, offset};
      problem.options.window = window;
      problem.options.causal = causal;
      AttentionTensors<T> tensors(problem);
      tensors.fill(9);
      return tensors.run();
    };
    const Outputs<T> unbounded = run(0, {});
    for (const std::int64_t offset : {std::int64_t{0}, largest_offset, -largest_offset}) {
      CHECK_MESSAGE(same_bits(run(offset, {no_limit, no_limit}), unbounded), describe(problem));
      CHECK_MESSAGE(same_bits(run(offset, {-1, no_limit}), unbounded), describe(problem));
      CHECK_MESSAGE(same_bits(run(offset, {no_limit, -1}), unbounded), describe(problem));
    }
    CHECK_MESSAGE(is_dead(run(largest_offset, {5, -1})), describe(problem));
    CHECK_MESSAGE(is_dead(run(-largest_offset, {-1, 5})), describe(problem));
    CHECK_MESSAGE(is_dead(run(-largest_offset, {no_limit, no_limit}, true)), describe(problem));
    CHECK_MESSAGE(same_bits(run(largest_offset, {no_limit, -1}, true), unbounded), describe(problem));
    CHECK_MESSAGE(same_bits(run(30, {7, 3}, true), run(30, {7, 0})), describe(problem));
  }
}

TEST_CASE_TEMPLATE("attention: finite numbers with options raise no floating-point exception that could trap", T, float,
                   double) {
  for (AttentionCase problem : problems()) {
    problem.options.softcap = 3;
    problem.options.window = {60, 5};
    problem.mask = Varies{};
    problem.bias = Varies{.batch = false};
    problem.key_padding_mask = problem.alibi = problem.sinks = true;
    AttentionTensors<T> tensors(problem);
    tensors.fill(9);
    tensors.options().sinks.front() = -infinity<T>;
    for (const T low : {-infinity<T>, std::numeric_limits<T>::lowest()}) {
      fill_with(tensors.options().bias->view.slice(3, 0, 30), low);
      std::feclearexcept(FE_ALL_EXCEPT);
      tensors.run();
      const int raised = std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW);
      CHECK_MESSAGE(raised == 0, describe(problem), ", bias ", low, ": ", raised);
    }
  }
}

}  // namespace
}  // namespace headwise::test
