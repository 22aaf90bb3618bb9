// A limit of the machine here and now: floating-point operations a second of so many threads at once, in float or
// double, or the bytes a second they read from memory.
//
//     headwise_machine_limits THREADS float32|float64|read
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

#include "support/machine_peak.hpp"
#include "support/read_bandwidth.hpp"

namespace {

constexpr std::size_t memory_bytes = std::size_t{1} << 29;  // beyond any cache
constexpr int repeats = 10;

std::string_view widest_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
  return "sse2";
#else
  return "neon64";
#endif
}

double peak(int threads, bool is_double) {
  std::vector<double> best(static_cast<std::size_t>(threads), 0);
  std::vector<std::thread> running;
  for (double& rate : best) {
    running.emplace_back([&rate, is_double] {
      for (int i = 0; i < repeats; ++i) {
        const double reading = headwise::bench::peak_flops_per_second(widest_isa(), is_double);
        if (reading > rate) rate = reading;
      }
    });
  }
  double sum = 0;
  for (std::size_t i = 0; i < running.size(); ++i) {
    running[i].join();
    sum += best[i];
  }
  return sum;
}

double read_bandwidth(int threads) {
  const std::vector<std::byte> memory(memory_bytes, std::byte{1});
  headwise::bench::ReadBandwidth bandwidth(threads, false);
  for (int i = 0; i < 3; ++i) bandwidth.sample(memory);
  return bandwidth.bytes_per_second();
}

}  // namespace

int main(int count, char** arguments) {
  const int threads = count == 3 ? std::atoi(arguments[1]) : 0;
  const std::string_view limit = count == 3 ? arguments[2] : "";
  if (threads < 1 || (limit != "float32" && limit != "float64" && limit != "read")) {
    std::fprintf(stderr, "headwise_machine_limits THREADS float32|float64|read\n");
    return 1;
  }
  const double rate = limit == "read" ? read_bandwidth(threads) : peak(threads, limit == "float64");
  std::printf("%.6g\n", rate);
  return 0;
}
