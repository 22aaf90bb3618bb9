// Few queries against many keys: their bits depend neither on how chunks of keys are dealt out nor on the queries beside
// them nor on where the keys stand.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <vector>

#include "support/attention_case.hpp"
#include "support/environment.hpp"
#include "support/rearranged.hpp"

namespace headwise::test {
namespace {

TEST_CASE_TEMPLATE("attention: same bits however many chunks of keys a task takes", T, float, double) {
  // One query against chunks of 512 keys: heads that a task has for itself with one thread, and heads cut into tasks.
  for (const AttentionShape& shape : {AttentionShape{1, 20, 20, 1, 1100, 32, 32}, AttentionShape{1, 4, 4, 1, 5000, 32, 32}}) {
    AttentionTensors<T> tensors({.shape = shape, .logsumexp = true, .weights = true});
    tensors.fill(3);
    const Outputs<T> expected = tensors.run();
    for (const int num_threads : {2, 3, 7}) {
      CHECK_MESSAGE(same_bits(tensors.run(num_threads), expected), describe(tensors.problem()), ", ", num_threads,
                    " threads");
    }
  }
}

TEST_CASE_TEMPLATE("attention: a query of few has the same bits alone and behind others", T, float, double) {
  // Windows that begin inside of steps, vectors and chunks of keys.
  for (const std::int64_t keys : {300, 1500}) {
    for (const std::int64_t left : {0, 50, 100, 600}) {
      for (const std::int64_t queries : {2, 3, 4, 8}) {
        AttentionCase problem{.shape = {1, 1, 1, queries, keys, 16, 16}};
        problem.options = {.causal = true, .window = {.left = left}, .query_position = QueryPosition::given};
        problem.query_offsets = {keys - queries};
        problem.sinks = problem.logsumexp = true;
        const AttentionPlan<T> plan(problem.shape, problem.options);
        if (plan.path(queries, 0) != KernelPath::row_dot) continue;
        AttentionTensors<T> tensors(problem);
        tensors.fill(5);
        tensors.run();
        const std::array<std::int64_t, 1> offset{keys - 1};
        AttentionArguments<T> last = queries_of(tensors.arguments(), queries - 1, queries);
        last.query_offsets = offset;
        const Outputs<T> expected = copy_outputs(last);
        attention<T>(last, problem.options);
        CHECK_MESSAGE(same_bits(copy_outputs(last), expected), describe(problem));
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention: same bits wherever a run of keys stands", T, float, double) {
  // Whole chunks further on; nothing is computed or kept for the positions before it.
  for (const std::int64_t queries : few_and_many_queries()) {
    AttentionCase problem{.shape = {1, 2, 2, queries, 700, 16, 16}};
    problem.sinks = true;
    problem.options = {.causal = true, .query_position = QueryPosition::given};
    AttentionTensors<T> tensors(problem);
    tensors.fill(5);
    std::vector<Outputs<T>> outputs;
    for (const std::int64_t position : {std::int64_t{0}, std::int64_t{3} << 40}) {
      AttentionArguments<T> arguments = tensors.arguments();
      const std::array<std::int64_t, 1> slot{0}, first{position}, length{700}, offset{position + 700 - queries};
      const std::array<KeyRun<T>, 1> runs{KeyRun<T>{arguments.key, arguments.value, slot, first, length}};
      arguments.key = arguments.value = {};
      arguments.key_runs = runs;
      arguments.query_offsets = offset;
      AttentionShape shape = problem.shape;
      shape.key_length = position + 700;
      AttentionPlan<T>(shape, problem.options).run(arguments);
      outputs.push_back(copy_outputs(arguments));
    }
    CHECK_MESSAGE(same_bits(outputs[0], outputs[1]), describe(problem));
  }
}

}  // namespace
}  // namespace headwise::test
