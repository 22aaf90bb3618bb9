// The floating-point environment, errno, the locale and signals: whatever the caller set, results have the bits of the
// default mode, and afterwards every thread has what it had before.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/time.h>

#include <atomic>
#include <cerrno>
#include <cfenv>
#include <clocale>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

#include "headwise/headwise.hpp"
#include "reliability/library_calls.hpp"
#include "support/control_bits.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace headwise::test {
namespace {

#if defined(__x86_64__)
/// Control and tag word of the x87 unit: rounding, precision and masks, and which of its registers are in use, as MMX
/// instructions leave them. (The sticky flags are in another word.)
std::uint32_t x87_state() {
  struct {
    std::uint32_t control, status, tags, others[4];
  } unit;
  asm volatile("fnstenv %0\n\tfldcw %0" : "=m"(unit));  // storing masks all exceptions
  return (unit.control & 0xffff) | unit.tags << 16;
}
void set_x87_control(std::uint32_t state) {
  const auto control = static_cast<std::uint16_t>(state);
  asm volatile("fldcw %0" : : "m"(control));
}
#else
std::uint32_t x87_state() { return 0; }
void set_x87_control(std::uint32_t) {}
#endif

constexpr std::uint32_t odd_x87_control = 0x0c7f;  // towards zero, the precision of float, all exceptions masked
constexpr int several_threads = 2;  // OpenBLAS uses no more than the machine has, and a smaller team ends threads
constexpr int errno_before = 4242;  // of no system call

/// What a call must leave alone.
struct ThreadState {
  std::uint64_t control;
  std::uint32_t x87;
  int error;

  static ThreadState now() {
    const int error = errno;  // before anything can change it
    return {control_bits(), x87_state(), error};
  }
  friend bool operator==(const ThreadState&, const ThreadState&) = default;
};

/// The state of this thread and of those that OpenMP gives it.
std::vector<ThreadState> states_of_team() {
  std::vector<ThreadState> states(several_threads, ThreadState{0, 0, 0});
#if defined(_OPENMP)
#pragma omp parallel num_threads(several_threads)
  states[static_cast<std::size_t>(omp_get_thread_num())] = ThreadState::now();
#else
  states[0] = ThreadState::now();
#endif
  return states;
}

void set_state_of_team(std::uint64_t control, std::uint32_t x87_control) {
#if defined(_OPENMP)
#pragma omp parallel num_threads(several_threads)
#endif
  {
    set_control_bits(control);
    set_x87_control(x87_control);
    errno = errno_before;
  }
}

struct Mode {
  std::string name;
  std::uint64_t control;
};

std::vector<Mode> odd_modes() {
  std::vector<Mode> modes{{"flush to zero", control_bits() | flush_bits}};
  for (const int direction : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    modes.push_back({"rounding direction " + std::to_string(direction), rounding_bits(direction)});
  }
  modes.push_back({"upward, flush to zero", rounding_bits(FE_UPWARD) | flush_bits});
  return modes;
}

TEST_CASE("environment: the bits of the default mode in every mode; modes and errno stay, on every thread") {
  const std::uint64_t initial = control_bits();
  const std::uint32_t initial_x87 = x87_state();
  for (const LibraryCall& call : library_calls()) {
    const CallOutputs expected = outputs_of(call);
    for (const Mode& mode : odd_modes()) {
      for (const int num_threads : {1, several_threads}) {
        CallOutputs outputs;
        set_state_of_team(mode.control, odd_x87_control);
        const std::vector<ThreadState> before = states_of_team();
        errno = errno_before;
        call.run(outputs, num_threads);
        const std::vector<ThreadState> after = states_of_team();
        set_state_of_team(initial, initial_x87);
        CAPTURE(call.name);
        CAPTURE(mode.name);
        CAPTURE(num_threads);
        CHECK(outputs == expected);
        CHECK(after == before);
      }
    }
  }
}

TEST_CASE("environment: threads that a call in an odd mode created serve later calls in the default mode") {
  const std::uint64_t initial = control_bits();
  for (const LibraryCall& call : library_calls()) {
    const CallOutputs expected = outputs_of(call);
    CallOutputs first, second;
    // A thread of its own has a team of its own.
    std::thread([&] {
      set_control_bits(rounding_bits(FE_UPWARD) | flush_bits);
      call.run(first, several_threads);
      set_control_bits(initial);
      call.run(second, several_threads);
    }).join();
    CAPTURE(call.name);
    CHECK(first == expected);
    CHECK(second == expected);
  }
}

TEST_CASE("environment: weights packed in a mode that flushes subnormal numbers keep them") {
  const std::vector<float> weight(32, 1e-40F), input(20 * 8, 1e20F);
  Projection<float> projection{.weight = TensorView<const float, 2>::contiguous(weight.data(), {4, 8}),
                               .order = WeightOrder::out_in};
  {
    const ChangedMode mode(control_bits() | flush_bits);
    projection = pack_weight(projection);
  }
  std::vector<float> output(20 * 4);
  project(TensorView<const float, 3>::contiguous(input.data(), {1, 20, 8}), projection,
          TensorView<float, 3>::contiguous(output.data(), {1, 20, 4}));
  for (const float value : output) CHECK(value == doctest::Approx(8e-20F).epsilon(1e-4));
}

#if defined(__x86_64__) && defined(__GLIBC__)
TEST_CASE("environment: with traps enabled, finite data traps nowhere") {
  constexpr int traps = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW;
  for (const LibraryCall& call : library_calls()) {
    const CallOutputs expected = outputs_of(call);
    for (const int num_threads : {1, several_threads}) {
      CallOutputs outputs;
      INFO(call.name, " with ", num_threads, " threads");  // shown where a trap ends the test
      const auto enable = [] {
        std::feclearexcept(FE_ALL_EXCEPT);
        feenableexcept(traps);
      };
#if defined(_OPENMP)
#pragma omp parallel num_threads(several_threads)
#endif
      enable();
      enable();  // once more for this thread: LLVM's OpenMP takes back what a region changed in it
      call.run(outputs, num_threads);
      const bool still_enabled = fegetexcept() == traps;
#if defined(_OPENMP)
#pragma omp parallel num_threads(several_threads)
#endif
      fedisableexcept(FE_ALL_EXCEPT);
      fedisableexcept(FE_ALL_EXCEPT);
      CHECK(outputs == expected);
      CHECK(still_enabled);
    }
  }
}
#endif

TEST_CASE("environment: the locale stays") {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  const locale_t thread_before = uselocale(nullptr);
  for (const LibraryCall& call : library_calls()) outputs_of(call, several_threads);
  CHECK(std::setlocale(LC_ALL, nullptr) == before);
  CHECK(uselocale(nullptr) == thread_before);
}

std::atomic<int> alarms = 0;

TEST_CASE("environment: signals during a call have no effect") {
  struct sigaction action {
  }, action_before{};
  action.sa_handler = [](int) { ++alarms; };
  sigaction(SIGALRM, &action, &action_before);
  for (const LibraryCall& call : library_calls()) {
    const CallOutputs expected = outputs_of(call);
    CallOutputs outputs;
    const itimerval interval{{0, 100}, {0, 100}};
    setitimer(ITIMER_REAL, &interval, nullptr);
    const int alarms_before = alarms;
    bool equal = true;
    for (int repeat = 0; repeat < 1000 && (alarms < alarms_before + 20 || repeat < 2); ++repeat) {
      outputs.reset();
      call.run(outputs, repeat % 2 == 0 ? 1 : several_threads);
      equal = equal && outputs == expected;
    }
    const itimerval none{};
    setitimer(ITIMER_REAL, &none, nullptr);
    CAPTURE(call.name);
    CHECK(equal);
    CHECK(alarms > alarms_before);
  }
  sigaction(SIGALRM, &action_before, nullptr);
}

}  // namespace
}  // namespace headwise::test
