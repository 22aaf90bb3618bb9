// planted_race <none | threads | openmp>: two calls at once with outputs of their own, or with one output for both,
// which callers must not do. Where a race detector watches, it must find the latter and nothing in the former; else it
// is blind, or reports what is no race.
#include <cstddef>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <vector>

#include "headwise/attention.hpp"

namespace {

using View = headwise::TensorView<float, 4>;
constexpr View::Extents extents{1, 2, 64, 16};

void run(std::string_view mode) {
  if (mode != "none" && mode != "threads" && mode != "openmp") {
    throw std::invalid_argument("planted_race <none | threads | openmp>");
  }
  const headwise::AttentionPlan<float> plan({1, 2, 2, 64, 64, 16, 16}, {.num_threads = 1});
  std::vector<float> input(2 * 64 * 16, 0.5F);
  std::vector<float> outputs[2]{input, input};
  const auto call = [&](std::size_t caller) {
    const View view = View::contiguous(input.data(), extents);
    const View output = View::contiguous(outputs[mode == "none" ? caller : 0].data(), extents);
    for (int repeat = 0; repeat < 100; ++repeat) {
      plan.run({.query = view, .key = view, .value = view, .output = output});
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
