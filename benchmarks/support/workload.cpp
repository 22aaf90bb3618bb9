#include "support/workload.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace headwise::bench {
namespace {

std::size_t element_count(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
  return static_cast<std::size_t>(a * b * c * d);
}

std::size_t input_count(const AttentionShape& s, Layout layout) {
  const std::int64_t heads = s.num_heads + (layout == Layout::packed_qkv ? 2 * s.num_kv_heads : 0);
  return element_count(s.batch, heads, s.query_length, s.head_dim);
}

std::size_t cache_count(const AttentionShape& s, Layout layout, std::int64_t copies) {
  if (layout == Layout::packed_qkv) return 0;
  return element_count(copies * s.batch, s.num_kv_heads, s.key_length, s.head_dim + s.value_dim);
}

// The view [batch, head, position, feature] of dense data in one of the two orders.
template <class T>
TensorView<T, 4> dense(T* data, Layout layout, std::int64_t batch, std::int64_t heads, std::int64_t length,
                       std::int64_t dim) {
  if (layout == Layout::heads_apart) return TensorView<T, 4>::contiguous(data, {batch, heads, length, dim});
  return TensorView<T, 4>::contiguous(data, {batch, length, heads, dim}).transposed(1, 2);
}

// One output row by the formula: scores, softmax, weighted sum of values.
template <class T>
double row_error(const AttentionArguments<T>& arguments, std::int64_t b, std::int64_t h, std::int64_t i,
                 std::int64_t keys) {
  const std::int64_t dim = arguments.query.extent(3);
  const std::int64_t kv_head = h / (arguments.query.extent(1) / arguments.key.extent(1));
  std::vector<long double> weights(static_cast<std::size_t>(keys));
  for (std::int64_t j = 0; j < keys; ++j) {
    long double score = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
      score += static_cast<long double>(arguments.query(b, h, i, d)) * arguments.key(b, kv_head, j, d);
    }
    weights[static_cast<std::size_t>(j)] = score / std::sqrt(static_cast<long double>(dim));
  }
  const long double maximum = std::ranges::max(weights);
  long double sum = 0;
  for (long double& weight : weights) sum += weight = std::exp(weight - maximum);
  double error = 0;
  for (std::int64_t d = 0; d < arguments.value.extent(3); ++d) {
    long double expected = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      expected += weights[static_cast<std::size_t>(j)] * arguments.value(b, kv_head, j, d);
    }
    const double difference = static_cast<double>(std::abs(arguments.output(b, h, i, d) - expected / sum));
    if (!(difference <= error)) error = difference;  // a NaN shows
  }
  return error;
}

}  // namespace

template <class T>
void fill_normal(std::span<T> values, std::uint64_t seed) {
  // The sum of four uniform numbers: near enough to normal, and quick enough to fill a gigabyte.
  constexpr double deviation = 37837.2;  // of a sum of four 16-bit numbers: 65536·√(4/12)
  std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (T& value : values) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const std::uint64_t sum = (state & 0xFFFF) + (state >> 16 & 0xFFFF) + (state >> 32 & 0xFFFF) + (state >> 48);
    value = static_cast<T>((static_cast<double>(sum) - 2 * 65535.0) / deviation);
  }
}

template <class T>
AttentionTensors<T>::AttentionTensors(const AttentionShape& shape, Layout layout, std::int64_t copies)
    : shape_(shape),
      layout_(layout),
      copies_(copies),
      inputs_(input_count(shape, layout)),
      caches_(cache_count(shape, layout, copies)),
      output_(element_count(shape.batch, shape.num_heads, shape.query_length, shape.value_dim)) {
  fill_normal(inputs_.span(), 1);
  fill_normal(caches_.span(), 2);
  std::ranges::fill(output_.span(), T{0});
}

template <class T>
AttentionArguments<T> AttentionTensors<T>::arguments(std::int64_t copy) const {
  const AttentionShape& s = shape_;
  AttentionArguments<T> arguments;
  arguments.output = dense(output_.data(), layout_, s.batch, s.num_heads, s.query_length, s.value_dim);
  if (layout_ == Layout::packed_qkv) {
    const std::int64_t heads = s.num_heads + 2 * s.num_kv_heads;
    const TensorView<T, 4> all = dense(inputs_.data(), layout_, s.batch, heads, s.query_length, s.head_dim);
    arguments.query = all.slice(1, 0, s.num_heads);
    arguments.key = all.slice(1, s.num_heads, s.num_heads + s.num_kv_heads);
    arguments.value = all.slice(1, s.num_heads + s.num_kv_heads, heads);
    return arguments;
  }
  const std::size_t key_count = element_count(s.batch, s.num_kv_heads, s.key_length, s.head_dim);
  T* key = caches_.data() + static_cast<std::size_t>(copy % copies_) * cache_count(s, layout_, 1);
  arguments.query = dense(inputs_.data(), layout_, s.batch, s.num_heads, s.query_length, s.head_dim);
  arguments.key = dense(key, layout_, s.batch, s.num_kv_heads, s.key_length, s.head_dim);
  arguments.value = dense(key + key_count, layout_, s.batch, s.num_kv_heads, s.key_length, s.value_dim);
  return arguments;
}

template <class T>
std::span<const std::byte> AttentionTensors<T>::cache(std::int64_t copy) const {
  const std::size_t bytes = cache_count(shape_, layout_, 1) * sizeof(T);
  return caches_.bytes().subspan(static_cast<std::size_t>(copy % copies_) * bytes, bytes);
}

std::int64_t cache_bytes(const AttentionShape& shape, std::size_t element_size) {
  return static_cast<std::int64_t>(cache_count(shape, Layout::heads_apart, 1) * element_size);
}

std::int64_t copies_out_of_cache(std::int64_t bytes) {
  constexpr std::int64_t most = 1'200'000'000;
  const std::int64_t wanted = 2 * std::max<std::int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 32 << 20);
  return std::clamp<std::int64_t>((wanted + bytes - 1) / bytes, 1, std::max<std::int64_t>(1, most / bytes));
}

double useful_flops(const AttentionShape& s, bool causal) {
  // Query i attends min(i + 1, key_length) keys if causal.
  const std::int64_t corner = std::min(s.query_length, s.key_length);
  const std::int64_t pairs =
      causal ? corner * (corner + 1) / 2 + (s.query_length - corner) * s.key_length : s.query_length * s.key_length;
  return 2.0 * static_cast<double>(s.head_dim + s.value_dim) * static_cast<double>(s.batch * s.num_heads * pairs);
}

template <class T>
double largest_error(const AttentionArguments<T>& arguments, bool causal) {
  const std::int64_t heads = arguments.query.extent(1);
  const std::int64_t rows = arguments.query.extent(2);
  const std::int64_t keys = arguments.key.extent(2);
  double error = 0;
  for (const std::int64_t head : {std::int64_t{0}, heads / 2, heads - 1}) {
    for (const std::int64_t row : {std::int64_t{0}, rows / 3, rows / 2, rows - 1}) {
      const std::int64_t attended = causal ? std::min(row + 1, keys) : keys;
      const double of_row = row_error(arguments, arguments.query.extent(0) - 1, head, row, attended);
      if (!(of_row <= error)) error = of_row;
    }
  }
  return error;
}

template void fill_normal<float>(std::span<float>, std::uint64_t);
template void fill_normal<double>(std::span<double>, std::uint64_t);
template class AttentionTensors<float>;
template class AttentionTensors<double>;
template double largest_error<float>(const AttentionArguments<float>&, bool);
template double largest_error<double>(const AttentionArguments<double>&, bool);

}  // namespace headwise::bench
