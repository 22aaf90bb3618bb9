// The microbenchmarks of headwise. Options are those of Google Benchmark, e.g.
//   headwise_benchmarks --benchmark_filter=self_attention<float> --benchmark_out=results.json

#include <benchmark/benchmark.h>

#include <cstdio>
#include <exception>
#include <string>
#include <thread>

#include "headwise/headwise.hpp"

namespace {

void add_context() {
  const headwise::BuildInfo build = headwise::build_info();
  std::string isas;
  for (const std::string& isa : headwise::available_isas()) isas += (isas.empty() ? "" : " ") + isa;
  benchmark::AddCustomContext("headwise_version", build.version);
  benchmark::AddCustomContext("headwise_isa", headwise::active_isa());
  benchmark::AddCustomContext("headwise_isas", isas);
  benchmark::AddCustomContext("headwise_compiler", build.compiler);
  benchmark::AddCustomContext("headwise_build", build.build_type);
  benchmark::AddCustomContext("headwise_threading", build.threading);
  benchmark::AddCustomContext("hardware_threads", std::to_string(std::thread::hardware_concurrency()));
  benchmark::AddCustomContext("blas", build.blas);
  benchmark::AddCustomContext("blas_core", build.blas_core);
  benchmark::AddCustomContext("blas_threading", build.blas_threading);
}

}  // namespace

int main(int count, char** words) {
  benchmark::Initialize(&count, words);
  if (benchmark::ReportUnrecognizedArguments(count, words)) return 1;
  try {
    add_context();
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "headwise_benchmarks: %s\n", error.what());
    return 1;
  }
  benchmark::Shutdown();
}
