/// \file
/// Google Benchmark's timing loop with the machine's limit read right before and after it.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace headwise::bench {

/// What one call computes, and whose peak it is compared with.
struct ArithmeticWork {
  double flops = 0;  ///< useful operations
  bool is_double = false;
  int threads = 1;
  std::string isa;  ///< as peak_flops_per_second takes it
};

/// Times `call`. Counters: "GF/s" of useful operations, "peak_percent" of `threads` times the peak of one core. A share
/// above 98 % is a fault of the measurement and fails the benchmark.
void measure_arithmetic(benchmark::State& state, const ArithmeticWork& work, const std::function<void()>& call);

/// What one call reads.
struct MemoryWork {
  double bytes = 0;  ///< useful ones: keys and values once
  int threads = 1;
  bool in_cache = false;  ///< each call reads the same memory again
};

/// Times `call`. Counters: "GB/s" of useful bytes, "bandwidth_percent" of what summing up memory reaches.
/// \param next memory such as the next call would read
void measure_memory(benchmark::State& state, const MemoryWork& work, const std::function<void()>& call,
                    const std::function<std::span<const std::byte>()>& next);

/// The instruction set with the highest peak on this machine: what BLAS and compiled code are compared with.
std::string best_isa();

}  // namespace headwise::bench
