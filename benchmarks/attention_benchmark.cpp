// Attention of many queries, limited by arithmetic.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <type_traits>
#include <vector>

#include "support/cases.hpp"
#include "support/measure.hpp"
#include "support/workload.hpp"

namespace headwise::bench {
namespace {

// A prepared plan with a workspace: what a caller with many calls of one shape uses.
template <class T>
void run_plan(benchmark::State& state, const AttentionShape& shape, bool causal, Layout layout, int threads) {
  const AttentionTensors<T> tensors(shape, layout);
  AttentionOptions options;
  options.causal = causal;
  options.num_threads = threads;
  const AttentionPlan<T> plan(shape, options);
  const AlignedBuffer<std::byte> workspace(plan.workspace_bytes());
  const AttentionArguments<T> arguments = tensors.arguments();
  measure_arithmetic(state, {useful_flops(shape, causal), std::is_same_v<T, double>, threads, active_isa()},
                     [&] { plan.run(arguments, workspace.span()); });
}

AttentionShape shape_of(const benchmark::State& state) {
  const std::int64_t dim = state.range(0);
  const std::int64_t length = state.range(1);
  return {.batch = 1,
          .num_heads = 8,
          .num_kv_heads = 8,
          .query_length = length,
          .key_length = length,
          .head_dim = dim,
          .value_dim = dim};
}

template <class T>
void self_attention(benchmark::State& state) {
  run_plan<T>(state, shape_of(state), false, Layout::heads_apart, static_cast<int>(state.range(2)));
}

template <class T>
void causal_attention(benchmark::State& state) {
  run_plan<T>(state, shape_of(state), true, Layout::heads_apart, static_cast<int>(state.range(2)));
}

// The one call that checks, plans and allocates each time.
template <class T>
void attention_call(benchmark::State& state) {
  const AttentionShape shape = shape_of(state);
  const int threads = static_cast<int>(state.range(2));
  const AttentionTensors<T> tensors(shape);
  const AttentionArguments<T> arguments = tensors.arguments();
  AttentionOptions options;
  options.num_threads = threads;
  measure_arithmetic(state, {useful_flops(shape, false), std::is_same_v<T, double>, threads, active_isa()},
                     [&] { attention(arguments, options); });
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"dim", "length", "threads"})
      ->ArgsProduct({{32, 64, 128}, {16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192}, {1, 2}})
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

void small_sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"dim", "length", "threads"})
      ->ArgsProduct({{64}, {1, 16, 64, 256}, {1, 2}})
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

BENCHMARK(self_attention<float>)->Apply(sizes);
BENCHMARK(self_attention<double>)->Apply(sizes);
BENCHMARK(causal_attention<float>)->Apply(sizes);
BENCHMARK(causal_attention<double>)->Apply(sizes);
BENCHMARK(attention_call<float>)->Apply(small_sizes);

// Other head sizes, cross-attention, grouped heads, many small sequences, and views with far rows.
const bool named_cases_registered = [] {
  for (const std::vector<Case>& cases : {head_size_cases(), shape_cases(), layout_cases()}) {
    for (const Case& test : cases) {
      benchmark::RegisterBenchmark(test.name.c_str(),
                                   [test](benchmark::State& state) {
                                     run_plan<float>(state, test.shape, test.causal, test.layout,
                                                     static_cast<int>(state.range(0)));
                                   })
          ->ArgName("threads")
          ->Arg(1)
          ->Arg(2)
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
  return true;
}();

}  // namespace
}  // namespace headwise::bench
