#include "adapters/onnx/attention.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace headwise::test {
namespace {

using onnx::AttentionAttributes;
using Floats = onnx::Tensor<const float>;
using Bytes = onnx::Tensor<const std::uint8_t>;

/// A call of Attention on zeros, whose values are 1, 2, 3, … along the keys: batch 2, 4 query heads, 2 key/value heads,
/// 3 queries, 5 keys, head_size 2, v_head_size 1.
struct Call {
  std::vector<float> zeros = std::vector<float>(1000, 0), values = std::vector<float>(20), y = std::vector<float>(24),
                     matrix = std::vector<float>(120);
  AttentionAttributes attributes = {};
  onnx::AttentionInputs<float> inputs = {zero({2, 4, 3, 2}), zero({2, 2, 5, 2}), zero({2, 2, 5, 1})};
  onnx::AttentionOutputs<float> outputs = {onnx::Tensor<float>::contiguous(y.data(), {2, 4, 3, 1})};

  Floats zero(std::vector<std::int64_t> extents) const { return Floats::contiguous(zeros.data(), std::move(extents)); }

  /// The output of row 0 of batch entry 0 and head 0.
  float run() {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 5 + 1);
    inputs.v = Floats::contiguous(values.data(), {2, 2, 5, 1});
    onnx::AttentionCall<float>(attributes, inputs, outputs).run(1);
    return y[0];
  }

  std::string error() const {
    try {
      onnx::AttentionCall<float> call(attributes, inputs, outputs);
    } catch (const std::invalid_argument& refused) {
      return refused.what();
    }
    return "none";
  }
};

TEST_CASE("an ONNX call names what it refuses") {
  Call call;
  REQUIRE(call.error() == "none");
  const auto expect = [&call](const char* text) { CHECK(call.error() == "headwise: " + std::string(text)); };

  SUBCASE("past_key without past_value") {
    call.inputs.past_key = call.zero({2, 2, 7, 2});
    expect("past_value is absent, expected a tensor: past_key is given");
  }
  SUBCASE("past_value without past_key") {
    call.inputs.past_value = call.zero({2, 2, 7, 1});
    expect("past_key is absent, expected a tensor: past_value is given");
  }
  SUBCASE("past together with lengths") {
    const std::vector<std::int64_t> lengths{5, 5};
    call.inputs.past_key = call.zero({2, 2, 7, 2});
    call.inputs.past_value = call.zero({2, 2, 7, 1});
    call.inputs.nonpad_kv_seqlen = lengths;
    expect("nonpad_kv_seqlen is given, expected none together with past_key and past_value");
  }
  SUBCASE("past of another head size") {
    call.inputs.past_key = call.zero({2, 2, 7, 3});
    call.inputs.past_value = call.zero({2, 2, 7, 1});
    expect("past_key.extent(3) is 3, expected 2 (head_size)");
  }
  SUBCASE("lengths out of range") {
    for (const std::int64_t wrong : {std::int64_t{-1}, std::int64_t{6}}) {
      const std::vector<std::int64_t> lengths{5, wrong};
      call.inputs.nonpad_kv_seqlen = lengths;
      CHECK(call.error() == "headwise: nonpad_kv_seqlen[1] of batch entry 1 is " + std::to_string(wrong) +
                                ", expected 0 to 5 (kv_sequence_length)");
    }
  }
  SUBCASE("lengths of another batch") {
    const std::vector<std::int64_t> lengths{5};
    call.inputs.nonpad_kv_seqlen = lengths;
    expect("nonpad_kv_seqlen.extent(0) is 1, expected 2 (batch_size)");
  }
  SUBCASE("three axes without head counts") {
    call.inputs.q = call.zero({2, 3, 8});
    call.inputs.k = call.inputs.v = call.zero({2, 5, 4});
    expect("q_num_heads is absent, expected a number of heads: Q has three axes");
    call.attributes.q_num_heads = 0;
    expect("q_num_heads is 0, expected at least 1");
    call.attributes.q_num_heads = 3;
    expect("Q.extent(2) is 8, expected a multiple of q_num_heads (3)");
    call.attributes.q_num_heads = 4;
    call.attributes.kv_num_heads = 1;
    expect("K split into heads.extent(3) is 4, expected 2 (head_size)");
  }
  SUBCASE("head counts that contradict four axes") {
    call.attributes.kv_num_heads = 4;
    expect("kv_num_heads is 4, expected 2 (K.extent(1)) or none");
  }
  SUBCASE("ranks") {
    call.inputs.v = call.zero({2, 5, 2});
    expect("rank of V is 3, expected 4 (rank of Q)");
    call.inputs.q = call.zero({2, 3});
    expect("rank of Q is 2, expected 3 or 4");
  }
  SUBCASE("masks") {
    call.inputs.attn_mask = call.zero({2, 5});
    expect("attn_mask.extent(0) is 2, expected 1 or 3 (q_sequence_length)");
    call.inputs.attn_mask = call.zero({3, 1, 3, 5});
    expect("attn_mask.extent(0) is 3, expected 1 or 2 (batch_size)");
    call.inputs.attn_mask = call.zero({6});
    expect("attn_mask.extent(0) is 6, expected at most 5 (total_sequence_length)");
    call.inputs.attn_mask = call.zero({});
    expect("rank of attn_mask is 0, expected 1 to 4");
  }
  SUBCASE("memory and extents") {
    call.inputs.attn_mask = Floats::contiguous(nullptr, {3, 4});
    expect("attn_mask.data is null, expected a pointer to the elements");
    call.inputs.attn_mask = call.zero({3, -1});
    expect("attn_mask.extent(1) is -1, expected at least 0");
    call.inputs.past_key = call.zero({2, 2, -1, 2});
    expect("past_key.extent(2) is -1, expected at least 0");
    call.inputs.past_key = Floats::contiguous(nullptr, {2, 2, 7, 2});
    expect("past_key.data is null, expected a pointer to the elements");
    call.inputs.k.data = nullptr;
    expect("K.data is null, expected a pointer to the elements");
    call.inputs.q.extents[0] = -1;
    expect("Q.extent(0) is -1, expected at least 0");
  }
  SUBCASE("present outputs without memory") {
    call.outputs.present_key = onnx::Tensor<float>::contiguous(call.matrix.data(), {2, 2, 5, 2});
    call.outputs.present_value = onnx::Tensor<float>::contiguous(nullptr, {2, 2, 5, 1});
    expect("present_value.data is null, expected a pointer to the elements");
  }
  SUBCASE("outputs and attributes") {
    call.attributes.qk_matmul_output_mode = 4;
    expect("qk_matmul_output_mode is 4, expected 0 to 3");
    call.attributes.qk_matmul_output_mode = 0;
    call.attributes.softmax_precision = 7;
    expect("softmax_precision is 7, expected 1 (float), 10 (float16), 11 (double) or 16 (bfloat16)");
    call.attributes.softmax_precision = 11;
    call.outputs.present_key = onnx::Tensor<float>::contiguous(call.matrix.data(), {2, 2, 5, 2});
    expect("present_value is absent, expected a tensor: present_key is given");
    call.outputs.present_key.reset();
    call.outputs.qk_matmul_output = onnx::Tensor<float>::contiguous(call.matrix.data(), {2, 4, 3, 4});
    expect("qk_matmul_output.extent(3) is 4, expected 5 (total_sequence_length)");
    call.outputs.qk_matmul_output.reset();
    call.outputs.y.extents[3] = 2;
    expect("Y.extent(3) is 2, expected 1 (v_head_size)");
  }
}

TEST_CASE("an ONNX mask that is shorter than the keys excludes those it lacks") {
  Call call;
  CHECK(call.run() == doctest::Approx(3));  // the mean of 1 to 5
  const std::vector<std::uint8_t> bytes(30, 1);
  for (const std::int64_t length : {1, 2, 5}) {
    const float expected = static_cast<float>(length + 1) / 2;
    for (const std::vector<std::int64_t>& rows : {std::vector<std::int64_t>{}, {1}, {3}, {4, 1}, {2, 1, 3}}) {
      std::vector<std::int64_t> extents = rows;
      extents.push_back(length);
      call.inputs.attn_mask = call.zero(extents);
      CHECK(call.run() == doctest::Approx(expected));
      call.inputs.attn_mask = Bytes::contiguous(bytes.data(), extents);
      CHECK(call.run() == doctest::Approx(expected));
    }
  }
}

TEST_CASE("an ONNX call that is refused leaves its present outputs untouched") {
  Call call;
  std::vector<float> present(60, 7);
  call.outputs.present_key = onnx::Tensor<float>::contiguous(present.data(), {2, 2, 5, 2});
  call.outputs.present_value = onnx::Tensor<float>::contiguous(present.data() + 40, {2, 2, 5, 1});
  SUBCASE("for an option") { call.attributes.scale = std::numeric_limits<double>::infinity(); }
  SUBCASE("for an output that shares memory with an input") { call.outputs.y.data = call.values.data(); }
  CHECK_THROWS_AS(call.run(), std::invalid_argument);
  CHECK(present == std::vector<float>(60, 7));
}

TEST_CASE("present keys and values of an ONNX call are past and new ones joined, also where the past ones grow in place") {
  Call call;
  std::vector<float> present(2 * 2 * 8 * 3, 0);
  const auto present_key = onnx::Tensor<float>::contiguous(present.data(), {2, 2, 8, 2});
  const auto present_value = onnx::Tensor<float>::contiguous(present.data() + 64, {2, 2, 8, 1});
  for (std::size_t i = 0; i < 32; ++i) present[64 + i] = i % 8 < 3 ? 10.0F : -1.0F;
  // Three keys of the eight are there.
  call.inputs.past_key = Floats{present.data(), {2, 2, 3, 2}, present_key.strides};
  call.inputs.past_value = Floats{present.data() + 64, {2, 2, 3, 1}, present_value.strides};
  call.outputs.present_key = present_key;
  call.outputs.present_value = present_value;
  CHECK(call.run() == doctest::Approx((3 * 10 + 15) / 8.0));
  for (std::size_t i = 0; i < 32; ++i) CHECK(present[64 + i] == (i % 8 < 3 ? 10.0F : static_cast<float>(i % 8 - 2)));
}

}  // namespace
}  // namespace headwise::test
