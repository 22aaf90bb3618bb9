// The specification of bad input: the exact text of every refusal, outputs untouched, and what is not refused.
#include "api/validate.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "headwise/attention.hpp"

namespace headwise::test {
namespace {

constexpr std::int64_t kHighest = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kLowest = std::numeric_limits<std::int64_t>::min();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A call that is fine, over one block of memory; every case edits one thing.
template <class T>
struct Call {
  AttentionShape shape{
      .batch = 2, .num_heads = 4, .num_kv_heads = 2, .query_length = 3, .key_length = 8, .head_dim = 6, .value_dim = 5};
  AttentionOptions options;
  AttentionArguments<T> arguments;
  std::vector<T> memory = std::vector<T>(1'000, T(0.125));
  std::vector<std::int64_t> key_lengths, query_offsets;

  Call() {
    T* next = memory.data();
    const auto place = [&next](const auto& extents) {
      using View = TensorView<T, std::tuple_size_v<std::decay_t<decltype(extents)>>>;
      const View view = View::contiguous(next, extents);
      std::int64_t count = 1;
      for (const std::int64_t extent : extents) count *= extent;
      next += count;
      return view;
    };
    using Extents = std::array<std::int64_t, 4>;
    arguments.query = place(Extents{2, 4, 3, 6});
    arguments.key = place(Extents{2, 2, 8, 6});
    arguments.value = place(Extents{2, 2, 8, 5});
    arguments.output = place(Extents{2, 4, 3, 5});
    arguments.logsumexp = place(std::array<std::int64_t, 3>{2, 4, 3});
    arguments.weights = place(Extents{2, 4, 3, 8});
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  T* spare() { return memory.data() + 833; }  ///< room for any input, in nobody's view
  void set_key_lengths(std::vector<std::int64_t> lengths) { arguments.key_lengths = key_lengths = std::move(lengths); }
  void set_query_offsets(std::vector<std::int64_t> offsets) {
    arguments.query_offsets = query_offsets = std::move(offsets);
  }

  void validate() const {
    detail::validate_shape(shape);
    detail::validate_options(options);
    detail::validate_arguments(shape, options, arguments);
  }
};

/// The text of the std::invalid_argument that `function` throws; empty if it does not throw.
template <class Function>
std::string refusal(const Function& function) {
  try {
    function();
    return "";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

std::string hexadecimal(const void* address) {
  std::ostringstream text;
  text << "0x" << std::hex << reinterpret_cast<std::uintptr_t>(address);
  return text.str();
}

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
    const AttentionArguments<T>& a = call.arguments;
    const std::pair<std::string, const void*> views[] = {{"query", a.query.data},
                                                         {"key", a.key.data},
                                                         {"value", a.value.data},
                                                         {"output", a.output.data},
                                                         {"logsumexp", a.logsumexp ? a.logsumexp->data : nullptr},
                                                         {"weights", a.weights ? a.weights->data : nullptr}};
    for (const auto& [name, data] : views) {
      if (text.starts_with(name + ".")) replace("{address}", hexadecimal(data));
    }
    replace("{size}", std::to_string(sizeof(T)));
    return result;
  }
};

template <class T>
std::vector<Case<T>> shape_cases() {
  using C = Call<T>;
  return {
      {"shape.batch is -1, expected at least 0", [](C& c) { c.shape.batch = -1; }},
      {"shape.num_heads is -4, expected at least 0", [](C& c) { c.shape.num_heads = -4; }},
      {"shape.num_kv_heads is -2, expected at least 0", [](C& c) { c.shape.num_kv_heads = -2; }},
      {"shape.query_length is -9223372036854775808, expected at least 0", [](C& c) { c.shape.query_length = kLowest; }},
      {"shape.key_length is -8, expected at least 0", [](C& c) { c.shape.key_length = -8; }},
      {"shape.head_dim is -6, expected at least 1", [](C& c) { c.shape.head_dim = -6; }},
      {"shape.head_dim is 0, expected at least 1", [](C& c) { c.shape.head_dim = 0; }},
      {"shape.value_dim is -5, expected at least 0", [](C& c) { c.shape.value_dim = -5; }},
      {"shape.num_kv_heads is 0, expected at least 1", [](C& c) { c.shape.num_kv_heads = 0; }},
      {"shape.num_kv_heads is 8, expected at most shape.num_heads (4)", [](C& c) { c.shape.num_kv_heads = 8; }},
      {"shape.num_kv_heads is 2, expected at most shape.num_heads (0)", [](C& c) { c.shape.num_heads = 0; }},
      {"shape.num_heads is 5, expected a multiple of shape.num_kv_heads (2)", [](C& c) { c.shape.num_heads = 5; }},
      {"shape of query is [2, 4, 9223372036854775807, 6], expected at most 2^60 elements",
       [](C& c) { c.shape.query_length = kHighest; }},
      // no element at all, but every partial product must fit too
      {"shape of query is [0, 4, 9223372036854775807, 6], expected at most 2^60 elements",
       [](C& c) { c.shape.batch = 0, c.shape.query_length = kHighest; }},
      {"shape of key is [2, 2, 288230376151711744, 6], expected at most 2^60 elements",
       [](C& c) { c.shape.key_length = std::int64_t{1} << 58; }},
      {"shape of value is [2, 2, 8, 72057594037927936], expected at most 2^60 elements",
       [](C& c) { c.shape.value_dim = std::int64_t{1} << 56; }},
      {"shape of output is [2, 4, 3, 144115188075855872], expected at most 2^60 elements",
       [](C& c) { c.shape.key_length = 0, c.shape.value_dim = std::int64_t{1} << 57; }},
  };
}

template <class T>
std::vector<Case<T>> option_cases() {
  using C = Call<T>;
  return {
      {"options.scale is nan, expected a finite number", [](C& c) { c.options.scale = std::nan(""); }},
      {"options.scale is inf, expected a finite number", [](C& c) { c.options.scale = kInfinity; }},
      {"options.scale is -inf, expected a finite number", [](C& c) { c.options.scale = -kInfinity; }},
      {"options.query_position is 3, expected top_left (0), bottom_right (1) or given (2)",
       [](C& c) { c.options.query_position = static_cast<QueryPosition>(3); }},
      {"options.query_position is -1, expected top_left (0), bottom_right (1) or given (2)",
       [](C& c) { c.options.query_position = static_cast<QueryPosition>(-1); }},
      {"options.num_threads is -1, expected at least 0", [](C& c) { c.options.num_threads = -1; }},
  };
}

template <class T>
std::vector<Case<T>> extent_cases() {
  using C = Call<T>;
  return {
      {"query.extent(0) is 3, expected 2 (batch)", [](C& c) { c.arguments.query.extents[0] = 3; }},
      {"query.extent(1) is -1, expected 4 (num_heads)", [](C& c) { c.arguments.query.extents[1] = -1; }},
      {"query.extent(2) is 0, expected 3 (query_length)", [](C& c) { c.arguments.query.extents[2] = 0; }},
      {"query.extent(3) is 7, expected 6 (head_dim)", [](C& c) { c.arguments.query.extents[3] = 7; }},
      {"key.extent(0) is 1, expected 2 (batch)", [](C& c) { c.arguments.key.extents[0] = 1; }},
      {"key.extent(1) is 4, expected 2 (num_kv_heads)", [](C& c) { c.arguments.key.extents[1] = 4; }},
      {"key.extent(2) is 9, expected 0 to 8 (shape.key_length)", [](C& c) { c.arguments.key.extents[2] = 9; }},
      {"key.extent(2) is -1, expected 0 to 8 (shape.key_length)", [](C& c) { c.arguments.key.extents[2] = -1; }},
      {"key.extent(3) is 5, expected 6 (head_dim)", [](C& c) { c.arguments.key.extents[3] = 5; }},
      {"value.extent(0) is 0, expected 2 (batch)", [](C& c) { c.arguments.value.extents[0] = 0; }},
      {"value.extent(1) is 1, expected 2 (num_kv_heads)", [](C& c) { c.arguments.value.extents[1] = 1; }},
      {"value.extent(2) is 7, expected 8 (key length)", [](C& c) { c.arguments.value.extents[2] = 7; }},
      {"value.extent(3) is 6, expected 5 (value_dim)", [](C& c) { c.arguments.value.extents[3] = 6; }},
      {"output.extent(0) is 3, expected 2 (batch)", [](C& c) { c.arguments.output.extents[0] = 3; }},
      {"output.extent(1) is 2, expected 4 (num_heads)", [](C& c) { c.arguments.output.extents[1] = 2; }},
      {"output.extent(2) is 4, expected 3 (query_length)", [](C& c) { c.arguments.output.extents[2] = 4; }},
      {"output.extent(3) is 6, expected 5 (value_dim)", [](C& c) { c.arguments.output.extents[3] = 6; }},
      {"value.extent(2) is 8, expected 7 (key length)", [](C& c) { c.arguments.key.extents[2] = 7; }},
      {"logsumexp.extent(2) is 8, expected 3 (query_length)", [](C& c) { c.arguments.logsumexp->extents[2] = 8; }},
      {"weights.extent(3) is 5, expected 8 (key length)", [](C& c) { c.arguments.weights->extents[3] = 5; }},
  };
}

template <class T>
std::vector<Case<T>> batch_entry_cases() {
  using C = Call<T>;
  return {
      {"key_lengths.size() is 1, expected 2 (batch) or none", [](C& c) { c.set_key_lengths({8}); }},
      {"key_lengths[1] is 9, expected 0 to 8 (key length)",
       [](C& c) {
         c.set_key_lengths({8, 9});
       }},
      {"key_lengths[0] is -1, expected 0 to 8 (key length)",
       [](C& c) {
         c.set_key_lengths({-1, 8});
       }},
      {"key_lengths[1] is 9223372036854775807, expected 0 to 8 (key length)",
       [](C& c) {
         c.set_key_lengths({0, kHighest});
       }},
      {"key_lengths.data is null, expected a pointer to 2 elements",
       [](C& c) {
         c.arguments.key_lengths = {static_cast<const std::int64_t*>(nullptr), 2};
       }},
      {"query_offsets.size() is 2, expected none unless options.query_position is given",
       [](C& c) {
         c.set_query_offsets({0, 0});
       }},
      {"query_offsets.size() is 1, expected none unless options.query_position is given",
       [](C& c) { c.options.query_position = QueryPosition::bottom_right, c.set_query_offsets({0}); }},
      {"query_offsets.size() is 0, expected 2 (batch): options.query_position is given",
       [](C& c) { c.options.query_position = QueryPosition::given; }},
      {"query_offsets[1] is 9223372036854775807, expected -2^62 to 2^62",
       [](C& c) {
         c.options.query_position = QueryPosition::given, c.set_query_offsets({0, kHighest});
       }},
      {"query_offsets[0] is -9223372036854775808, expected -2^62 to 2^62",
       [](C& c) {
         c.options.query_position = QueryPosition::given, c.set_query_offsets({kLowest, 0});
       }},
  };
}

template <class T>
std::vector<Case<T>> memory_cases() {
  using C = Call<T>;
  return {
      {"query.data is null, expected a pointer to 144 elements", [](C& c) { c.arguments.query.data = nullptr; }},
      {"key.data is null, expected a pointer to 192 elements", [](C& c) { c.arguments.key.data = nullptr; }},
      {"value.data is null, expected a pointer to 160 elements", [](C& c) { c.arguments.value.data = nullptr; }},
      {"output.data is null, expected a pointer to 120 elements", [](C& c) { c.arguments.output.data = nullptr; }},
      {"logsumexp.data is null, expected a pointer to 24 elements",
       [](C& c) { c.arguments.logsumexp->data = nullptr; }},
      {"weights.data is null, expected a pointer to 192 elements", [](C& c) { c.arguments.weights->data = nullptr; }},
      {"query.data is {address}, expected an address aligned to {size} bytes",
       [](C& c) { shift_by_bytes(c.arguments.query.data, 1); }},
      {"value.data is {address}, expected an address aligned to {size} bytes",
       [](C& c) { shift_by_bytes(c.arguments.value.data, sizeof(T) - 1); }},
      {"output.data is {address}, expected an address aligned to {size} bytes",
       [](C& c) { shift_by_bytes(c.arguments.output.data, sizeof(T) / 2); }},
      {"weights.data is {address}, expected an address aligned to {size} bytes",
       [](C& c) { shift_by_bytes(c.arguments.weights->data, 1); }},
      {"query.strides is [72, 18, 9223372036854775807, 1], expected every element within 64-bit byte addresses",
       [](C& c) { c.arguments.query.strides[2] = kHighest; }},
      {"key.strides is [-9223372036854775808, 48, 6, 1], expected every element within 64-bit byte addresses",
       [](C& c) { c.arguments.key.strides[0] = kLowest; }},
      {"value.strides is [80, 40, 5, -288230376151711744], expected every element within 64-bit byte addresses",
       [](C& c) { c.arguments.value.strides[3] = -(std::int64_t{1} << 58); }},
      {"logsumexp.strides is [4611686018427387903, 3, 1], expected every element within 64-bit byte addresses",
       [](C& c) { c.arguments.logsumexp->strides[0] = kHighest / 2; }},
      {"weights.extents is [2, 4, 3, 288230376151711744], expected at most 2^60 elements",
       [](C& c) {
         c.shape.key_length = std::int64_t{1} << 58, c.shape.num_kv_heads = 1, c.shape.head_dim = c.shape.value_dim = 1;
         c.arguments.query.extents[3] = c.arguments.output.extents[3] = 1;
         for (auto* view : {&c.arguments.key, &c.arguments.value}) {
           *view = {view->data, {2, 1, c.shape.key_length, 1}, {}};
         }
         c.arguments.weights->extents[3] = c.shape.key_length;
       }},
  };
}

template <class T>
std::vector<Case<T>> sharing_cases() {
  using C = Call<T>;
  return {
      {"output.strides is [0, 15, 5, 1], expected strides that give every element an address of its own",
       [](C& c) { c.arguments.output.strides[0] = 0; }},
      {"output.strides is [60, 15, 4, 1], expected strides that give every element an address of its own",
       [](C& c) { c.arguments.output.strides[2] = 4; }},
      {"logsumexp.strides is [12, 3, 0], expected strides that give every element an address of its own",
       [](C& c) { c.arguments.logsumexp->strides[2] = 0; }},
      {"weights.strides is [96, 8, 8, 1], expected strides that give every element an address of its own",
       [](C& c) { c.arguments.weights->strides[1] = 8; }},
      {"output.data is {address}, expected a view that shares no element with query",
       [](C& c) { c.arguments.output.data = c.memory.data(); }},
      // the first output is the last value
      {"output.data is {address}, expected a view that shares no element with value",
       [](C& c) { c.arguments.output.data -= 1; }},
      {"output.data is {address}, expected a view that shares no element with key",
       [](C& c) { c.arguments.value.data = c.spare(), c.arguments.output.data = c.memory.data() + 335; }},
      {"logsumexp.data is {address}, expected a view that shares no element with output",
       [](C& c) { c.arguments.logsumexp->data -= 1; }},
      {"weights.data is {address}, expected a view that shares no element with logsumexp",
       [](C& c) { c.arguments.weights->data -= 1; }},
      {"weights.data is {address}, expected a view that shares no element with query_offsets",
       [](C& c) {
         c.options.query_position = QueryPosition::given;
         c.set_query_offsets(std::vector<std::int64_t>(200));  // as many bytes as the weights
         c.arguments.query_offsets = c.arguments.query_offsets.first(2);
         c.arguments.weights->data = reinterpret_cast<T*>(c.query_offsets.data() + 1);
       }},
  };
}

template <class T>
std::vector<Case<T>> all_cases() {
  std::vector<Case<T>> all;
  for (const auto& cases : {shape_cases<T>(), option_cases<T>(), extent_cases<T>(), batch_entry_cases<T>(),
                            memory_cases<T>(), sharing_cases<T>()}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

TEST_CASE_TEMPLATE("every refusal has its exact text", T, float, double) {
  CHECK(refusal([] { Call<T>().validate(); }) == "");
  for (const Case<T>& wrong : all_cases<T>()) {
    Call<T> call;
    wrong.edit(call);
    const std::string expected = wrong.expected(call);
    CHECK(refusal([&call] { call.validate(); }) == expected);
  }
}

TEST_CASE_TEMPLATE("AttentionPlan refuses with the same text and leaves memory untouched", T, float, double) {
  for (const Case<T>& wrong : all_cases<T>()) {
    Call<T> call;
    wrong.edit(call);
    const std::string expected = wrong.expected(call);
    const std::vector<T> before = call.memory;
    CHECK(refusal([&call] { AttentionPlan<T>(call.shape, call.options).run(call.arguments); }) == expected);
    CHECK(std::memcmp(before.data(), call.memory.data(), before.size() * sizeof(T)) == 0);
  }
}

TEST_CASE_TEMPLATE("attention() takes its shape from the views and refuses what does not fit it", T, float, double) {
  const auto expect = [](const std::string& expected, auto edit) {
    Call<T> call;
    edit(call);
    const std::vector<T> before = call.memory;
    CHECK(refusal([&call] { attention<T>(call.arguments, call.options); }) == expected);
    CHECK(refusal([&call] {
            attention<T>(call.arguments.query, call.arguments.key, call.arguments.value, call.arguments.output,
                         call.options);
          }) == expected);
    CHECK(std::memcmp(before.data(), call.memory.data(), before.size() * sizeof(T)) == 0);
  };
  using C = Call<T>;
  expect("headwise: key.extent(3) is 5, expected 6 (head_dim)", [](C& c) { c.arguments.key.extents[3] = 5; });
  expect("headwise: key.extent(0) is 1, expected 2 (batch)", [](C& c) { c.arguments.key.extents[0] = 1; });
  expect("headwise: shape.num_heads is 4, expected a multiple of shape.num_kv_heads (3)",
         [](C& c) { c.arguments.key.extents[1] = 3; });
  expect("headwise: value.extent(1) is 1, expected 2 (num_kv_heads)", [](C& c) { c.arguments.value.extents[1] = 1; });
  expect("headwise: value.extent(2) is 9, expected 8 (key length)", [](C& c) { c.arguments.value.extents[2] = 9; });
  expect("headwise: output.extent(3) is 4, expected 5 (value_dim)", [](C& c) { c.arguments.output.extents[3] = 4; });
  expect("headwise: options.scale is nan, expected a finite number", [](C& c) { c.options.scale = std::nan(""); });
  expect("headwise: output.data is null, expected a pointer to 120 elements",
         [](C& c) { c.arguments.output.data = nullptr; });
}

TEST_CASE_TEMPLATE("a workspace is checked against the need", T, float, double) {
  alignas(64) std::byte memory[512];
  const auto check = [](std::byte* data, std::size_t size, std::size_t needed) {
    return refusal([&] { detail::validate_workspace({data, size}, needed); });
  };
  CHECK(check(nullptr, 0, 256) == "");
  CHECK(check(memory, 256, 256) == "");
  CHECK(check(memory + 64, 448, 256) == "");
  CHECK(check(memory, 0, 0) == "");
  CHECK(check(nullptr, 256, 256) == "headwise: workspace.data() is null, expected at least 256 bytes aligned to 64");
  CHECK(check(memory, 255, 256) == "headwise: workspace.size() is 255, expected at least 256 bytes aligned to 64");
  CHECK(check(memory, 0, 256) == "headwise: workspace.size() is 0, expected at least 256 bytes aligned to 64");
  CHECK(check(memory + 32, 256, 256) ==
        "headwise: workspace.data() is " + hexadecimal(memory + 32) + ", expected at least 256 bytes aligned to 64");

  Call<T> call;
  const AttentionPlan<T> plan(call.shape, call.options);
  const std::vector<T> before = call.memory;
  CHECK(refusal([&] {
          plan.run(call.arguments, {static_cast<std::byte*>(nullptr), 1});
        }) == "headwise: workspace.data() is null, expected at least " + std::to_string(plan.workspace_bytes()) +
                  " bytes aligned to 64");
  CHECK(std::memcmp(before.data(), call.memory.data(), before.size() * sizeof(T)) == 0);
}

// ------------------------------------------------------------------------------------------- what is not refused

template <class T, class Edit>
void expect_valid(const Edit& edit) {
  Call<T> call;
  edit(call);
  CHECK(refusal([&call] { call.validate(); }) == "");
}

TEST_CASE_TEMPLATE("options and lengths at their edges are fine", T, float, double) {
  using C = Call<T>;
  for (const double scale : {0.0, -0.5, 5e-324, 1e308}) expect_valid<T>([scale](C& c) { c.options.scale = scale; });
  for (const int threads : {0, 1, 1'000'000}) expect_valid<T>([threads](C& c) { c.options.num_threads = threads; });
  expect_valid<T>([](C& c) { c.set_key_lengths({0, 8}); });
  expect_valid<T>([](C& c) {
    c.options.query_position = QueryPosition::given;
    c.set_query_offsets({-(std::int64_t{1} << 62), std::int64_t{1} << 62});
  });
  expect_valid<T>([](C& c) {  // fewer keys than the maximum
    c.arguments.key.extents[2] = c.arguments.value.extents[2] = c.arguments.weights->extents[3] = 2;
    c.set_key_lengths({1, 2});
  });
}

TEST_CASE_TEMPLATE("inputs may alias, be broadcast, reversed and off by one element", T, float, double) {
  using C = Call<T>;
  expect_valid<T>([](C& c) { c.arguments.key.data = c.arguments.value.data = c.arguments.query.data; });
  expect_valid<T>([](C& c) { c.arguments.key.strides = c.arguments.value.strides = {}; });
  expect_valid<T>([](C& c) {
    c.arguments.query.data += 143;
    for (std::int64_t& stride : c.arguments.query.strides) stride = -stride;
  });
  expect_valid<T>([](C& c) { c.arguments.query.data = c.spare(); });
  expect_valid<T>([](C& c) {  // an output may be reversed too
    c.arguments.output.data += 4;
    c.arguments.output.strides[3] = -1;
  });
  expect_valid<T>([](C& c) {  // the stride of an axis with one element means nothing
    c.shape.batch = 1;
    for (auto* view : {&c.arguments.query, &c.arguments.key, &c.arguments.value}) view->extents[0] = 1;
    c.arguments.output.extents[0] = c.arguments.logsumexp->extents[0] = c.arguments.weights->extents[0] = 1;
    c.arguments.query.strides[0] = kLowest;
    c.arguments.output.strides[0] = kHighest;
    c.arguments.weights->strides[0] = 0;
  });
}

TEST_CASE_TEMPLATE("query, key, value and output may be interleaved in one buffer", T, float, double) {
  // [batch, position, {query, key, value, output}, head, feature]
  std::vector<T> memory(2 * 7 * 4 * 3 * 8);
  const auto part = [&memory](std::int64_t index) {
    return TensorView<T, 4>{memory.data() + index * 24, {2, 3, 7, 8}, {7 * 96, 8, 96, 1}};
  };
  AttentionArguments<T> arguments;
  arguments.query = part(0);
  arguments.key = part(1);
  arguments.value = part(2);
  arguments.output = part(3);
  const AttentionShape shape{
      .batch = 2, .num_heads = 3, .num_kv_heads = 3, .query_length = 7, .key_length = 7, .head_dim = 8, .value_dim = 8};
  const auto text = [&] { return refusal([&] { detail::validate_arguments(shape, {}, arguments); }); };
  const auto shares_with = [&](const std::string& other) {
    return "headwise: output.data is " + hexadecimal(arguments.output.data) +
           ", expected a view that shares no element with " + other;
  };
  CHECK(text() == "");
  arguments.output.data -= 1;
  CHECK(text() == shares_with("value"));
  arguments.output.data += 2;
  arguments.output.extents[2] = arguments.query.extents[2] = 6;
  AttentionShape shorter = shape;
  shorter.query_length = 6;
  CHECK(refusal([&] { detail::validate_arguments(shorter, {}, arguments); }) == shares_with("query"));
}

TEST_CASE_TEMPLATE("more than 2^31 elements are fine", T, float, double) {
  constexpr std::int64_t length = std::int64_t{1} << 28;
  const AttentionShape shape{.batch = 2,
                             .num_heads = 4,
                             .num_kv_heads = 4,
                             .query_length = length,
                             .key_length = length,
                             .head_dim = 64,
                             .value_dim = 64};
  // Addresses only: nothing is followed.
  const auto view = [](std::uintptr_t terabytes) {
    return TensorView<T, 4>::contiguous(reinterpret_cast<T*>(terabytes << 40), {2, 4, length, 64});
  };
  AttentionArguments<T> arguments;
  arguments.query = view(1);
  arguments.key = view(3);
  arguments.value = view(5);
  arguments.output = view(7);
  CHECK(refusal([&] {
          detail::validate_shape(shape);
          detail::validate_arguments(shape, {}, arguments);
        }) == "");
}

/// A call with the given extents of zero, null everywhere.
template <class T>
AttentionArguments<T> null_arguments(const AttentionShape& s) {
  AttentionArguments<T> arguments;
  arguments.query = TensorView<const T, 4>::contiguous(nullptr, {s.batch, s.num_heads, s.query_length, s.head_dim});
  arguments.key = TensorView<const T, 4>::contiguous(nullptr, {s.batch, s.num_kv_heads, s.key_length, s.head_dim});
  arguments.value = TensorView<const T, 4>::contiguous(nullptr, {s.batch, s.num_kv_heads, s.key_length, s.value_dim});
  arguments.output = TensorView<T, 4>::contiguous(nullptr, {s.batch, s.num_heads, s.query_length, s.value_dim});
  return arguments;
}

TEST_CASE_TEMPLATE("with nothing to write, pointers may be null and nothing is written", T, float, double) {
  const AttentionShape full = Call<T>().shape;
  for (std::int64_t AttentionShape::*const field : {&AttentionShape::batch, &AttentionShape::num_heads,
                                                    &AttentionShape::query_length, &AttentionShape::value_dim}) {
    AttentionShape shape = full;
    shape.*field = 0;
    if (shape.num_heads == 0) shape.num_kv_heads = 0;
    const AttentionArguments<T> arguments = null_arguments<T>(shape);
    CHECK(refusal([&] { AttentionPlan<T>(shape).run(arguments); }) == "");
    CHECK(refusal([&] { attention<T>(arguments); }) == "");

    Call<T> call;  // the same extents over memory
    call.arguments.query.extents = arguments.query.extents;
    call.arguments.key.extents = arguments.key.extents;
    call.arguments.value.extents = arguments.value.extents;
    call.arguments.output.extents = arguments.output.extents;
    call.arguments.logsumexp.reset();
    call.arguments.weights.reset();
    const std::vector<T> before = call.memory;
    CHECK(refusal([&] { AttentionPlan<T>(shape).run(call.arguments); }) == "");
    CHECK(std::memcmp(before.data(), call.memory.data(), before.size() * sizeof(T)) == 0);
  }
}

TEST_CASE_TEMPLATE("without features to write, a requested logsumexp still needs its inputs", T, float, double) {
  AttentionShape shape = Call<T>().shape;
  shape.value_dim = 0;
  AttentionArguments<T> arguments = null_arguments<T>(shape);
  std::vector<T> logsumexp(24);
  arguments.logsumexp = TensorView<T, 3>::contiguous(logsumexp.data(), {2, 4, 3});
  CHECK(refusal([&] { detail::validate_arguments(shape, {}, arguments); }) ==
        "headwise: query.data is null, expected a pointer to 144 elements");
}

TEST_CASE_TEMPLATE("without keys, key and value may be null", T, float, double) {
  Call<T> call;
  call.shape.key_length = 0;
  for (auto* view : {&call.arguments.key, &call.arguments.value}) {
    view->extents[2] = 0;
    view->data = nullptr;
  }
  call.arguments.weights->extents[3] = 0;
  call.arguments.weights->data = nullptr;
  CHECK(refusal([&call] { call.validate(); }) == "");
  call.arguments.output.data = nullptr;
  CHECK(refusal([&call] { call.validate(); }) == "headwise: output.data is null, expected a pointer to 120 elements");
}

}  // namespace
}  // namespace headwise::test
