// Attention of few queries over long keys and values, limited by reading them.

#include <benchmark/benchmark.h>

#include <cstdint>

#include "support/cases.hpp"
#include "support/measure.hpp"
#include "support/workload.hpp"

namespace headwise::bench {
namespace {

void decode(benchmark::State& state, const Case& test) {
  const int threads = static_cast<int>(state.range(0));
  const std::int64_t bytes = cache_bytes(test.shape, sizeof(float));
  const bool in_cache = test.limit == Limit::cache;
  const AttentionTensors<float> tensors(test.shape, test.layout, in_cache ? 1 : copies_out_of_cache(bytes));
  AttentionOptions options;
  options.num_threads = threads;
  const AttentionPlan<float> plan(test.shape, options);
  const AlignedBuffer<std::byte> workspace(plan.workspace_bytes());
  std::int64_t copy = 0;
  measure_memory(
      state, {static_cast<double>(bytes), threads, in_cache},
      [&] { plan.run(tensors.arguments(copy++), workspace.span()); }, [&] { return tensors.cache(copy++); });
}

const bool registered = [] {
  for (const Case& test : decode_cases()) {
    benchmark::RegisterBenchmark(test.name.c_str(), [test](benchmark::State& state) { decode(state, test); })
        ->ArgName("threads")
        ->Arg(1)
        ->Arg(2)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
  return true;
}();

}  // namespace
}  // namespace headwise::bench
