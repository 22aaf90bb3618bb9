#include "support/read_bandwidth.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>

namespace headwise::bench {
namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t step = 8 * cache_line;  // bytes a round, in independent sums

// Keeps the compiler from dropping a loop whose result nobody reads.
std::atomic<std::uint64_t> sink;

// The loops differ only in the width of a load; vector code is only compiled inside a function that carries its target
// attribute. Out of cache the width is all the same, within a cache it isn't. Each reads whole steps of `size` bytes
// and prefetches `distance` bytes ahead, also beyond the end, which is harmless.
using SumLoop = void(const std::byte* data, std::size_t size, std::size_t distance);

#if defined(__x86_64__)

__attribute__((target("avx512f"), noinline)) void sum_512_bits(const std::byte* data, std::size_t size,
                                                               std::size_t distance) {
  using Vector __attribute__((vector_size(64), aligned(1), may_alias)) = std::uint64_t;
  Vector sum[step / sizeof(Vector)] = {};
  for (std::size_t i = 0; i + step <= size; i += step) {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < step / sizeof(Vector); ++j) {
      const std::byte* position = data + i + j * sizeof(Vector);
      __builtin_prefetch(position + distance);
      sum[j] += *reinterpret_cast<const Vector*>(position);
    }
  }
#pragma GCC unroll 8
  for (std::size_t j = 1; j < step / sizeof(Vector); ++j) sum[0] += sum[j];
  sink = sum[0][0];
}

__attribute__((target("avx2"), noinline)) void sum_256_bits(const std::byte* data, std::size_t size,
                                                            std::size_t distance) {
  using Vector __attribute__((vector_size(32), aligned(1), may_alias)) = std::uint64_t;
  Vector sum[step / cache_line] = {};
  for (std::size_t i = 0; i + step <= size; i += step) {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < step / cache_line; ++j) {
      const std::byte* position = data + i + j * cache_line;
      __builtin_prefetch(position + distance);
      const Vector* line = reinterpret_cast<const Vector*>(position);
      sum[j] += line[0];
      sum[j] += line[1];
    }
  }
#pragma GCC unroll 8
  for (std::size_t j = 1; j < step / cache_line; ++j) sum[0] += sum[j];
  sink = sum[0][0];
}

#endif

__attribute__((noinline)) void sum_128_bits(const std::byte* data, std::size_t size, std::size_t distance) {
  using Vector __attribute__((vector_size(16), aligned(1), may_alias)) = std::uint64_t;
  Vector sum[step / cache_line] = {};
  for (std::size_t i = 0; i + step <= size; i += step) {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < step / cache_line; ++j) {
      const std::byte* position = data + i + j * cache_line;
      __builtin_prefetch(position + distance);
      const Vector* line = reinterpret_cast<const Vector*>(position);
      for (int k = 0; k < 4; ++k) sum[j] += line[k];
    }
  }
#pragma GCC unroll 8
  for (std::size_t j = 1; j < step / cache_line; ++j) sum[0] += sum[j];
  sink = sum[0][0];
}

SumLoop* widest_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return sum_512_bits;
  if (__builtin_cpu_supports("avx2")) return sum_256_bits;
#endif
  return sum_128_bits;
}

// Binds the calling thread to processor number `index` (modulo their count) of `allowed`. Left free, threads that live
// for a millisecond often share one processor.
class Bound {
 public:
  Bound(const cpu_set_t& allowed, std::size_t index) : allowed_(allowed) {
    std::size_t left = index % static_cast<std::size_t>(CPU_COUNT(&allowed));
    std::size_t processor = 0;
    while (!CPU_ISSET(processor, &allowed) || left-- > 0) ++processor;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  Bound(const Bound&) = delete;
  Bound& operator=(const Bound&) = delete;
  ~Bound() { sched_setaffinity(0, sizeof allowed_, &allowed_); }

 private:
  cpu_set_t allowed_;
};

// Bytes a second of summing up `data` `passes` times with all threads, from the first one's start to the last one's
// end. They start together, or the first would have the memory for itself.
double read_rate(std::span<const std::byte> data, std::size_t passes, int threads, std::size_t distance,
                 double (*clock)()) {
  static SumLoop* const loop = widest_loop();
  const std::size_t count = static_cast<std::size_t>(threads);
  const std::size_t part = data.size() / count / step * step;
  std::atomic<int> arrived{0};
  std::vector<double> begins(count), ends(count);
  cpu_set_t allowed;
  sched_getaffinity(0, sizeof allowed, &allowed);
  const auto work = [&](std::size_t thread) {
    std::optional<Bound> bound;
    if (threads > 1) bound.emplace(allowed, thread);
    for (arrived.fetch_add(1); arrived.load() < threads;) std::this_thread::yield();
    begins[thread] = clock();
    for (std::size_t pass = 0; pass < passes; ++pass) loop(data.data() + thread * part, part, distance);
    ends[thread] = clock();
  };
  std::vector<std::jthread> readers;
  for (std::size_t thread = 1; thread < count; ++thread) readers.emplace_back(work, thread);
  work(0);
  readers.clear();
  return static_cast<double>(passes * part * count) / (std::ranges::max(ends) - std::ranges::min(begins));
}

}  // namespace

void ReadBandwidth::sample(std::span<const std::byte> data) {
  // An OpenMP worker spins for a while after its last task and would hold the processor that a reader needs.
  if (threads_ > 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  constexpr std::size_t in_cache_bytes = 64 << 20;  // about 2 ms
  const std::size_t parts = in_cache_ ? 1 : prefetch_distances.size();
  const std::size_t passes = in_cache_ ? std::max<std::size_t>(1, in_cache_bytes / data.size()) : 1;
  const std::size_t part = data.size() / parts;
  for (std::size_t i = 0; i < prefetch_distances.size(); ++i) {
    rates_[i].push_back(
        read_rate(data.subspan(i % parts * part, part), passes, threads_, prefetch_distances[i], clock_));
  }
}

double ReadBandwidth::bytes_per_second() const {
  double best = 0;
  for (const std::vector<double>& rates : rates_) best = std::max(best, median(rates));
  return best;
}

}  // namespace headwise::bench
