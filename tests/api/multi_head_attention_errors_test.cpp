// The specification of bad input to the layer and its steps: the exact text of every refusal, outputs untouched.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <doctest/doctest.h>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "headwise/multi_head_attention.hpp"

namespace headwise::test {
namespace {

/// A small layer that is fine; every case spoils one thing.
struct Call {
  std::vector<float> x = std::vector<float>(2 * 3 * 4, 1.0F), out = std::vector<float>(2 * 3 * 4, 7.0F);
  std::vector<float> weight = std::vector<float>(4 * 12, 0.5F), bias = std::vector<float>(12, 0.25F);
  MultiHeadAttentionShape shape{2, 3, 3, 2, 2, 2, 2};
  MultiHeadAttentionWeights<float> weights = separate();
  AttentionOptions options;
  MultiHeadAttentionArguments<float> arguments{
      .query_input = TensorView<const float, 3>::contiguous(x.data(), {2, 3, 4}),
      .output = TensorView<float, 3>::contiguous(out.data(), {2, 3, 4})};
  std::vector<std::int64_t> lengths{3, 4};
  std::vector<std::byte> workspace;

  Projection<float> projection(std::int64_t inputs, std::int64_t outputs) const {
    return {.weight = TensorView<const float, 2>::contiguous(weight.data(), {inputs, outputs})};
  }
  MultiHeadAttentionWeights<float> separate() const {
    return {.query = projection(4, 4), .key = projection(4, 4), .value = projection(4, 4), .output = projection(4, 4)};
  }
  MultiHeadAttentionWeights<float> packed() const { return {.packed = projection(4, 12)}; }
  void run() const { MultiHeadAttention<float>(shape, weights, options).run(arguments); }
};

struct Refusal {
  std::string error;
  std::function<void(Call&)> spoil;
};

std::string refusal_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "none";
}

void check_refusals(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    Call call;
    refusal.spoil(call);
    CHECK(refusal_of([&] { call.run(); }) == "headwise: " + refusal.error);
    CHECK(std::all_of(call.out.begin(), call.out.end(), [](float value) { return value == 7.0F; }));
  }
}

}  // namespace

TEST_CASE("a layer refuses weights that do not fit its shape") {
  check_refusals({
      {"shape.num_heads is 3, expected a multiple of shape.num_kv_heads (2)", [](Call& c) { c.shape.num_heads = 3; }},
      {"weights.query.outputs() is 4, expected num_heads * head_dim = 6", [](Call& c) { c.shape.head_dim = 3; }},
      {"weights.key.outputs() is 6, expected num_kv_heads * head_dim = 4",
       [](Call& c) { c.weights.key = c.projection(4, 6); }},
      {"weights.value.outputs() is 4, expected num_kv_heads * value_dim = 2", [](Call& c) { c.shape.value_dim = 1; }},
      {"weights.output.inputs() is 5, expected num_heads * value_dim = 4",
       [](Call& c) { c.weights.output = c.projection(5, 4); }},
      {"weights.packed.outputs() is 11, expected (num_heads + num_kv_heads) * head_dim + num_kv_heads * value_dim = 12",
       [](Call& c) { c.weights = {.packed = c.projection(4, 11)}; }},
      {"weights {packed, query, key, value} is {given, given, given, given}, expected either packed alone or query, "
       "key "
       "and value",
       [](Call& c) { c.weights.packed = c.projection(4, 12); }},
      {"weights {packed, query, key, value} is {absent, given, absent, given}, expected either packed alone or query, "
       "key and value",
       [](Call& c) { c.weights.key.reset(); }},
      {"weights.query.order is 7, expected in_out (0) or out_in (1)",
       [](Call& c) { c.weights.query->order = static_cast<WeightOrder>(7); }},
      {"weights.query.bias.size() is 3, expected none or 4 (outputs)",
       [](Call& c) { c.weights.query->bias = std::span<const float>(c.bias).first(3); }},
      {"weights.key.weight.extent(0) is -1, expected at least 0",
       [](Call& c) { c.weights.key->weight.extents[0] = -1; }},
      {"weights.key.weight.strides is [3, 1], expected one stride of 1, the other at least the extent of that axis and "
       "at most 2147483647",
       [](Call& c) { c.weights.key->weight.strides[0] = 3; }},
      {"weights.key.weight.strides is [2147483648, 1], expected one stride of 1, the other at least the extent of that "
       "axis and at most 2147483647",
       [](Call& c) { c.weights.key->weight.strides[0] = std::int64_t{1} << 31; }},
      {"weights.key.weight.data is null, expected a pointer to 16 elements",
       [](Call& c) { c.weights.key->weight.data = nullptr; }},
  });
}

TEST_CASE("a layer refuses inputs and outputs that do not fit, and leaves the output alone") {
  const auto reshape = [](auto& view, const std::array<std::int64_t, 3>& extents) {
    view = std::remove_reference_t<decltype(view)>::contiguous(view.data, extents);
  };
  check_refusals({
      {"query_input.extent(0) is 1, expected 2 (batch)",
       [&](Call& c) {
         reshape(c.arguments.query_input, {1, 3, 4});
       }},
      {"query_input.extent(2) is 3, expected 4 (inputs of its projection)",
       [&](Call& c) {
         reshape(c.arguments.query_input, {2, 3, 3});
       }},
      {"query_input.extent(1) is 3, expected 0 to 2 (shape.key_length)", [](Call& c) { c.shape.key_length = 2; }},
      {"key_input.extent(1) is 4, expected 0 to 3 (shape.key_length)",
       [](Call& c) {
         c.arguments.key_input = TensorView<const float, 3>::contiguous(c.x.data(), {2, 4, 4});
       }},
      {"value_input.extent(1) is 2, expected 3 (key length)",
       [](Call& c) {
         c.arguments.value_input = TensorView<const float, 3>::contiguous(c.x.data(), {2, 2, 4});
       }},
      {"key_input is given, expected none with packed weights: slice them for cross-attention",
       [](Call& c) {
         c.weights = c.packed();
         c.arguments.key_input = c.arguments.query_input;
       }},
      {"output.extent(2) is 3, expected 4 (features of the last step)",
       [&](Call& c) {
         reshape(c.arguments.output, {2, 3, 3});
       }},
      {"query_input.stride(2) is 2, expected 1", [](Call& c) { c.arguments.query_input.strides[2] = 2; }},
      {"query_input.stride(1) is 3, expected 4 (features) to 2147483647",
       [](Call& c) { c.arguments.query_input.strides[1] = 3; }},
      {"output.stride(1) is -4, expected 4 (features) to 2147483647",
       [](Call& c) { c.arguments.output.strides[1] = -4; }},
      {"output.strides is [4, 4, 1], expected strides that give every element an address of its own",
       [](Call& c) { c.arguments.output.strides[0] = 4; }},
      {"output.data is null, expected a pointer to 24 elements", [](Call& c) { c.arguments.output.data = nullptr; }},
      {"query_input.data is null, expected a pointer to 24 elements",
       [](Call& c) { c.arguments.query_input.data = nullptr; }},
      {"key_lengths[1] is 4, expected 0 to 3 (key length)", [](Call& c) { c.arguments.key_lengths = c.lengths; }},
      {"logsumexp.extent(2) is 2, expected 3 (query_length)",
       [](Call& c) {
         c.arguments.logsumexp = TensorView<float, 3>::contiguous(c.bias.data(), {2, 2, 2});
       }},
      {"options.num_threads is -1, expected at least 0", [](Call& c) { c.options.num_threads = -1; }},
  });
}

TEST_CASE("a layer refuses outputs that share memory with inputs, weights or each other") {
  const auto shared_with = [](const std::string& other, const std::function<void(Call&)>& spoil) {
    Call call;
    spoil(call);
    const std::string text = refusal_of([&] { call.run(); });
    CHECK(text.find("expected a view that shares no element with " + other) != std::string::npos);
  };
  shared_with("query_input", [](Call& c) { c.arguments.output.data = c.x.data(); });
  shared_with("weights.output.weight", [](Call& c) { c.weights.output->weight.data = c.out.data() + 8; });
  shared_with("weights.value.bias", [](Call& c) { c.weights.value->bias = std::span<const float>(c.out).first(4); });
  shared_with("output", [](Call& c) {
    c.arguments.logsumexp = TensorView<float, 3>::contiguous(c.out.data(), {2, 2, 3});
  });
}

TEST_CASE("a workspace that is too small or misaligned is refused with the need") {
  const Call call;
  const MultiHeadAttention<float> layer(call.shape, call.weights);
  const std::size_t bytes = layer.workspace_bytes();
  const std::string need = ", expected at least " + std::to_string(bytes) + " bytes aligned to 64";
  std::vector<std::byte> memory(bytes + 128);
  std::byte* aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  CHECK(refusal_of([&] {
          layer.run(call.arguments, {aligned, bytes - 1});
        }) == "headwise: workspace.size() is " + std::to_string(bytes - 1) + need);
  CHECK(refusal_of([&] { layer.run(call.arguments, {aligned + 4, bytes}); }).ends_with(need));
}

TEST_CASE("project refuses what BLAS cannot compute") {
  const Call call;
  const auto input = call.arguments.query_input;
  const auto output = call.arguments.output;
  const Projection<float> projection = call.projection(4, 4);
  const auto refusal = [](const auto&... arguments) { return refusal_of([&] { project(arguments...); }); };
  CHECK(refusal(input.slice(2, 0, 3), projection, output) ==
        "headwise: input.extent(2) is 3, expected 4 (inputs of projection)");
  CHECK(refusal(input, projection, output.slice(1, 0, 2)) ==
        "headwise: output.extent(1) is 2, expected 3 (tokens of input)");
  CHECK(refusal(input, projection, output, -2) == "headwise: num_threads is -2, expected at least 0");
  CHECK(refusal(input.transposed(1, 2), call.projection(3, 4), output) ==
        "headwise: output.extent(1) is 3, expected 4 (tokens of input)");
}

TEST_CASE("pack_weight refuses what project does; a packed projection keeps its extents") {
  const Call call;
  Projection<float> projection = call.projection(4, 4);
  projection.weight.strides = {2, 2};
  CHECK(refusal_of([&] { pack_weight(projection); })
            .starts_with("headwise: projection.weight.strides is [2, 2], expected one stride of 1"));
  projection = call.projection(4, 4);
  projection.weight.data = nullptr;
  CHECK(refusal_of([&] { pack_weight(projection); }) ==
        "headwise: projection.weight.data is null, expected a pointer to 16 elements");
  projection = call.projection(4, 4);
  projection.bias = std::span(call.bias).first(3);
  CHECK(refusal_of([&] { pack_weight(projection); }) ==
        "headwise: projection.bias.size() is 3, expected none or 4 (outputs)");

  Projection<float> packed = pack_weight(call.projection(4, 4));
  packed.weight = packed.weight.slice(1, 0, 2);
  CHECK(refusal_of([&] { project(call.arguments.query_input, packed, call.arguments.output); }) ==
        "headwise: projection.weight.extents is [4, 2], expected 4 inputs and 4 outputs, as when it was packed");
  CHECK(refusal_of([&] { pack_weight(packed); }) ==
        "headwise: projection.weight.extents is [4, 2], expected 4 inputs and 4 outputs, as when it was packed");
  Call layer;
  layer.weights.query = packed;
  CHECK(refusal_of([&] { layer.run(); }) ==
        "headwise: weights.query.weight.extents is [4, 2], expected 4 inputs and 4 outputs, as when it was packed");
}

TEST_CASE("multi_head_attention refuses head counts that do not divide") {
  Call call;
  CHECK(refusal_of([&] { multi_head_attention(call.arguments, call.weights, 3); }) ==
        "headwise: num_heads is 3, expected a divisor of the model size (4 query features)");
  CHECK(refusal_of([&] { multi_head_attention(call.arguments, call.weights, 0); }) ==
        "headwise: num_heads is 0, expected a divisor of the model size (4 query features)");
  call.weights = {.packed = call.projection(4, 11)};
  CHECK(refusal_of([&] { multi_head_attention(call.arguments, call.weights, 3); }) ==
        "headwise: weights.packed.outputs() is 11, expected a multiple of 3 (query, key and value)");
}

}  // namespace headwise::test
