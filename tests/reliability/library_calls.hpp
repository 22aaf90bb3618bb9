/// \file
/// Calls of every function of the library that computes, with data of their own: what the tests of threads, memory and
/// floating-point environment repeat under odd circumstances and compare bit for bit.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "headwise/tensor.hpp"
#include "support/attention_problem.hpp"

namespace headwise::test {

/// Memory that one call writes to. Made before the call, so that the call itself allocates nothing but what the library
/// does.
class CallOutputs {
 public:
  explicit CallOutputs(std::size_t bytes = std::size_t{4} << 20) : memory_(bytes, poison) {}

  /// A view of the next free memory.
  template <class T, int Rank>
  TensorView<T, Rank> take(const std::array<std::int64_t, Rank>& extents) {
    std::size_t bytes = sizeof(T);
    for (const std::int64_t extent : extents) bytes *= static_cast<std::size_t>(extent);
    const std::size_t begin = used_;
    used_ += (bytes + 63) / 64 * 64;
    if (used_ > memory_.size()) throw std::length_error("CallOutputs is too small");
    return TensorView<T, Rank>::contiguous(reinterpret_cast<T*>(memory_.data() + begin), extents);
  }

  /// Everything is free again and holds poison.
  void reset() {
    std::fill_n(memory_.begin(), used_, poison);
    used_ = 0;
  }

  /// The memory that was taken.
  std::span<const std::byte> written() const { return std::span(memory_).first(used_); }

  friend bool operator==(const CallOutputs& a, const CallOutputs& b) {
    return std::memcmp(a.memory_.data(), b.memory_.data(), a.memory_.size()) == 0;
  }

 private:
  static constexpr std::byte poison{0xa5};
  std::vector<std::byte> memory_;
  std::size_t used_ = 0;
};

/// One call. It may run in many threads at once, each with outputs of its own.
struct LibraryCall {
  std::string name;
  std::function<void(CallOutputs& outputs, int num_threads)> run;
  bool uses_blas = false;
  /// What the outputs hold before the library writes to them, where that is not the poison: run() begins with it.
  std::function<void(CallOutputs& outputs)> prepare = [](CallOutputs&) {};
};

/// A call of attention() with data of its own. `value_factor` scales the values, down to subnormal numbers if asked.
template <class T>
LibraryCall attention_call(const AttentionCase& problem, std::uint64_t seed, double value_factor = 1);

/// Both kernels with and without options, in float and double; the layer, the projection, the rotary embedding, the
/// merge, the cache. All data is finite and no sum of it overflows.
std::vector<LibraryCall> library_calls();

/// Outputs of a call with one thread, under the circumstances of now.
inline CallOutputs outputs_of(const LibraryCall& call, int num_threads = 1) {
  CallOutputs outputs;
  call.run(outputs, num_threads);
  return outputs;
}

}  // namespace headwise::test
