// A million small calls, which signals interrupt: equal answers and no growth of memory. `cmake/run soak` makes large
// ones, too, on several threads.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <vector>

#include "reliability/library_calls.hpp"
#include "support/attention_case.hpp"
#include "support/environment.hpp"

namespace headwise::test {
namespace {

std::atomic<std::int64_t> interruptions = 0;

/// While it lives, a signal whose handler does next to nothing arrives every millisecond.
class Interruptions {
 public:
  Interruptions() {
    struct sigaction action {};
    action.sa_handler = [](int) { ++interruptions; };
    sigaction(SIGALRM, &action, &before_);
    const itimerval interval{{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &interval, nullptr);
  }
  ~Interruptions() {
    const itimerval none{};
    setitimer(ITIMER_REAL, &none, nullptr);
    sigaction(SIGALRM, &before_, nullptr);
  }
  Interruptions(const Interruptions&) = delete;
  Interruptions& operator=(const Interruptions&) = delete;

 private:
  struct sigaction before_ {};
};

std::int64_t resident_pages() {
  std::int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident;
}

std::vector<LibraryCall> small_calls() {
  std::vector<LibraryCall> calls;
  const auto add = [&calls](const AttentionCase& problem) {
    calls.push_back(attention_call<float>(problem, calls.size()));
    calls.push_back(attention_call<double>(problem, calls.size()));
  };
  add({.shape = {1, 2, 1, 1, 5, 8, 8}});
  add({.shape = {2, 1, 1, 4, 4, 8, 3}, .options = {.causal = true}, .logsumexp = true});
  add({.shape = {1, 1, 1, 9, 3, 4, 8}, .weights = true, .mask = Varies{}, .bias = Varies{}});
  return calls;
}

TEST_CASE("small calls: a million (10,000 where programs are slow), interrupted: equal answers, no memory kept") {
#if defined(__OPTIMIZE__)
  const std::int64_t repeats = reduced_grid() ? 10'000 : 1'000'000;
#else
  const std::int64_t repeats = 10'000;
#endif
  const std::vector<LibraryCall> calls = small_calls();
  CallOutputs outputs(std::size_t{1} << 14);
  std::vector<std::vector<std::byte>> first;
  for (const LibraryCall& call : calls) {
    outputs.reset();
    call.run(outputs, 1);
    first.emplace_back(outputs.written().begin(), outputs.written().end());
  }
  const Interruptions interrupted;
  const std::int64_t interruptions_before = interruptions, pages_before = resident_pages();
  std::int64_t differences = 0;
  for (std::int64_t n = 0; n < repeats; ++n) {
    const std::size_t at = static_cast<std::size_t>(n) % calls.size();
    outputs.reset();
    calls[at].run(outputs, 1);
    differences += std::ranges::equal(outputs.written(), first[at]) ? 0 : 1;
  }
  CHECK(differences == 0);
  CHECK(interruptions > interruptions_before);
  // Two bytes a call would be more. (Sanitizers, which run the reduced grid, keep freed memory.)
  if (!reduced_grid()) CHECK((resident_pages() - pages_before) * sysconf(_SC_PAGESIZE) < 2'000'000);
}

}  // namespace
}  // namespace headwise::test
