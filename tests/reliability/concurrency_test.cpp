// Callers with threads of their own: the same bits, whoever calls at the same time and from where.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <cstddef>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "headwise/runtime.hpp"
#include "reliability/library_calls.hpp"
#include "support/environment.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace headwise::test {
namespace {

std::vector<CallOutputs> outputs_of_all(const std::vector<LibraryCall>& calls) {
  std::vector<CallOutputs> outputs;
  for (const LibraryCall& call : calls) outputs.push_back(outputs_of(call));
  return outputs;
}

/// Number of calls whose outputs are not the expected ones; of all calls, or of every `step`th from `first` on.
std::size_t count_differences(const std::vector<LibraryCall>& calls, const std::vector<CallOutputs>& expected,
                              int num_threads, std::size_t first = 0, std::size_t step = 1) {
  std::size_t differences = 0;
  CallOutputs outputs;
  for (std::size_t n = 0; n < calls.size(); n += step) {
    const std::size_t at = (first + n) % calls.size();
    outputs.reset();
    calls[at].run(outputs, num_threads);
    differences += outputs == expected[at] ? 0 : 1;
  }
  return differences;
}

TEST_CASE("concurrency: any number of threads gives the same bits, also absurd ones") {
  const std::vector<LibraryCall> calls = library_calls();
  const std::vector<CallOutputs> expected = outputs_of_all(calls);
  for (const int num_threads : {0, 2, 3, 7, 40}) {
    CAPTURE(num_threads);
    CHECK(count_differences(calls, expected, num_threads) == 0);
  }
}

TEST_CASE("concurrency: 64 threads at once (8 where programs are slow), in the same call and in different ones") {
  const std::size_t callers = reduced_grid() ? 8 : 64;
  const std::vector<LibraryCall> calls = library_calls();
  const std::vector<CallOutputs> expected = outputs_of_all(calls);
  for (const bool same_call : {true, false}) {
    std::atomic<std::size_t> differences = 0;
    std::barrier begin(static_cast<std::ptrdiff_t>(callers));
    std::vector<std::thread> threads;
    for (std::size_t caller = 0; caller < callers; ++caller) {
      threads.emplace_back([&, caller] {
        begin.arrive_and_wait();
        const int num_threads = 1 + static_cast<int>(caller % 2);
        differences += count_differences(calls, expected, num_threads, same_call ? 0 : caller, 4);
      });
    }
    for (std::thread& thread : threads) thread.join();
    CAPTURE(same_call);
    CHECK(differences == 0);
  }
}

#if defined(_OPENMP)
TEST_CASE("concurrency: inside the caller's parallel region, with and without threads of its own there") {
  const std::vector<LibraryCall> calls = library_calls();
  const std::vector<CallOutputs> expected = outputs_of_all(calls);
  const int levels_before = omp_get_max_active_levels();
  for (const int levels : {1, 2}) {
    omp_set_max_active_levels(levels);
    std::atomic<std::size_t> differences = 0;
#pragma omp parallel num_threads(3)
    differences += count_differences(calls, expected, 2, static_cast<std::size_t>(omp_get_thread_num()));
    CAPTURE(levels);
    CHECK(differences == 0);
  }
  omp_set_max_active_levels(levels_before);
}

TEST_CASE("concurrency: the caller's OpenMP settings stay") {
  const int threads_before = omp_get_max_threads();
  omp_set_num_threads(5);
  for (const LibraryCall& call : library_calls()) {
    outputs_of(call, 2);
    CHECK(omp_get_max_threads() == 5);
    CHECK(omp_get_dynamic() == 0);
  }
  omp_set_num_threads(threads_before);
}
#endif

TEST_CASE("concurrency: a forked child computes with one thread, whatever the parent did before") {
  const std::vector<LibraryCall> calls = library_calls();
  const std::vector<CallOutputs> expected = outputs_of_all(calls);
  REQUIRE(count_differences(calls, expected, 3) == 0);  // threads are there that the child does not get
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(120);  // a child that waits for a thread that it does not have shall not wait for ever
    _exit(count_differences(calls, expected, 1) == 0 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

std::set<std::string> threads_of_process() {
  std::set<std::string> threads;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    threads.insert(entry.path().filename());
  }
  return threads;
}

/// Number of threads that are there after a call and were not before. On a thread of its own, whose OpenMP team is new.
std::size_t threads_created(const LibraryCall& call, int num_threads) {
  std::size_t created = 0;
  std::thread([&] {
    CallOutputs outputs;
    const std::set<std::string> before = threads_of_process();
    call.run(outputs, num_threads);
    for (const std::string& thread : threads_of_process()) created += before.contains(thread) ? 0 : 1;
  }).join();
  return created;
}

TEST_CASE("concurrency: a call with one thread creates none, the layer's projections neither") {
  [[maybe_unused]] std::size_t created_by_two = 0;
  for (const LibraryCall& call : library_calls()) {
    CAPTURE(call.name);
    if (!call.uses_blas || build_info().blas_threading != "pthread") CHECK(threads_created(call, 1) == 0);
    created_by_two += threads_created(call, 2);
  }
#if defined(_OPENMP) && !defined(__clang__)
  // Two threads are seen where they may be: the check is not blind. (LLVM's OpenMP has some in reserve.)
  if (omp_get_thread_limit() > 1) CHECK(created_by_two > 0);
#endif
}

// Before main() and after it.
struct EarlyAndLate {
  EarlyAndLate() : calls(library_calls()), first(outputs_of_all(calls)) {}
  ~EarlyAndLate() {
    if (count_differences(calls, first, 1) != 0) _exit(3);
  }
  std::vector<LibraryCall> calls;
  std::vector<CallOutputs> first;
};
const EarlyAndLate early_and_late;

TEST_CASE("concurrency: calls before main(), after it and at the end of a thread") {
  CHECK(count_differences(early_and_late.calls, early_and_late.first, 2) == 0);
  static std::atomic<std::size_t> differences;
  differences = 1;
  struct AtEnd {
    bool used = false;
    ~AtEnd() { differences = count_differences(early_and_late.calls, early_and_late.first, 1); }
  };
  std::thread([] {
    thread_local AtEnd at_end;
    at_end.used = true;
  }).join();
  CHECK(differences == 0);
}

}  // namespace
}  // namespace headwise::test
