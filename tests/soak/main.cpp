// headwise_soak [seconds] [seed]: for a quarter of that long new random problems, one after another, must keep every
// promise; then four threads repeat random calls. Each call's outputs must have the bits of the first time, and the
// resident memory must not grow. Prints what it sees; exits with 1 if a promise is broken.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "headwise/runtime.hpp"
#include "reliability/library_calls.hpp"
#include "support/random.hpp"
#include "support/random_case.hpp"
#include "support/random_check.hpp"

namespace headwise::test {
namespace {

constexpr std::size_t callers = 4;
constexpr int random_cases = 60;  // half a GiB with what they write
constexpr std::uint64_t problems_of_a_seed = 1'000'000'000;
constexpr std::size_t largest_outputs = std::size_t{16} << 20;  // of a random case: two numbers a score, and more
constexpr int samples = 20;
// Threads come to share the allocator's arenas and OpenBLAS's buffers late; a leak of 64 bytes a call would be more
// after some minutes.
constexpr std::int64_t tolerated_growth = std::int64_t{4} << 20;

/// A call and what it wrote the first time.
struct Known {
  LibraryCall call;
  std::vector<std::byte> first;
};

std::vector<Known> known_calls(std::uint64_t seed) {
  std::vector<Known> known;
  for (LibraryCall& call : library_calls()) known.push_back({std::move(call), {}});
  Random random(seed);
  for (int n = 0; n < random_cases; ++n) {
    const AttentionCase problem = any_case(random);
    const auto data_seed = seed + static_cast<std::uint64_t>(n);
    known.push_back(
        {n % 2 == 0 ? attention_call<float>(problem, data_seed) : attention_call<double>(problem, data_seed), {}});
  }
  CallOutputs outputs(largest_outputs);
  for (Known& entry : known) {
    outputs.reset();
    entry.call.run(outputs, 1);
    entry.first.assign(outputs.written().begin(), outputs.written().end());
  }
  return known;
}

std::int64_t resident_bytes() {
  std::int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

/// What the threads have in common.
struct Soak {
  explicit Soak(const std::vector<Known>& calls_known) : known(calls_known) {}

  const std::vector<Known>& known;
  std::atomic<bool> stop = false;
  std::atomic<std::int64_t> calls = 0, differences = 0;
  std::mutex printing;

  void run(std::uint64_t seed) {
    Random random(seed);
    CallOutputs outputs(largest_outputs);
    while (!stop) {
      const Known& entry = known[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(known.size())))];
      const int num_threads = static_cast<int>(random.below(4));
      outputs.reset();
      try {
        entry.call.run(outputs, num_threads);
      } catch (const std::exception& error) {
        report(entry.call.name + ": " + error.what());
        continue;
      }
      const auto now = outputs.written();
      if (now.size() != entry.first.size() || std::memcmp(now.data(), entry.first.data(), now.size()) != 0) {
        report(entry.call.name + ", threads " + std::to_string(num_threads) + ": other bits than the first time");
      }
      ++calls;
    }
  }

 private:
  void report(const std::string& text) {
    ++differences;
    const std::lock_guard lock(printing);
    std::cout << text << std::endl;
  }
};

/// Whether new problems keep every promise for that long.
bool check_new_problems(double seconds, std::uint64_t seed) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  const std::uint64_t first = seed * problems_of_a_seed;
  std::uint64_t next = first, broken = 0;
  for (; Clock::now() < end; ++next) {
    if ((next - first) % 1000 == 0) std::cout << "random problems from seed " << next << std::endl;
    for (const std::string& text : {broken_promise<float>(next), broken_promise<double>(next)}) {
      if (text.empty()) continue;
      std::cout << "HEADWISE_TEST_SEEDS=" << next << ": " << text << std::endl;
      ++broken;
    }
  }
  std::cout << next - first << " random problems in float and double, " << broken << " broke a promise" << std::endl;
  return broken == 0;
}

/// Whether calls repeat their bits for that long and memory stays.
bool soak(double seconds, std::uint64_t seed) {
  const std::vector<Known> known = known_calls(seed);
  std::cout << known.size() << " different calls on " << active_isa() << ", " << callers << " threads, " << seconds
            << " s, seed " << seed << std::endl;
  Soak state(known);
  std::vector<std::thread> threads;
  for (std::size_t caller = 0; caller < callers; ++caller) {
    threads.emplace_back([&state, seed, caller] { state.run(seed * callers + caller); });
  }
  std::array<std::int64_t, samples> resident{};
  for (std::int64_t& sample : resident) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds / samples));
    sample = resident_bytes();
    const std::lock_guard lock(state.printing);
    std::cout << std::setw(12) << state.calls << " calls, " << std::fixed << std::setprecision(1)
              << static_cast<double>(sample) / (1 << 20) << " MiB resident" << std::endl;
  }
  state.stop = true;
  for (std::thread& thread : threads) thread.join();

  const auto middle = resident.begin() + samples / 2;
  const std::int64_t growth = *std::max_element(middle, resident.end()) - *std::max_element(resident.begin(), middle);
  std::cout << state.calls << " calls, " << state.differences << " with other bits or an error; the second half needed "
            << static_cast<double>(growth) / (1 << 20) << " MiB more than the first" << std::endl;
  return state.differences == 0 && state.calls > 0 && growth <= tolerated_growth;
}

}  // namespace
}  // namespace headwise::test

int main(int argc, char** argv) {
  try {
    const double seconds = argc > 1 ? std::stod(argv[1]) : 60;
    const std::uint64_t seed = argc > 2 ? std::stoull(argv[2]) : 1;
    if (!(seconds > 0)) throw std::invalid_argument("seconds must be above 0");
    const bool kept = headwise::test::check_new_problems(seconds / 4, seed);
    const bool repeated = headwise::test::soak(seconds * 3 / 4, seed);
    return kept && repeated ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "headwise_soak [seconds] [seed]: " << error.what() << '\n';
    return 2;
  }
}
