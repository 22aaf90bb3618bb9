// Every task once, in the default floating-point mode, on threads numbered from 0.
#include <doctest/doctest.h>

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "platform/parallel.hpp"
#include "support/environment.hpp"

namespace headwise::test {
namespace {

TEST_CASE("parallel: every index once, threads below num_threads") {
  for (const int threads : thread_counts()) {
    for (const std::int64_t count : {0, 1, 2, 3, 7, 100}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
      std::atomic<bool> in_range = true;
      detail::parallel_for(threads, count, [&](int thread, std::int64_t index) {
        if (thread < 0 || thread >= threads || index < 0 || index >= count) in_range = false;
        ++calls[static_cast<std::size_t>(index)];
      });
      CAPTURE(threads);
      CAPTURE(count);
      CHECK(in_range);
      for (const std::atomic<int>& call : calls) CHECK(call == 1);
    }
  }
}

TEST_CASE("parallel: no two tasks at once have the same thread") {
  constexpr int threads = 3;
  std::vector<std::atomic<bool>> busy(threads);
  std::atomic<bool> alone = true;
  detail::parallel_for(threads, 64, [&](int thread, std::int64_t) {
    if (busy[static_cast<std::size_t>(thread)].exchange(true)) alone = false;
    std::this_thread::yield();
    busy[static_cast<std::size_t>(thread)] = false;
  });
  CHECK(alone);
}

TEST_CASE("parallel: one thread or one task enters no parallel region, in order, on the calling thread") {
  const auto caller = std::this_thread::get_id();
  for (const auto& [threads, count] : {std::pair{1, 9}, std::pair{3, 1}}) {
    std::vector<std::int64_t> order;
    bool outside = true;
    detail::parallel_for(threads, count, [&](int thread, std::int64_t index) {
      outside = outside && thread == 0 && std::this_thread::get_id() == caller;
#if defined(_OPENMP)
      outside = outside && omp_get_level() == 0;
#endif
      order.push_back(index);
    });
    CHECK(outside);
    REQUIRE(order.size() == static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < order.size(); ++i) CHECK(order[i] == static_cast<std::int64_t>(i));
  }
}

/// What arithmetic does on this thread now; volatile keeps it where it stands.
bool rounds_to_nearest() {
  const volatile double one = 1, small = 1e-30;
  const volatile double above = one + small, below = one - small;
  return above == 1 && below == 1;
}

TEST_CASE("parallel: tasks round to nearest, whatever the caller chose; the caller's mode stays") {
  for (const int threads : thread_counts()) {
    std::atomic<int> nearest = 0;
    std::fesetround(FE_UPWARD);
    const bool before = rounds_to_nearest();
    detail::parallel_for(threads, 8, [&](int, std::int64_t) { nearest += rounds_to_nearest() ? 1 : 0; });
    const bool after = rounds_to_nearest();
    std::fesetround(FE_TONEAREST);
    CHECK(!before);
    CHECK(nearest == 8);
    CHECK(!after);
  }
}

TEST_CASE("parallel: inside a parallel region and in several threads at once") {
  std::atomic<int> calls = 0;
  const auto work = [&] { detail::parallel_for(2, 10, [&](int, std::int64_t) { ++calls; }); };
  detail::parallel_for(2, 4, [&](int, std::int64_t) { work(); });
  CHECK(calls == 40);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  CHECK(calls == 80);
}

TEST_CASE("parallel: the default number of threads") {
  CHECK(detail::default_num_threads() >= 1);
#if defined(_OPENMP)
  CHECK(detail::default_num_threads() == omp_get_max_threads());
#endif
}

}  // namespace
}  // namespace headwise::test
