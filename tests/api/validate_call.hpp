/// \file
/// Calls with one thing wrong, for the tests of argument checks.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "api/validate.hpp"
#include "headwise/attention.hpp"
#include "support/refusal.hpp"

namespace headwise::test {

constexpr std::int64_t kHighest = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kLowest = std::numeric_limits<std::int64_t>::min();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A call that is fine and gives every argument that can be given with key and value, over one block of memory; every
/// case edits one thing.
template <class T>
struct Call {
  AttentionShape shape{
      .batch = 2, .num_heads = 4, .num_kv_heads = 2, .query_length = 3, .key_length = 8, .head_dim = 6, .value_dim = 5};
  AttentionOptions options;
  AttentionArguments<T> arguments;
  std::vector<T> memory = std::vector<T>(1'400, T(0.125));
  std::vector<std::uint8_t> mask_memory = std::vector<std::uint8_t>(64, std::uint8_t{1});
  std::vector<std::int64_t> key_lengths, query_offsets, query_starts, key_starts;

  struct Run {
    std::vector<std::int64_t> first_slot, first_position, length;
  };
  std::array<Run, 2> run_values;
  std::array<KeyRun<T>, 2> runs;

  Call() {
    T* next = memory.data();
    const auto place = [&next]<std::size_t Rank>(const std::array<std::int64_t, Rank>& extents) {
      const auto view = TensorView<T, static_cast<int>(Rank)>::contiguous(next, extents);
      std::int64_t count = 1;
      for (const std::int64_t extent : extents) count *= extent;
      next += count;
      return view;
    };
    arguments.query = place(std::array<std::int64_t, 4>{2, 4, 3, 6});
    arguments.key = place(std::array<std::int64_t, 4>{2, 2, 8, 6});
    arguments.value = place(std::array<std::int64_t, 4>{2, 2, 8, 5});
    arguments.output = place(std::array<std::int64_t, 4>{2, 4, 3, 5});
    arguments.logsumexp = place(std::array<std::int64_t, 3>{2, 4, 3});
    arguments.weights = place(std::array<std::int64_t, 4>{2, 4, 3, 8});
    arguments.mean_weights = place(std::array<std::int64_t, 3>{2, 3, 8});
    arguments.scores = place(std::array<std::int64_t, 4>{2, 4, 3, 8});
    arguments.bias = place(std::array<std::int64_t, 4>{1, 4, 3, 8});
    arguments.alibi_slopes = {std::exchange(next, next + 4), 4};
    arguments.sinks = {std::exchange(next, next + 4), 4};
    arguments.mask = TensorView<const std::uint8_t, 4>::contiguous(mask_memory.data(), {2, 1, 3, 8});
    arguments.key_padding_mask = TensorView<const std::uint8_t, 2>::contiguous(mask_memory.data() + 48, {2, 8});
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  T* spare() { return memory.data() + 1'177; }  ///< room for any input, in nobody's view

  void set_key_lengths(std::vector<std::int64_t> lengths) { arguments.key_lengths = key_lengths = std::move(lengths); }
  void set_query_offsets(std::vector<std::int64_t> offsets) {
    arguments.query_offsets = query_offsets = std::move(offsets);
  }

  void remove_score_shaped() {
    arguments.mask.reset(), arguments.bias.reset(), arguments.key_padding_mask.reset();
    arguments.weights.reset(), arguments.mean_weights.reset(), arguments.scores.reset();
  }

  /// The same tensors with 3 + 2 queries and 8 + 3 keys.
  void make_ragged() {
    set_starts({0, 3, 5}, {0, 8, 11});
    arguments.query = TensorView<const T, 4>::contiguous(arguments.query.data, {1, 4, 5, 6});
    arguments.key = TensorView<const T, 4>::contiguous(arguments.key.data, {1, 2, 11, 6});
    arguments.value = TensorView<const T, 4>::contiguous(arguments.value.data, {1, 2, 11, 5});
    arguments.output = TensorView<T, 4>::contiguous(arguments.output.data, {1, 4, 5, 5});
    arguments.logsumexp = TensorView<T, 3>::contiguous(arguments.logsumexp->data, {1, 4, 5});
  }
  void set_starts(std::vector<std::int64_t> queries, std::vector<std::int64_t> keys) {
    arguments.query_starts = query_starts = std::move(queries);
    arguments.key_starts = key_starts = std::move(keys);
  }

  /// The same keys in two runs: positions 0 … 4 and 5 … 7 of the first sequence, 1 … 4 and 6 … 7 of the second.
  void make_runs() {
    run_values = {Run{{0, 1}, {0, 1}, {5, 4}}, Run{{0, 0}, {5, 6}, {3, 2}}};
    const std::int64_t begin[] = {0, 5, 8};
    for (std::size_t i = 0; i < 2; ++i) {
      Run& values = run_values[i];
      runs[i] = {arguments.key.slice(2, begin[i], begin[i + 1]), arguments.value.slice(2, begin[i], begin[i + 1]),
                 values.first_slot, values.first_position, values.length};
    }
    arguments.key = arguments.value = {};
    arguments.key_runs = runs;
  }

  void validate() const {
    detail::validate_shape(shape);
    detail::validate_options<T>(options);
    detail::validate_arguments(shape, options, arguments);
  }
};

template <class U>
void shift_by_bytes(U*& pointer, std::uintptr_t bytes) {
  pointer = reinterpret_cast<U*>(reinterpret_cast<std::uintptr_t>(pointer) + bytes);
}

/// One thing wrong and the text expected for it, after "headwise: ". There {address} stands for the address of the
/// argument that the text begins with and {size} for the bytes of an element.
template <class T>
struct Case {
  std::string text;
  void (*edit)(Call<T>&);

  std::string expected(const Call<T>& call) const {
    std::string result = "headwise: " + text;
    const auto replace = [&result](const std::string& from, const std::string& to) {
      if (const auto at = result.find(from); at != std::string::npos) result.replace(at, from.size(), to);
    };
    const auto data = [](const auto& view) { return view ? static_cast<const void*>(view->data) : nullptr; };
    const AttentionArguments<T>& a = call.arguments;
    const std::pair<std::string, const void*> views[] = {
        {"query", a.query.data},           {"key", a.key.data},
        {"value", a.value.data},           {"output", a.output.data},
        {"logsumexp", data(a.logsumexp)},  {"weights", data(a.weights)},
        {"bias", data(a.bias)},            {"mean_weights", data(a.mean_weights)},
        {"scores", data(a.scores)},        {"sinks", a.sinks.data()},
        {"key_runs[1].value", call.runs[1].value.data}};
    for (const auto& [name, address] : views) {
      if (text.starts_with(name + ".")) replace("{address}", hexadecimal(address));
    }
    replace("{size}", std::to_string(sizeof(T)));
    return result;
  }
};

/// Checks that every case is refused with its text by the checks themselves and by a plan, with memory and workspace
/// untouched.
template <class T>
void expect_refusals(const std::vector<Case<T>>& cases) {
  struct alignas(64) Workspace {
    std::array<std::byte, 1 << 16> bytes;
    bool operator==(const Workspace&) const = default;
  };
  const auto untouched = std::make_unique<Workspace>(), workspace = std::make_unique<Workspace>();
  untouched->bytes.fill(std::byte{0xa5});
  for (const Case<T>& wrong : cases) {
    Call<T> call;
    wrong.edit(call);
    const std::string expected = wrong.expected(call);
    CHECK(refusal([&call] { call.validate(); }) == expected);

    const std::vector<T> before = call.memory;
    const auto run_with = [&call](std::span<std::byte> given) {
      return refusal([&] { AttentionPlan<T>(call.shape, call.options).run(call.arguments, given); });
    };
    *workspace = *untouched;
    CHECK(run_with({}) == expected);
    CHECK(run_with(workspace->bytes) == expected);
    CHECK(*workspace == *untouched);
    CHECK(std::memcmp(before.data(), call.memory.data(), before.size() * sizeof(T)) == 0);
  }
}

/// Checks that an edited call is not refused.
template <class T, class Edit>
void expect_valid(const Edit& edit) {
  Call<T> call;
  edit(call);
  CHECK(refusal([&call] { call.validate(); }) == "");
}

}  // namespace headwise::test
