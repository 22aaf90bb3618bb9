// Allocations that fail: std::bad_alloc, nothing leaked, nothing written, and the next call works.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <new>

#include "headwise/attention.hpp"
#include "reliability/allocations.hpp"
#include "reliability/library_calls.hpp"
#include "support/attention_case.hpp"

namespace headwise::test {
namespace {

/// What a call does when the given allocation fails.
struct Outcome {
  bool threw = false;
  long leaked = 0;
};

Outcome run_with_failure(const LibraryCall& call, CallOutputs& outputs, int num_threads, long failing) {
  Outcome outcome;
  const WatchedAllocations watched(failing);
  try {
    call.run(outputs, num_threads);
  } catch (const std::bad_alloc&) {
    outcome.threw = true;
  }
  outcome.leaked = watched.leaked();
  return outcome;
}

long allocations_of(const LibraryCall& call, CallOutputs& outputs, int num_threads) {
  const WatchedAllocations watched;
  call.run(outputs, num_threads);
  return watched.made();
}

TEST_CASE("allocation: whichever fails, std::bad_alloc, nothing leaked, outputs untouched, the next call works") {
  for (const LibraryCall& call : library_calls()) {
    const CallOutputs expected = outputs_of(call);
    CallOutputs untouched;
    call.prepare(untouched);
    for (const int num_threads : {1, 3}) {
      CallOutputs outputs;
      const long allocations = allocations_of(call, outputs, num_threads);
      CAPTURE(call.name);
      CAPTURE(num_threads);
      CHECK(outputs == expected);
      for (long failing = 1; failing <= allocations; ++failing) {
        CAPTURE(failing);
        outputs.reset();
        const Outcome outcome = run_with_failure(call, outputs, num_threads, failing);
        CHECK(outcome.threw);
        CHECK(outcome.leaked == 0);
        CHECK(outputs == untouched);
        outputs.reset();
        call.run(outputs, num_threads);
        CHECK(outputs == expected);
      }
    }
  }
}

TEST_CASE("allocation: attention makes one, the layer makes one, none of them is kept") {
  for (const LibraryCall& call : library_calls()) {
    if (call.name.starts_with("cache")) continue;
    CallOutputs outputs;
    const WatchedAllocations watched;
    call.run(outputs, 1);
    CAPTURE(call.name);
    CHECK(watched.made() <= (call.name.starts_with("rotary") ? 2 : 1));
    CHECK(watched.leaked() == 0);
  }
}

TEST_CASE("allocation: attention with a workspace makes none") {
  for (const std::int64_t queries : {1, 2, 70}) {
    AttentionCase problem{.shape = {2, 4, 2, queries, 203, 40, 37}};
    problem.logsumexp = problem.weights = problem.mean_weights = true;
    problem.mask = problem.bias = Varies{};
    problem.layout = Layout::feature_stride_2;
    AttentionTensors<float> tensors(problem);
    tensors.fill(1);
    const AttentionArguments<float> arguments = tensors.arguments();
    const AttentionPlan<float> plan(problem.shape, {.num_threads = 2});
    const GuardedBuffer<std::uint8_t> memory(static_cast<std::int64_t>(plan.workspace_bytes()),
                                             Placement::before_guard);
    const WatchedAllocations watched;
    plan.run(arguments, {reinterpret_cast<std::byte*>(memory.data()), plan.workspace_bytes()});
    CHECK(watched.made() == 0);
  }
}

}  // namespace
}  // namespace headwise::test
