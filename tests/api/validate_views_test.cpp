// The specification of bad views: the exact text of every refusal, outputs untouched.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "api/validate_call.hpp"

namespace headwise::test {
namespace {

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
      {"weights.extent(0) is 1, expected 2 (batch)", [](C& c) { c.arguments.weights->extents[0] = 1; }},
      {"mean_weights.extent(0) is 3, expected 2 (batch)", [](C& c) { c.arguments.mean_weights->extents[0] = 3; }},
      {"mean_weights.extent(1) is 4, expected 3 (query_length)",
       [](C& c) { c.arguments.mean_weights->extents[1] = 4; }},
      {"mean_weights.extent(2) is -8, expected 8 (key length)",
       [](C& c) { c.arguments.mean_weights->extents[2] = -8; }},
      {"scores.extent(1) is 1, expected 4 (num_heads)", [](C& c) { c.arguments.scores->extents[1] = 1; }},
      {"scores.extent(2) is 8, expected 3 (query_length)", [](C& c) { c.arguments.scores->extents[2] = 8; }},
  };
}

// Inputs that are repeated along axes of extent 1, and those with one value per head.
template <class T>
std::vector<Case<T>> broadcast_cases() {
  using C = Call<T>;
  return {
      {"mask.extent(0) is 3, expected 1 or 2 (batch)", [](C& c) { c.arguments.mask->extents[0] = 3; }},
      {"mask.extent(1) is 2, expected 1 or 4 (num_heads)", [](C& c) { c.arguments.mask->extents[1] = 2; }},
      {"mask.extent(2) is 0, expected 1 or 3 (query_length)", [](C& c) { c.arguments.mask->extents[2] = 0; }},
      {"mask.extent(3) is 7, expected 1 or 8 (key length)", [](C& c) { c.arguments.mask->extents[3] = 7; }},
      {"bias.extent(0) is -1, expected 1 or 2 (batch)", [](C& c) { c.arguments.bias->extents[0] = -1; }},
      {"bias.extent(1) is 8, expected 1 or 4 (num_heads)", [](C& c) { c.arguments.bias->extents[1] = 8; }},
      {"bias.extent(2) is 2, expected 1 or 3 (query_length)", [](C& c) { c.arguments.bias->extents[2] = 2; }},
      {"bias.extent(3) is 9, expected 1 or 8 (key length)", [](C& c) { c.arguments.bias->extents[3] = 9; }},
      {"key_padding_mask.extent(0) is 4, expected 1 or 2 (batch)",
       [](C& c) { c.arguments.key_padding_mask->extents[0] = 4; }},
      {"key_padding_mask.extent(1) is 3, expected 1 or 8 (key length)",
       [](C& c) { c.arguments.key_padding_mask->extents[1] = 3; }},
      // fewer keys than the maximum: what counts is the length of this call
      {"mask.extent(3) is 8, expected 1 or 7 (key length)",
       [](C& c) { c.arguments.key.extents[2] = c.arguments.value.extents[2] = 7; }},
      {"bias.extent(2) is 3, expected 1 (query_length)",
       [](C& c) {
         c.remove_score_shaped();
         c.shape.query_length = c.arguments.query.extents[2] = c.arguments.output.extents[2] = 1;
         c.arguments.logsumexp->extents[2] = 1;
         c.arguments.bias = TensorView<T, 4>::contiguous(c.spare(), {1, 1, 3, 1});
       }},
      {"alibi_slopes.size() is 2, expected 4 (num_heads) or none",
       [](C& c) { c.arguments.alibi_slopes = c.arguments.alibi_slopes.first(2); }},
      {"sinks.size() is 1, expected 4 (num_heads) or none",
       [](C& c) { c.arguments.sinks = c.arguments.sinks.first(1); }},
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
      {"mean_weights.data is null, expected a pointer to 48 elements",
       [](C& c) { c.arguments.mean_weights->data = nullptr; }},
      {"scores.data is null, expected a pointer to 192 elements", [](C& c) { c.arguments.scores->data = nullptr; }},
      {"mask.data is null, expected a pointer to 48 elements", [](C& c) { c.arguments.mask->data = nullptr; }},
      {"bias.data is null, expected a pointer to 96 elements", [](C& c) { c.arguments.bias->data = nullptr; }},
      {"key_padding_mask.data is null, expected a pointer to 16 elements",
       [](C& c) { c.arguments.key_padding_mask->data = nullptr; }},
      {"alibi_slopes.data is null, expected a pointer to 4 elements",
       [](C& c) {
         c.arguments.alibi_slopes = {static_cast<const T*>(nullptr), 4};
       }},
      {"sinks.data is {address}, expected an address aligned to {size} bytes",
       [](C& c) {
         const T* sinks = c.arguments.sinks.data();
         shift_by_bytes(sinks, 1);
         c.arguments.sinks = {sinks, 4};
       }},
      {"bias.data is {address}, expected an address aligned to {size} bytes",
       [](C& c) { shift_by_bytes(c.arguments.bias->data, 2); }},
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
      {"mask.strides is [24, 24, 9223372036854775807, 1], expected every element within 64-bit byte addresses",
       [](C& c) { c.arguments.mask->strides[2] = kHighest; }},
      {"bias.strides is [96, 24, -4611686018427387904, 1], expected every element within 64-bit byte addresses",
       [](C& c) { c.arguments.bias->strides[2] = kLowest / 2; }},
      {"weights.extents is [2, 4, 3, 288230376151711744], expected at most 2^60 elements",
       [](C& c) {
         c.shape.key_length = std::int64_t{1} << 58, c.shape.num_kv_heads = 1, c.shape.head_dim = c.shape.value_dim = 1;
         c.arguments.query.extents[3] = c.arguments.output.extents[3] = 1;
         for (auto* view : {&c.arguments.key, &c.arguments.value}) {
           *view = {view->data, {2, 1, c.shape.key_length, 1}, {}};
         }
         const TensorView<T, 4> weights = *c.arguments.weights;
         c.remove_score_shaped();
         c.arguments.weights = weights;
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
      {"mean_weights.strides is [24, 0, 1], expected strides that give every element an address of its own",
       [](C& c) { c.arguments.mean_weights->strides[1] = 0; }},
      {"scores.strides is [96, 0, 8, 1], expected strides that give every element an address of its own",
       [](C& c) { c.arguments.scores->strides[1] = 0; }},
      {"mean_weights.data is {address}, expected a view that shares no element with weights",
       [](C& c) { c.arguments.mean_weights->data -= 1; }},
      {"scores.data is {address}, expected a view that shares no element with mean_weights",
       [](C& c) { c.arguments.scores->data -= 1; }},
      {"scores.data is {address}, expected a view that shares no element with weights",
       [](C& c) { c.arguments.scores = c.arguments.weights; }},
      {"scores.data is {address}, expected a view that shares no element with bias",
       [](C& c) { c.arguments.scores->data += 1; }},
      {"scores.data is {address}, expected a view that shares no element with alibi_slopes",
       [](C& c) { c.arguments.bias.reset(), c.arguments.alibi_slopes = {c.arguments.scores->data + 100, 4}; }},
      {"output.data is {address}, expected a view that shares no element with sinks",
       [](C& c) { c.arguments.sinks = {c.arguments.output.data + 119, 4}; }},
      {"mean_weights.data is {address}, expected a view that shares no element with mask",
       [](C& c) {
         c.arguments.mask->data = reinterpret_cast<const std::uint8_t*>(c.arguments.mean_weights->data) + 1;
       }},
      {"logsumexp.data is {address}, expected a view that shares no element with key_padding_mask",
       [](C& c) {
         c.arguments.key_padding_mask->data = reinterpret_cast<const std::uint8_t*>(c.arguments.logsumexp->data + 2);
       }},
      {"weights.data is {address}, expected a view that shares no element with query_offsets",
       [](C& c) {
         c.options.query_position = QueryPosition::given;
         c.set_query_offsets(std::vector<std::int64_t>(200));  // as many bytes as the weights
         c.arguments.query_offsets = c.arguments.query_offsets.first(2);
         c.arguments.weights->data = reinterpret_cast<T*>(c.query_offsets.data() + 1);
       }},
  };
}

TEST_CASE_TEMPLATE("every bad view is refused with its exact text", T, float, double) {
  expect_refusals(extent_cases<T>());
  expect_refusals(broadcast_cases<T>());
  expect_refusals(memory_cases<T>());
  expect_refusals(sharing_cases<T>());
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

// Views of different types, or of numbers that are not computed with, do not compile.
template <class Query, class Key, class Value, class Output>
concept Attended = requires(TensorView<Query, 4> query, TensorView<Key, 4> key, TensorView<Value, 4> value,
                            TensorView<Output, 4> output) { attention(query, key, value, output); };
static_assert(Attended<float, float, float, float> && Attended<const double, const double, const double, double>);
static_assert(!Attended<double, float, float, float> && !Attended<float, double, float, float> &&
              !Attended<float, float, double, float> && !Attended<float, float, float, double> &&
              !Attended<int, float, float, float>);

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

}  // namespace
}  // namespace headwise::test
