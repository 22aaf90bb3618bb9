// What attention() promises to the last bit, whatever the data: layouts, batches, threads, workspaces, head groups,
// powers of two, rows without keys. Shapes for the kernel of many rows and the one of few.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/environment.hpp"
#include "support/error_bound.hpp"

namespace headwise::test {
namespace {

/// A shape with two query heads to a key head; but a single query has a key head of its own, or the two rows of a group
/// would be many for the narrowest vectors.
AttentionShape shape_of(std::int64_t batch, std::int64_t num_heads, std::int64_t queries, std::int64_t keys,
                        std::int64_t head_dim, std::int64_t value_dim) {
  return {batch, num_heads, queries == 1 ? num_heads : num_heads / 2, queries, keys, head_dim, value_dim};
}

/// All outputs asked for.
AttentionCase full_case(const AttentionShape& shape) {
  return {.shape = shape, .logsumexp = true, .weights = true};
}

TEST_CASE_TEMPLATE("attention: the shapes for few and many rows are computed by both kernels", T, float, double) {
  CHECK(AttentionPlan<T>(shape_of(1, 2, 1, 203, 64, 64)).path(1, 0) == KernelPath::row_dot);
  CHECK(AttentionPlan<T>(shape_of(1, 2, 70, 203, 64, 64)).path(70, 0) == KernelPath::query_tile);
}

template <class T>
Outputs<T> run_case(const AttentionCase& problem) {
  AttentionTensors<T> tensors(problem);
  tensors.fill(3);
  return tensors.run();
}

TEST_CASE_TEMPLATE("attention: same bits in every layout", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    for (const std::int64_t dim : {64, 37}) {
      const std::int64_t batch = reduced_grid() ? 1 : 2;
      AttentionCase problem = full_case(shape_of(batch, 2 * batch, queries, 203, dim, dim));
      const Outputs<T> expected = run_case<T>(problem);
      for (const Layout layout : all_layouts) {
        problem.layout = layout;
        CHECK_MESSAGE(same_bits(run_case<T>(problem), expected), describe(problem));
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention: query, key and value in one memory give the bits of copies", T, float, double) {
  for (const std::int64_t length : few_and_many_queries()) {
    AttentionTensors<T> tensors(full_case({2, 2, 2, length, length, 37, 37}));
    tensors.fill(3);
    AttentionArguments<T> alias = tensors.arguments();
    const auto copy_query_to = [&](const TensorView<T, 4>& view) {
      const std::vector<T> elements = dense(tensors.query());
      std::size_t next = 0;
      visit_elements(view, [&](T& element) { element = elements[next++]; });
    };
    copy_query_to(tensors.value());
    copy_query_to(tensors.key());
    const Outputs<T> expected = tensors.run();
    alias.value = alias.key;
    attention<T>(alias, tensors.problem().options);
    CHECK_MESSAGE(same_bits(copy_outputs(alias), expected), describe(tensors.problem()), ", key and value");
    alias.key = alias.value = alias.query;
    attention<T>(alias, tensors.problem().options);
    CHECK_MESSAGE(same_bits(copy_outputs(alias), expected), describe(tensors.problem()), ", query, key and value");
  }
}

TEST_CASE_TEMPLATE("attention: same bits for every thread count and repeat", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    const AttentionShape shape =
        reduced_grid() ? shape_of(2, 2, queries, 600, 64, 64) : shape_of(3, 4, queries, 1100, 64, 64);
    AttentionTensors<T> tensors(full_case(shape));
    tensors.fill(3);
    const Outputs<T> expected = tensors.run();
    for (int repeat = 0; repeat < (reduced_grid() ? 1 : 3); ++repeat) {
      for (const int num_threads : thread_counts()) {
        CHECK_MESSAGE(same_bits(tensors.run(num_threads), expected), describe(tensors.problem()), ", ", num_threads,
                      " threads, repeat ", repeat);
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention: any number of threads is fine", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionTensors<T> tensors(full_case(shape_of(1, 4, queries, 600, 64, 64)));
    tensors.fill(3);
    const Outputs<T> expected = tensors.run();
    const Outputs<T> many = tensors.run(std::numeric_limits<int>::max());
    CHECK_MESSAGE(same_bits(many, expected), describe(tensors.problem()));
  }
}

TEST_CASE_TEMPLATE("attention: a batch equals its parts", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase problem = full_case(shape_of(3, 4, queries, 203, 64, 64));
    problem.options.causal = true;
    problem.options.query_position = QueryPosition::bottom_right;
    problem.key_lengths = {203, 0, 97};
    AttentionTensors<T> tensors(problem);
    tensors.fill(3);
    const Outputs<T> expected = tensors.run();
    Outputs<T> parts;
    for (std::int64_t b = 0; b < 3; ++b) {
      const AttentionArguments<T> whole = tensors.arguments();
      AttentionArguments<T> part;
      part.query = whole.query.slice(0, b, b + 1);
      part.key = whole.key.slice(0, b, b + 1);
      part.value = whole.value.slice(0, b, b + 1);
      part.output = whole.output.slice(0, b, b + 1);
      part.logsumexp = whole.logsumexp->slice(0, b, b + 1);
      part.weights = whole.weights->slice(0, b, b + 1);
      part.key_lengths = whole.key_lengths.subspan(static_cast<std::size_t>(b), 1);
      attention<T>(part, problem.options);
    }
    const AttentionArguments<T> all = tensors.arguments();
    CHECK_MESSAGE(same_bits(Outputs<T>{dense(all.output), dense(*all.logsumexp), dense(*all.weights)}, expected),
                  describe(problem));
  }
}

TEST_CASE_TEMPLATE("attention: same bits through attention() and with a workspace", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    const AttentionCase problem{.shape = shape_of(2, 4, queries, 203, 37, 64), .layout = Layout::bshd};
    AttentionTensors<T> tensors(problem);
    tensors.fill(3);
    const Outputs<T> expected = tensors.run();
    const AttentionArguments<T> arguments = tensors.arguments();

    fill_with(arguments.output, std::numeric_limits<T>::quiet_NaN());
    attention<T>(arguments.query, arguments.key, arguments.value, arguments.output, problem.options);
    CHECK_MESSAGE(same_bits(dense(arguments.output), expected.output), describe(problem));

    const AttentionPlan<T> plan(problem.shape, problem.options);
    const auto doubles = static_cast<std::int64_t>((plan.workspace_bytes() + 63) / 64 * 8);
    const GuardedBuffer<double> workspace(doubles, Placement::before_guard);
    fill_with(arguments.output, std::numeric_limits<T>::quiet_NaN());
    plan.run(arguments, {reinterpret_cast<std::byte*>(workspace.data()), static_cast<std::size_t>(doubles) * 8});
    CHECK_MESSAGE(same_bits(dense(arguments.output), expected.output), describe(problem));
  }
}

TEST_CASE_TEMPLATE("attention: asking for more outputs leaves the bits of the output", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase problem = full_case(shape_of(1, 2, queries, 203, 64, 64));
    const Outputs<T> expected = run_case<T>(problem);
    problem.weights = false;
    const Outputs<T> without_weights = run_case<T>(problem);
    CHECK_MESSAGE(same_bits(without_weights.logsumexp, expected.logsumexp), describe(problem));
    CHECK_MESSAGE(same_bits(without_weights.output, expected.output), describe(problem));
    problem.logsumexp = false;
    CHECK_MESSAGE(same_bits(run_case<T>(problem).output, expected.output), describe(problem));
  }
}

TEST_CASE_TEMPLATE("attention: grouped heads equal repeated heads where the kernel is the same", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    const AttentionCase grouped{.shape = {1, 6, 2, queries, 203, 64, 64}};
    AttentionTensors<T> tensors(grouped);
    tensors.fill(3);
    const std::vector<T> expected = tensors.run().output;
    const AttentionPlan<T> plan(grouped.shape);
    for (std::int64_t head = 0; head < 6; ++head) {
      const AttentionPlan<T> single({1, 1, 1, queries, 203, 64, 64});
      if (plan.path(queries, 0) != single.path(queries, 0)) continue;
      AttentionArguments<T> part = tensors.arguments();
      part.query = part.query.slice(1, head, head + 1);
      part.key = part.key.slice(1, head / 3, head / 3 + 1);
      part.value = part.value.slice(1, head / 3, head / 3 + 1);
      part.output = part.output.slice(1, head, head + 1);
      fill_with(part.output, std::numeric_limits<T>::quiet_NaN());
      single.run(part);
    }
    CHECK_MESSAGE(same_bits(dense(tensors.arguments().output), expected), describe(grouped));
  }
}

TEST_CASE_TEMPLATE("attention: scaling the values by a power of two is exact", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionTensors<T> tensors({.shape = shape_of(1, 2, queries, 203, 64, 64)});
    tensors.fill(3);
    std::vector<T> expected = tensors.run().output;
    for (const T factor : {T{8}, T{0x1p-20}}) {
      visit_elements(tensors.value(), [&](T& value) { value *= factor; });
      for (T& element : expected) element *= factor;
      CHECK_MESSAGE(same_bits(tensors.run().output, expected), describe(tensors.problem()), ", factor ", factor);
    }
  }
}

TEST_CASE_TEMPLATE("attention: a single attended key returns its value", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase one_key = full_case(shape_of(2, 2, queries, 1, 64, 37));
    AttentionCase one_of_many = full_case(shape_of(2, 2, queries, 150, 64, 37));
    one_of_many.key_lengths = {1, 1};
    for (const AttentionCase& problem : {one_key, one_of_many}) {
      AttentionTensors<T> tensors(problem);
      tensors.fill(3);
      tensors.run();
      const AttentionArguments<T> arguments = tensors.arguments();
      T worst = 0;
      for (std::int64_t b = 0; b < 2; ++b) {
        for (std::int64_t h = 0; h < 2; ++h) {
          for (std::int64_t i = 0; i < queries; ++i) {
            for (std::int64_t c = 0; c < 37; ++c) {
              const T value = arguments.value(b, kv_head_of(arguments, h), 0, c);
              worst = std::max(worst, std::abs((arguments.output(b, h, i, c) - value) / value));
            }
          }
        }
      }
      CHECK_MESSAGE(worst <= 2 * rounding_unit<T>, describe(problem), ": relative error ", worst);
    }
  }
}

TEST_CASE_TEMPLATE("attention: rows without keys are +0", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase no_keys = full_case(shape_of(2, 2, queries, 0, 64, 37));
    AttentionCase no_key_counts = full_case(shape_of(2, 2, queries, 150, 64, 37));
    no_key_counts.key_lengths = {0, 0};
    AttentionCase before_the_keys = full_case(shape_of(2, 2, queries, 150, 64, 37));
    before_the_keys.options.causal = true;
    before_the_keys.options.query_position = QueryPosition::given;
    before_the_keys.query_offsets = {-queries, -(std::int64_t{1} << 62)};  // the smallest one accepted
    for (const AttentionCase& problem : {no_keys, no_key_counts, before_the_keys}) {
      const Outputs<T> got = run_case<T>(problem);
      const Outputs<T> expected{std::vector<T>(got.output.size(), T{0}),
                                std::vector<T>(got.logsumexp.size(), -std::numeric_limits<T>::infinity()),
                                std::vector<T>(got.weights.size(), T{0})};
      CHECK_MESSAGE(same_bits(got, expected), describe(problem));
    }
  }
}

TEST_CASE_TEMPLATE("attention: empty problems succeed, with null pointers", T, float, double) {
  for (const AttentionShape& shape : {AttentionShape{0, 2, 1, 5, 6, 8, 8}, AttentionShape{2, 0, 0, 5, 6, 8, 8},
                                      AttentionShape{2, 2, 1, 0, 6, 8, 8}, AttentionShape{2, 2, 1, 5, 6, 8, 0},
                                      AttentionShape{2, 2, 1, 1, 6, 8, 0}}) {
    using View = TensorView<T, 4>;
    AttentionTensors<T> tensors({.shape = shape});
    const AttentionArguments<T> arguments = tensors.arguments();
    const auto or_null = [](const auto& view) {
      auto copy = view;
      if (view.empty()) copy.data = nullptr;
      return copy;
    };
    View output = or_null(arguments.output);
    CHECK_NOTHROW(attention<T>(or_null(arguments.query), or_null(arguments.key), or_null(arguments.value), output));
  }
}

TEST_CASE_TEMPLATE("attention: without features of values the logsumexp is as with some", T, float, double) {
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase problem = full_case(shape_of(2, 4, queries, 203, 16, 16));
    AttentionTensors<T> tensors(problem);
    tensors.fill(3);
    const Outputs<T> expected = tensors.run();
    AttentionArguments<T> arguments = tensors.arguments();
    for (auto* extents : {&arguments.value.extents, &arguments.output.extents}) (*extents)[3] = 0;
    arguments.value.data = nullptr;  // whose strides are not 0
    arguments.output.data = nullptr;
    problem.shape.value_dim = 0;
    AttentionPlan<T>(problem.shape, problem.options).run(arguments);
    CHECK_MESSAGE(same_bits(dense(*arguments.logsumexp), expected.logsumexp), describe(problem));
    CHECK_MESSAGE(same_bits(dense(*arguments.weights), expected.weights), describe(problem));
  }
}

}  // namespace
}  // namespace headwise::test
