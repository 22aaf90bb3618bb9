// The whole self-attention layer, and beside it the bare matrix products of its projections: the time that is BLAS's.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <type_traits>

#include "platform/blas.hpp"
#include "support/measure.hpp"
#include "support/workload.hpp"

namespace headwise::bench {
namespace {

struct LayerSize {
  std::int64_t batch, tokens, width, heads;
  int threads;

  explicit LayerSize(const benchmark::State& state)
      : batch(state.range(0)),
        tokens(state.range(1)),
        width(state.range(2)),
        heads(state.range(3)),
        threads(static_cast<int>(state.range(4))) {}

  std::int64_t rows() const { return batch * tokens; }
  std::int64_t head_dim() const { return width / heads; }
  double projection_flops() const { return 2.0 * static_cast<double>(rows() * width * 4 * width); }
  double attention_flops() const {
    return useful_flops({batch, heads, heads, tokens, tokens, head_dim(), head_dim()}, false);
  }
};

// Input, weights as torch.nn.MultiheadAttention stores them (outputs first, query, key and value packed), output.
template <class T>
class LayerTensors {
 public:
  explicit LayerTensors(const LayerSize& size)
      : size_(size),
        input_(count(size.rows())),
        packed_weight_(count(3 * size.width)),
        output_weight_(count(size.width)),
        bias_(static_cast<std::size_t>(4 * size.width)),
        packed_(count(3 * size.rows())),
        output_(count(size.rows())) {
    std::uint64_t seed = 1;
    for (const auto* buffer : {&input_, &packed_weight_, &output_weight_, &bias_}) fill_normal(buffer->span(), seed++);
    std::ranges::fill(output_.span(), T{0});
    std::ranges::fill(packed_.span(), T{0});
    const T shrink = 1 / std::sqrt(static_cast<T>(size.width));  // keeps the projections' deviation near 1
    for (const auto* buffer : {&packed_weight_, &output_weight_}) {
      for (T& value : buffer->span()) value *= shrink;
    }
  }

  MultiHeadAttentionWeights<T> weights() const {
    const std::int64_t width = size_.width;
    const std::span<const T> bias = bias_.span();
    const std::size_t packed_outputs = static_cast<std::size_t>(3 * width);
    MultiHeadAttentionWeights<T> weights;
    weights.packed = Projection<T>{TensorView<const T, 2>::contiguous(packed_weight_.data(), {3 * width, width}),
                                   WeightOrder::out_in, bias.first(packed_outputs)};
    weights.output = Projection<T>{TensorView<const T, 2>::contiguous(output_weight_.data(), {width, width}),
                                   WeightOrder::out_in, bias.subspan(packed_outputs)};
    return weights;
  }

  MultiHeadAttentionArguments<T> arguments() const {
    MultiHeadAttentionArguments<T> arguments;
    arguments.query_input = tokens(input_.data());
    arguments.output = tokens(output_.data());
    return arguments;
  }

  // The two matrix products without biases and without attention between them.
  void multiply() const {
    multiply(packed_weight_.data(), 3 * size_.width, packed_.data());
    multiply(output_weight_.data(), size_.width, output_.data());
  }

 private:
  std::size_t count(std::int64_t rows) const { return static_cast<std::size_t>(rows * size_.width); }

  TensorView<T, 3> tokens(T* data) const {
    return TensorView<T, 3>::contiguous(data, {size_.batch, size_.tokens, size_.width});
  }

  void multiply(const T* weight, std::int64_t outputs, T* output) const {
    headwise::detail::gemm<T>({.rows = size_.rows(),
                               .columns = outputs,
                               .inner = size_.width,
                               .a = input_.data(),
                               .a_stride = size_.width,
                               .b = weight,
                               .b_stride = size_.width,
                               .b_transposed = true,
                               .c = output,
                               .c_stride = outputs},
                              size_.threads);
  }

  LayerSize size_;
  AlignedBuffer<T> input_, packed_weight_, output_weight_, bias_, packed_, output_;
};

// packed: the weights were copied in the kernel's order beforehand.
template <class T, bool packed>
void layer(benchmark::State& state) {
  const LayerSize size(state);
  const LayerTensors<T> tensors(size);
  AttentionOptions options;
  options.num_threads = size.threads;
  const MultiHeadAttention<T> layer(
      {size.batch, size.tokens, size.tokens, size.heads, size.heads, size.head_dim(), size.head_dim()},
      packed ? pack_weights(tensors.weights()) : tensors.weights(), options);
  const AlignedBuffer<std::byte> workspace(layer.workspace_bytes());
  const MultiHeadAttentionArguments<T> arguments = tensors.arguments();
  measure_arithmetic(
      state, {size.projection_flops() + size.attention_flops(), std::is_same_v<T, double>, size.threads, best_isa()},
      [&] { layer.run(arguments, workspace.span()); });
}

template <class T>
void bare_projections(benchmark::State& state) {
  const LayerSize size(state);
  const LayerTensors<T> tensors(size);
  measure_arithmetic(state, {size.projection_flops(), std::is_same_v<T, double>, size.threads, best_isa()},
                     [&] { tensors.multiply(); });
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"batch", "tokens", "width", "heads", "threads"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (const std::int64_t threads : {1, 2}) {
    benchmark->Args({1, 1, 768, 12, threads});
    benchmark->Args({1, 64, 64, 4, threads});
    benchmark->Args({1, 128, 512, 8, threads});
    benchmark->Args({1, 1024, 768, 12, threads});
    benchmark->Args({8, 512, 768, 12, threads});
  }
}

BENCHMARK(layer<float, false>)->Name("layer<float>")->Apply(sizes);
BENCHMARK(layer<double, false>)->Name("layer<double>")->Apply(sizes);
BENCHMARK(layer<float, true>)->Name("packed_layer<float>")->Apply(sizes);
BENCHMARK(layer<double, true>)->Name("packed_layer<double>")->Apply(sizes);
BENCHMARK(bare_projections<float>)->Apply(sizes);
BENCHMARK(bare_projections<double>)->Apply(sizes);

}  // namespace
}  // namespace headwise::bench
