// A self-attention layer of BERT-base's size with made-up weights, to be timed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

#include "headwise/headwise.hpp"

namespace examples {

/// A layer of BERT-base's size with made-up weights.
class BertLayer {
 public:
  explicit BertLayer(bool quick)
      : shape_{quick ? 1 : 8, quick ? 64 : 512, quick ? 64 : 512, 12, 12, width / 12, width / 12},
        x_(noise(tokens() * width, 1)),
        weight_(noise(4 * width * width, 0.04F)),
        bias_(noise(4 * width, 0.1F)),
        output_(x_.size()),
        layer_(shape_, {.packed = projection(0, 3 * width), .output = projection(3 * width, width)}),
        workspace_(layer_.workspace_bytes() / sizeof(Line) + 1) {}

  void run() {
    layer_.run({.query_input = view(x_), .output = view(output_)}, std::as_writable_bytes(std::span(workspace_)));
  }

  /// 2 · inputs · outputs per token and projection, 2 · (head_dim + value_dim) per query, key and head.
  double flops() const {
    const double pairs = static_cast<double>(tokens() * shape_.key_length);
    return 2.0 * static_cast<double>(tokens() * width) * 4 * width + pairs * 4 * width;
  }
  void print_size() const {
    std::printf("\nA BERT-base-sized layer: batch %lld, %lld tokens, %lld features, %lld heads, fp32\n",
                static_cast<long long>(shape_.batch), static_cast<long long>(shape_.query_length),
                static_cast<long long>(width), static_cast<long long>(shape_.num_heads));
  }

 private:
  static constexpr std::int64_t width = 768;

  std::int64_t tokens() const { return shape_.batch * shape_.query_length; }

  static std::vector<float> noise(std::int64_t count, float size) {
    std::vector<float> values(static_cast<std::size_t>(count));
    std::uint32_t state = 1;
    for (float& value : values) {
      state = state * 1664525U + 1013904223U;
      value = size * (static_cast<float>(state >> 8) * 0x1p-23F - 1);
    }
    return values;
  }
  /// Rows of the weights in torch's order.
  headwise::Projection<float> projection(std::int64_t first, std::int64_t outputs) const {
    return {
        .weight = headwise::TensorView<const float, 2>::contiguous(weight_.data() + first * width, {outputs, width}),
        .order = headwise::WeightOrder::out_in,
        .bias = {bias_.data() + first, static_cast<std::size_t>(outputs)}};
  }
  headwise::TensorView<float, 3> view(std::vector<float>& values) const {
    return headwise::TensorView<float, 3>::contiguous(values.data(), {shape_.batch, shape_.query_length, width});
  }

  struct alignas(64) Line {
    std::byte bytes[64];
  };

  headwise::MultiHeadAttentionShape shape_;
  std::vector<float> x_, weight_, bias_, output_;
  headwise::MultiHeadAttention<float> layer_;
  std::vector<Line> workspace_;  ///< kept from run to run, so that none allocates
};

}  // namespace examples
