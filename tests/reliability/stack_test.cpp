// Attention on a thread with a small stack.
#include <doctest/doctest.h>

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstring>
#include <new>
#include <string>
#include <string_view>

#include "reliability/library_calls.hpp"
#include "support/environment.hpp"

namespace headwise::test {
namespace {

constexpr int paint = 0x5c;
constexpr std::size_t page = 4096;  // at least; sizes are whole numbers of it

/// A stack above an unreadable page, painted to see how much of it was used.
class PaintedStack {
 public:
  explicit PaintedStack(std::size_t bytes) : guard_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), bytes_(bytes) {
    void* mapped = mmap(nullptr, guard_ + bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    mapped_ = static_cast<std::byte*>(mapped);
    if (mprotect(data(), bytes_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    std::memset(data(), paint, bytes_);
  }
  ~PaintedStack() { munmap(mapped_, guard_ + bytes_); }
  PaintedStack(const PaintedStack&) = delete;
  PaintedStack& operator=(const PaintedStack&) = delete;

  std::byte* data() const { return mapped_ + guard_; }
  std::size_t used() const {
    const std::byte* end = data() + bytes_;
    return static_cast<std::size_t>(end - std::find_if(data(), data() + bytes_, [](std::byte byte) {
                                      return byte != static_cast<std::byte>(paint);
                                    }));
  }

 private:
  std::size_t guard_, bytes_;
  std::byte* mapped_;
};

struct Task {
  const LibraryCall* call;
  CallOutputs* outputs;
  int num_threads;
};

void* run_task(void* argument) {
  const Task& task = *static_cast<const Task*>(argument);
  if (task.call != nullptr) task.call->run(*task.outputs, task.num_threads);
  return nullptr;
}

/// Runs the task on a thread with a stack of that size; the bytes of it that were used, 0 if there is no such thread.
std::size_t run_on_stack(std::size_t bytes, Task task) {
  const PaintedStack stack(bytes);
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstack(&attributes, stack.data(), bytes) == 0);
  pthread_t thread;
  const bool created = pthread_create(&thread, &attributes, run_task, &task) == 0;
  if (created) pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  return created ? stack.used() : 0;
}

/// The stack that HEADWISE_TEST_STACK asks for, in bytes, else one with 64 KiB for the thread's function. The C library
/// puts thread-local data on it, too, of which an OpenBLAS on OpenMP has 60 KiB: the smallest stack that a thread gets at
/// all tells how much, but for 4 KiB.
std::size_t small_stack() {
  if (const std::string_view bytes = environment("HEADWISE_TEST_STACK"); !bytes.empty()) {
    return std::stoul(std::string(bytes));
  }
  std::size_t bytes = (static_cast<std::size_t>(PTHREAD_STACK_MIN) + page - 1) / page * page;
  while (run_on_stack(bytes, {nullptr, nullptr, 1}) == 0) bytes += page;
  return bytes + 60 * 1024;
}

TEST_CASE("stack: everything but the projections, which are BLAS's, works with 64 KiB of stack") {
  const std::size_t stack = small_stack();
  const std::size_t idle = run_on_stack(stack, {nullptr, nullptr, 1});
  REQUIRE(idle > 0);
  std::size_t most = 0;
  for (const LibraryCall& call : library_calls()) {
    if (call.uses_blas) continue;
    const CallOutputs expected = outputs_of(call);
    for (const int num_threads : {1, 2}) {
      CallOutputs outputs;
      const std::size_t used = run_on_stack(stack, {&call, &outputs, num_threads});
      CAPTURE(call.name);
      CHECK(outputs == expected);
      most = std::max(most, used - idle);
    }
  }
  MESSAGE(most, " bytes of a stack of ", stack, " needed beside the ", idle, " that any thread needs here");
#if defined(__OPTIMIZE__)
  if (stack < 1024 * 1024) CHECK(most <= 16 * 1024);  // sanitizers need more than that and are given it
#endif
}

}  // namespace
}  // namespace headwise::test
