// What fusing is worth: attention by two matrix products of BLAS around a softmax, and by plain loops, on the shapes
// and with the counters of self_attention. One thread, because the softmax between the products has only one.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "platform/blas.hpp"
#include "support/measure.hpp"
#include "support/workload.hpp"

namespace headwise::bench {
namespace {

// row = exp(scale·row − its maximum) / sum, as one writes it without vector code: std::exp goes element by element.
template <class T>
void softmax(T* row, std::int64_t length, T scale) {
  const T maximum = scale * *std::max_element(row, row + length);
  T sum = 0;
  for (std::int64_t j = 0; j < length; ++j) sum += row[j] = std::exp(scale * row[j] - maximum);
  for (std::int64_t j = 0; j < length; ++j) row[j] /= sum;
}

// One head: scores = q·kᵀ, softmax, output = scores·v. All rows are dense.
template <class T>
void unfused_head(const T* q, const T* k, const T* v, T* output, T* scores, std::int64_t length, std::int64_t dim) {
  headwise::detail::gemm<T>({.rows = length,
                             .columns = length,
                             .inner = dim,
                             .a = q,
                             .a_stride = dim,
                             .b = k,
                             .b_stride = dim,
                             .b_transposed = true,
                             .c = scores,
                             .c_stride = length},
                            1);
  const T scale = 1 / std::sqrt(static_cast<T>(dim));
  for (std::int64_t i = 0; i < length; ++i) softmax(scores + i * length, length, scale);
  headwise::detail::gemm<T>({.rows = length,
                             .columns = dim,
                             .inner = length,
                             .a = scores,
                             .a_stride = length,
                             .b = v,
                             .b_stride = dim,
                             .c = output,
                             .c_stride = dim},
                            1);
}

// The same in the loops of a textbook.
template <class T>
void plain_head(const T* q, const T* k, const T* v, T* output, T* scores, std::int64_t length, std::int64_t dim) {
  const T scale = 1 / std::sqrt(static_cast<T>(dim));
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t j = 0; j < length; ++j) {
      scores[j] = 0;
      for (std::int64_t d = 0; d < dim; ++d) scores[j] += q[i * dim + d] * k[j * dim + d];
    }
    softmax(scores, length, scale);
    for (std::int64_t d = 0; d < dim; ++d) output[i * dim + d] = 0;
    for (std::int64_t j = 0; j < length; ++j) {
      for (std::int64_t d = 0; d < dim; ++d) output[i * dim + d] += scores[j] * v[j * dim + d];
    }
  }
}

template <class T>
using Head = void(const T* q, const T* k, const T* v, T* output, T* scores, std::int64_t length, std::int64_t dim);

template <class T>
void all_heads(benchmark::State& state, Head<T>* head) {
  const std::int64_t dim = state.range(0);
  const std::int64_t length = state.range(1);
  const AttentionShape shape{.batch = 1,
                             .num_heads = 8,
                             .num_kv_heads = 8,
                             .query_length = length,
                             .key_length = length,
                             .head_dim = dim,
                             .value_dim = dim};
  const AttentionTensors<T> tensors(shape);
  const AttentionArguments<T> arguments = tensors.arguments();
  std::vector<T> scores(static_cast<std::size_t>(length * length));
  measure_arithmetic(state, {useful_flops(shape, false), std::is_same_v<T, double>, 1, best_isa()}, [&] {
    for (std::int64_t h = 0; h < shape.num_heads; ++h) {
      const std::int64_t offset = h * length * dim;
      head(arguments.query.data + offset, arguments.key.data + offset, arguments.value.data + offset,
           arguments.output.data + offset, scores.data(), length, dim);
    }
  });
}

template <class T>
void unfused_attention(benchmark::State& state) {
  all_heads<T>(state, unfused_head<T>);
}

template <class T>
void plain_attention(benchmark::State& state) {
  all_heads<T>(state, plain_head<T>);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"dim", "length"})
      ->ArgsProduct({{64, 128}, {16, 64, 128, 512, 1024, 4096}})
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

BENCHMARK(unfused_attention<float>)->Apply(sizes);
BENCHMARK(unfused_attention<double>)->Apply(sizes);
BENCHMARK(plain_attention<float>)->Apply(sizes);
BENCHMARK(plain_attention<double>)->Apply(sizes);

}  // namespace
}  // namespace headwise::bench
