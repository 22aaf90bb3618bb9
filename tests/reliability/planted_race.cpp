// planted_race <none | threads | openmp>: two calls at once with memory of their own, or with one workspace for both,
// which callers must not do. Where a race detector watches, it must find the latter and nothing in the former; else it
// is blind, or reports what is no race.
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <vector>

#include "headwise/attention.hpp"

namespace {

using View = headwise::TensorView<float, 4>;
constexpr View::Extents extents{1, 2, 64, 16};

struct Caller {
  std::vector<float> query = std::vector<float>(2 * 64 * 16, 0.5F), output = query;
  void run(const headwise::AttentionPlan<float>& plan, std::span<std::byte> workspace) {
    const View q = View::contiguous(query.data(), extents);
    plan.run({.query = q, .key = q, .value = q, .output = View::contiguous(output.data(), extents)}, workspace);
  }
};

void run(std::string_view mode) {
  if (mode != "none" && mode != "threads" && mode != "openmp") {
    throw std::invalid_argument("planted_race <none | threads | openmp>");
  }
  const headwise::AttentionPlan<float> plan({1, 2, 2, 64, 64, 16, 16}, {.num_threads = 1});
  const std::size_t bytes = (plan.workspace_bytes() + 63) / 64 * 64;
  std::vector<std::byte> memory(2 * bytes + 64);
  std::byte* aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  Caller callers[2];
  const auto call = [&](std::size_t caller) {
    const bool shared = mode != "none";
    for (int repeat = 0; repeat < 100; ++repeat) {
      callers[caller].run(plan, {aligned + (shared ? 0 : caller * bytes), bytes});
    }
  };
  if (mode == "threads") {
    std::thread other(call, 1);
    call(0);
    other.join();
  } else {
#pragma omp parallel for num_threads(2)
    for (int caller = 0; caller < 2; ++caller) call(static_cast<std::size_t>(caller));
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc == 2 ? argv[1] : "");
    std::cout << "done\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
}
