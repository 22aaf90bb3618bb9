// A system that gives no more threads: num_threads = 1 works, since it asks for none; with more, OpenMP ends the program.
#include <doctest/doctest.h>

#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <thread>

#include "headwise/runtime.hpp"
#include "reliability/library_calls.hpp"

namespace headwise::test {
namespace {

std::atomic<bool> refusing = false;
std::atomic<std::size_t> threads_asked_for = 0;

}  // namespace
}  // namespace headwise::test

// Stands before the C library's for the whole program, OpenMP's and BLAS's runtimes included.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) noexcept {
  ++headwise::test::threads_asked_for;
  if (headwise::test::refusing) return EAGAIN;
  static const auto create = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return create(thread, attributes, start, argument);
}

namespace headwise::test {
namespace {

TEST_CASE("thread creation: where it fails, calls with one thread work and have not asked") {
  for (const LibraryCall& call : library_calls()) {
    if (call.uses_blas && build_info().blas_threading == "pthread") continue;  // whose threads are the process's
    const CallOutputs expected = outputs_of(call);
    CallOutputs outputs;
    std::size_t asked_for = 1;
    // On a thread of its own, which has no team of OpenMP threads yet.
    std::thread([&] {
      refusing = true;
      const std::size_t before = threads_asked_for;
      call.run(outputs, 1);
      asked_for = threads_asked_for - before;
      refusing = false;
    }).join();
    CAPTURE(call.name);
    CHECK(outputs == expected);
    CHECK(asked_for == 0);
  }
}

TEST_CASE("thread creation: where it fails, a call that asks ends the program; it neither waits nor goes wrong") {
  const LibraryCall call = library_calls().front();
  const CallOutputs expected = outputs_of(call);
  constexpr int wrong = 99;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(120);
    std::signal(SIGABRT, SIG_DFL);  // not the test program's report
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(wrong);  // where OpenMP says why
    std::thread([&] {
      refusing = true;
      CallOutputs outputs;
      call.run(outputs, 3);
      _exit(outputs == expected ? 0 : wrong);  // under OMP_THREAD_LIMIT=1, or without OpenMP
    }).join();
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK_FALSE((WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM));
  CHECK_FALSE((WIFEXITED(status) && WEXITSTATUS(status) == wrong));
}

}  // namespace
}  // namespace headwise::test
