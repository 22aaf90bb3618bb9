// Every option of attention beside the plain call. The ratios are easier read from `headwise_shares options-`.

#include <benchmark/benchmark.h>

#include <memory>
#include <type_traits>

#include "support/measure.hpp"
#include "support/option_cases.hpp"

namespace headwise::bench {
namespace {

template <class T>
void run_option(benchmark::State& state, const OptionCase<T>& test) {
  const int threads = static_cast<int>(state.range(0));
  const std::unique_ptr<OptionCall<T>> call = test.make();
  call->prepare(threads);
  measure_arithmetic(state, {call->flops, std::is_same_v<T, double>, threads, active_isa()}, [&] { call->run(); });
}

template <class T>
void register_options() {
  for (const OptionCase<T>& test : option_cases<T>()) {
    benchmark::RegisterBenchmark(test.name.c_str(), [test](benchmark::State& state) { run_option(state, test); })
        ->ArgName("threads")
        ->Arg(1)
        ->Arg(2)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
}

const bool registered = [] {
  register_options<float>();
  register_options<double>();
  return true;
}();

}  // namespace
}  // namespace headwise::bench
