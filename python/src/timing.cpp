#include <nanobind/nanobind.h>

#include <array>
#include <chrono>

#include "bindings.hpp"
#include "headwise/attention.hpp"

namespace headwise::python {
namespace {

/// Seconds per call of attention on one query and key of eight features, called from C++.
double time_attention(int repeats) {
  std::array<float, 8> input{}, output{};
  const auto view = TensorView<float, 4>::contiguous(input.data(), {1, 1, 1, 8});
  const auto out = TensorView<float, 4>::contiguous(output.data(), {1, 1, 1, 8});
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) attention<float>(view, view, view, out);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / repeats;
}

}  // namespace

void bind_timing(nb::module_& module) {
  using namespace nb::literals;
  module.def("_time_attention", &time_attention, "repeats"_a,
             "Seconds per call of the smallest attention from C++: what python/benchmarks/overhead.py compares with.");
}

}  // namespace headwise::python
