// What builds on attention: the merge, judged alone on results of the library's own, and the layer from end to end.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "accuracy/accuracy.hpp"
#include "support/attention_check.hpp"
#include "support/data_families.hpp"
#include "support/layer_reference.hpp"
#include "support/merge_reference.hpp"
#include "support/random.hpp"

namespace headwise::test {
namespace {

template <class T>
Tensor<T, 4> tensor(const std::array<std::int64_t, 4>& extents) {
  return make_tensor<T, 4>(extents, Layout::bhsd, Placement::before_guard);
}

/// Merges attention over the thirds of the keys.
template <class T>
void measure_merge(const DataFamily<T>& family, ErrorStatistics& outputs, ErrorStatistics& logsumexps) {
  using Real = ReferenceTypeOf<T>;
  constexpr std::int64_t batch = 2, heads = 4, queries = 60, keys = 600, dim = 64, shards = 3;
  const auto query = tensor<T>({batch, heads, queries, dim}), output = tensor<T>(query.view.extents);
  const auto key = tensor<T>({batch, heads, keys, dim}), value = tensor<T>(key.view.extents);
  const auto rows = [&] { return make_tensor<T, 3>({batch, heads, queries}, Layout::bhsd, Placement::before_guard); };
  Random random(12);
  family.fill(random, query.view, key.view, value.view);
  std::vector<Tensor<T, 4>> partial;
  std::vector<Tensor<T, 3>> partial_logsumexp;
  std::vector<PartialAttention<T>> parts;
  for (std::int64_t shard = 0; shard < shards; ++shard) {
    const std::int64_t begin = keys / shards * shard, end = begin + keys / shards;
    partial.push_back(tensor<T>(query.view.extents));
    partial_logsumexp.push_back(rows());
    attention<T>({.query = query.view,
                  .key = key.view.slice(2, begin, end),
                  .value = value.view.slice(2, begin, end),
                  .output = partial.back().view,
                  .logsumexp = partial_logsumexp.back().view});
    parts.push_back({partial.back().view, partial_logsumexp.back().view});
  }
  const auto logsumexp = rows();
  merge_attention<T>(parts, output.view, logsumexp.view);
  Real largest = 0;
  visit_elements(value.view, [&](T element) { largest = std::max(largest, std::abs(Real{element})); });
  for (const RowIndex& row : choose_rows({.batch = batch, .num_heads = heads, .query_length = queries}, 200)) {
    const auto exact = reference_merge<Real, T>(parts, row);
    const auto plain = reference_merge<T, T>(parts, row);
    const auto& [b, h, i] = row;
    for (std::size_t c = 0; c < exact.output.size(); ++c) {
      outputs.add(output.view(b, h, i, static_cast<std::int64_t>(c)), plain.output[c], exact.output[c],
                  exact.output_error[c], largest);
    }
    logsumexps.add(logsumexp.view(b, h, i), plain.logsumexp, exact.logsumexp, exact.logsumexp_error,
                   std::max(Real{1}, std::abs(exact.logsumexp)));
  }
}

/// Weights of deviation 1/√inputs, so that every stage has numbers like its inputs, and biases.
template <class T>
struct DenseProjection {
  DenseProjection(Random& random, std::int64_t inputs, std::int64_t outputs)
      : weight(static_cast<std::size_t>(inputs * outputs)), bias(static_cast<std::size_t>(outputs)) {
    const double deviation = 1 / std::sqrt(static_cast<double>(inputs));
    for (T& number : weight) number = static_cast<T>(deviation * random.normal());
    for (T& number : bias) number = static_cast<T>(0.1 * random.normal());
    projection = {.weight = TensorView<const T, 2>::contiguous(weight.data(), {inputs, outputs}), .bias = bias};
  }
  DenseProjection(const DenseProjection&) = delete;
  DenseProjection& operator=(const DenseProjection&) = delete;

  std::vector<T> weight, bias;
  Projection<T> projection;
};

/// Cross-attention of a layer whose three inputs are a family's query, key and value.
template <class T>
void measure_layer(const DataFamily<T>& family, ErrorStatistics& outputs) {
  constexpr std::int64_t features = 128;
  const MultiHeadAttentionShape shape{.batch = 2,
                                      .query_length = 50,
                                      .key_length = 230,
                                      .num_heads = 2,
                                      .num_kv_heads = 2,
                                      .head_dim = 64,
                                      .value_dim = 64};
  const auto query = tensor<T>({1, shape.batch, shape.query_length, features});
  const auto key = tensor<T>({1, shape.batch, shape.key_length, features}), value = tensor<T>(key.view.extents);
  const auto output = tensor<T>(query.view.extents);
  Random random(13);
  family.fill(random, query.view, key.view, value.view);
  const DenseProjection<T> q(random, features, features), k(random, features, features), v(random, features, features),
      o(random, features, features);
  const MultiHeadAttentionWeights<T> weights{
      .query = q.projection, .key = k.projection, .value = v.projection, .output = o.projection};
  const auto rows = [](const TensorView<T, 4>& view) {
    return TensorView<T, 3>::contiguous(view.data, {view.extent(1), view.extent(2), view.extent(3)});
  };
  const MultiHeadAttentionArguments<T> arguments{.query_input = rows(query.view),
                                                 .key_input = rows(key.view),
                                                 .value_input = rows(value.view),
                                                 .output = rows(output.view)};
  MultiHeadAttention<T>(shape, weights).run(arguments);
  using Real = ReferenceTypeOf<T>;
  const Approximate<Real> exact = reference_layer<T>(shape, weights, arguments).output;
  const Approximate<T> plain = reference_layer<T, T>(shape, weights, arguments).output;
  Real largest = 0;
  for (const Real number : exact.value) largest = std::max(largest, std::abs(number));
  const std::vector<T> got = dense(output.view);
  for (std::size_t i = 0; i < got.size(); ++i) {
    outputs.add(got[i], plain.value[i], exact.value[i], exact.error[i], largest);
  }
}

/// Families that are data alone.
template <class T>
std::vector<DataFamily<T>> plain_families() {
  std::vector<DataFamily<T>> families = data_families<T>();
  std::erase_if(families, [](const DataFamily<T>& family) {
    return family.left_padding || family.alibi_slope || family.first_block_dead;
  });
  return families;
}

template <class T>
bool report_merge_of(const char* type) {
  bool good = true;
  for (const DataFamily<T>& family : plain_families<T>()) {
    ErrorStatistics outputs, logsumexps;
    measure_merge(family, outputs, logsumexps);
    good = print_errors("merge", type, family.name, "output", outputs) && good;
    good = print_errors("merge", type, family.name, "logsumexp", logsumexps) && good;
  }
  return good;
}

template <class T>
bool report_layer_of(const char* type) {
  bool good = true;
  for (const DataFamily<T>& family : plain_families<T>()) {
    ErrorStatistics outputs;
    measure_layer(family, outputs);
    good = print_errors("layer", type, family.name, "output", outputs) && good;
  }
  return good;
}

}  // namespace

bool report_merge() {
  print_error_heading();
  const bool good_float = report_merge_of<float>("float"), good_double = report_merge_of<double>("double");
  std::puts("");
  return good_float && good_double;
}

bool report_layer() {
  print_error_heading();
  const bool good_float = report_layer_of<float>("float"), good_double = report_layer_of<double>("double");
  std::puts("");
  return good_float && good_double;
}

}  // namespace headwise::test
