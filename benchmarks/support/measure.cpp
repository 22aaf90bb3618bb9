#include "support/measure.hpp"

#include "headwise/runtime.hpp"
#include "support/clock.hpp"
#include "support/machine_peak.hpp"
#include "support/read_bandwidth.hpp"

namespace headwise::bench {
namespace {

// Calls per second in the timing loop.
double time_calls(benchmark::State& state, const std::function<void()>& call) {
  call();  // wakes the workers and touches the workspace
  const double begin = now();
  for ([[maybe_unused]] auto iteration : state) call();
  return static_cast<double>(state.iterations()) / (now() - begin);
}

}  // namespace

void measure_arithmetic(benchmark::State& state, const ArithmeticWork& work, const std::function<void()>& call) {
  const double before = peak_flops_per_second(work.isa, work.is_double);
  const double rate = work.flops * time_calls(state, call);
  const double after = peak_flops_per_second(work.isa, work.is_double);
  const double percent = 100 * rate / (work.threads * (before + after) / 2);
  state.counters["GF/s"] = rate * 1e-9;
  state.counters["peak_percent"] = percent;
  constexpr double shortest_reliable_time = 0.005;  // below, a clock change may fall between loop and peak
  const double seconds = static_cast<double>(state.iterations()) * work.flops / rate;
  if (percent > 98 && seconds > shortest_reliable_time) {
    state.SkipWithError("share of peak above 98 %: a fault of the measurement");
  }
}

void measure_memory(benchmark::State& state, const MemoryWork& work, const std::function<void()>& call,
                    const std::function<std::span<const std::byte>()>& next) {
  ReadBandwidth bandwidth(work.threads, work.in_cache);
  constexpr int samples = 2;
  for (int i = 0; i < samples; ++i) bandwidth.sample(next());
  const double rate = work.bytes * time_calls(state, call);
  for (int i = 0; i < samples; ++i) bandwidth.sample(next());
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["bandwidth_percent"] = 100 * rate / bandwidth.bytes_per_second();
}

std::string best_isa() { return available_isas().back(); }

}  // namespace headwise::bench
