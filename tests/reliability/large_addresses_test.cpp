// Elements far beyond 2^31 from the first one, and more than 2^31 of them, in memory that is reserved but for the pages
// that the elements lie on.
#include <doctest/doctest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/attention_case.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

/// Memory without a page until it is written to.
class ReservedMemory {
 public:
  explicit ReservedMemory(std::size_t bytes) : bytes_(bytes) {
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(mapped);
  }
  ~ReservedMemory() { munmap(data_, bytes_); }
  ReservedMemory(const ReservedMemory&) = delete;
  ReservedMemory& operator=(const ReservedMemory&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::size_t bytes_;
  std::byte* data_;
};

/// Copies of tensors in reserved memory, where each axis in turn has a stride that takes its elements beyond 2^32.
template <class T>
class FarTensors {
 public:
  explicit FarTensors(int far_axis) : far_axis_(far_axis) {}

  template <class U, int Rank>
  TensorView<U, Rank> place(const std::array<std::int64_t, Rank>& extents) {
    TensorView<U, Rank> view = TensorView<U, Rank>::contiguous(nullptr, extents);
    const int axis = far_axis_ < Rank ? far_axis_ : Rank - 1;
    const auto at = static_cast<std::size_t>(axis);
    // Beyond 2^32 elements, and no multiple of a power of two.
    view.strides[at] = std::max<std::int64_t>((std::int64_t{1} << 32) / (view.extents[at] - 1), view.strides[at]) + 13;
    const std::int64_t reach = (view.extents[at] - 1) * view.strides[at];
    std::int64_t others = 1;
    for (const std::int64_t extent : extents) others *= extent;
    memory_.emplace_back(std::make_unique<ReservedMemory>(static_cast<std::size_t>(reach + others) * sizeof(U)));
    view.data = reinterpret_cast<U*>(memory_.back()->data());
    return view;
  }

  template <class U, int Rank>
  TensorView<std::remove_const_t<U>, Rank> copy(const TensorView<U, Rank>& from) {
    const auto view = place<std::remove_const_t<U>, Rank>(from.extents);
    const auto elements = dense(from);
    std::size_t next = 0;
    visit_elements(view, [&](auto& element) { element = elements[next++]; });
    return view;
  }

 private:
  int far_axis_;
  std::vector<std::unique_ptr<ReservedMemory>> memory_;
};

template <class T>
void check_far_tensors(const AttentionCase& problem, int far_axis) {
  AttentionTensors<T> tensors(problem);
  tensors.fill(5);
  const Outputs<T> expected = tensors.run();
  AttentionArguments<T> arguments = tensors.arguments();
  FarTensors<T> far(far_axis);
  arguments.query = far.copy(arguments.query);
  arguments.key = far.copy(arguments.key);
  arguments.value = far.copy(arguments.value);
  arguments.mask = far.copy(*arguments.mask);
  arguments.bias = far.copy(*arguments.bias);
  arguments.output = far.template place<T, 4>(arguments.output.extents);
  arguments.logsumexp = far.template place<T, 3>(arguments.logsumexp->extents);
  arguments.weights = far.template place<T, 4>(arguments.weights->extents);
  arguments.mean_weights = far.template place<T, 3>(arguments.mean_weights->extents);
  arguments.scores = far.template place<T, 4>(arguments.scores->extents);
  AttentionPlan<T>(problem.shape, problem.options).run(arguments);
  CHECK_MESSAGE(same_bits(copy_outputs(arguments), expected), describe(problem), ", far along axis ", far_axis);
}

TEST_CASE_TEMPLATE("large addresses: every axis of every tensor reaches beyond 2^32 elements", T, float, double) {
  for (const std::int64_t queries : {2, 40}) {
    AttentionCase problem{.shape = {2, 4, 2, queries, 70, 24, 18}};
    problem.logsumexp = problem.weights = problem.mean_weights = problem.scores = true;
    problem.mask = problem.bias = Varies{};
    for (int axis = 0; axis < 4; ++axis) check_far_tensors<T>(problem, axis);
  }
}

/// Queries over keys that are all the same row of memory, of which each query attends `attended`.
template <class T>
void check_many_keys(std::int64_t queries, const AttentionOptions& options, std::int64_t attended, std::int64_t keys) {
  constexpr std::int64_t head_dim = 256;
  const std::vector<T> row(static_cast<std::size_t>(head_dim), T(0.25));
  const std::vector<T> value{T(1.5), T(-2), T(0), T(0.125), T(3)};
  const std::vector<T> query(static_cast<std::size_t>(queries * head_dim), T(0.5));
  std::vector<T> output(static_cast<std::size_t>(queries) * value.size());
  std::vector<T> logsumexp(static_cast<std::size_t>(queries));
  const auto value_dim = static_cast<std::int64_t>(value.size());
  const AttentionArguments<T> arguments{
      .query = TensorView<const T, 4>::contiguous(query.data(), {1, 1, queries, head_dim}),
      .key = {row.data(), {1, 1, keys, head_dim}, {0, 0, 0, 1}},
      .value = {value.data(), {1, 1, keys, value_dim}, {0, 0, 0, 1}},
      .output = TensorView<T, 4>::contiguous(output.data(), {1, 1, queries, value_dim}),
      .logsumexp = TensorView<T, 3>::contiguous(logsumexp.data(), {1, 1, queries})};
  attention<T>(arguments, options);
  // Every score is 0.5 · 0.25 · 256 / 16 = 2, every weight the same. Each block of 64 keys or more adds two roundings.
  const double expected = 2 + std::log(static_cast<double>(attended));
  const double tolerance = (static_cast<double>(attended) / 64 + 100) * std::numeric_limits<T>::epsilon();
  for (std::int64_t i = 0; i < queries; ++i) {
    const auto at = static_cast<std::size_t>(i);
    CHECK(std::abs(static_cast<double>(logsumexp[at]) - expected) <= tolerance);
    for (std::size_t c = 0; c < value.size(); ++c) {
      const auto v = static_cast<double>(value[c]);
      CHECK(std::abs(static_cast<double>(output[at * value.size() + c]) - v) <= tolerance * std::abs(v));
    }
  }
}

TEST_CASE_TEMPLATE("large addresses: more than 2^31 elements of keys", T, float, double) {
  constexpr std::int64_t keys = (std::int64_t{1} << 31) / 256 + 3;
  check_many_keys<T>(1, {}, keys, keys);
  // Many queries, each with a window at the very end, of more than 2^41 elements.
  const AttentionOptions options{.window = {499, 0}, .query_position = QueryPosition::bottom_right};
  check_many_keys<T>(40, options, 500, keys << 10);
}

/// 2^31 numbers, which are one window of memory over and over, and some more behind them, which are not.
class RepeatedMemory {
 public:
  static constexpr int window = 1 << 22, repeats = 512, rest = 4096;

  explicit RepeatedMemory(float begin) : memory_(bytes * repeats + rest * sizeof(float)) {
    const int file = memfd_create("headwise", 0);
    if (file < 0 || ftruncate(file, bytes) != 0) throw std::bad_alloc();
    std::byte* at = memory_.data();
    for (int n = 0; n < repeats; ++n, at += bytes) {
      if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) throw std::bad_alloc();
    }
    close(file);
    std::fill_n(data(), window, begin);
    std::fill_n(behind(), rest, begin);
  }

  float* data() const { return reinterpret_cast<float*>(memory_.data()); }
  float* behind() const { return data() + std::int64_t{window} * repeats; }
  bool window_holds(float value) const { return std::count(data(), data() + window, value) == window; }
  bool rest_holds(float value) const { return std::count(behind(), behind() + rest, value) == rest; }

 private:
  static constexpr std::size_t bytes = window * sizeof(float);
  ReservedMemory memory_;
};

TEST_CASE("large addresses: more rows than BLAS can count are projected in parts") {
  constexpr std::int64_t rows =
      std::int64_t{RepeatedMemory::window} * RepeatedMemory::repeats + RepeatedMemory::rest;
  const RepeatedMemory input(1.5F), output(0);
  const float weight = -2, bias = 1;
  project<float>(TensorView<const float, 3>::contiguous(input.data(), {1, rows, 1}),
                 {.weight = TensorView<const float, 2>::contiguous(&weight, {1, 1}), .bias = {&bias, 1}},
                 TensorView<float, 3>::contiguous(output.data(), {1, rows, 1}), 1);
  CHECK(output.rest_holds(bias - 3));
  // Rows that are one memory: BLAS adds all their products to the bias, headwise's kernel writes each row's sum.
  const bool added = output.window_holds(bias - 3.0F * RepeatedMemory::repeats);
  const bool written = output.window_holds(bias - 3);
  CHECK((added || written));
}

}  // namespace
}  // namespace headwise::test
