// A published model's layer on two real sentences, from x to output and attention weights.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <doctest/doctest.h>
#include <span>
#include <string>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/environment.hpp"
#include "support/layer_reference.hpp"
#include "support/npy.hpp"

namespace headwise::test {
namespace {

constexpr std::int64_t batch = 2, tokens = 16, features = 384, num_heads = 12;
constexpr MultiHeadAttentionShape layer_shape{.batch = batch,
                                              .query_length = tokens,
                                              .key_length = tokens,
                                              .num_heads = num_heads,
                                              .num_kv_heads = num_heads,
                                              .head_dim = features / num_heads,
                                              .value_dim = features / num_heads};

NpyArray load(const std::string& name) { return load_npy(HEADWISE_TEST_DATA "/trained-layer/" + name + ".npy"); }

/// The layer's files with every number as a T; all of them are floats, so none is rounded.
template <class T>
struct TrainedLayer {
  std::vector<T> x = load("x").as<T>();
  std::vector<std::int64_t> key_lengths = load("key_lengths").as<std::int64_t>();
  std::vector<T> weight_query = load("weight_query").as<T>(), bias_query = load("bias_query").as<T>();
  std::vector<T> weight_key = load("weight_key").as<T>(), bias_key = load("bias_key").as<T>();
  std::vector<T> weight_value = load("weight_value").as<T>(), bias_value = load("bias_value").as<T>();
  std::vector<T> weight_output = load("weight_output").as<T>(), bias_output = load("bias_output").as<T>();

  static Projection<T> projection(const std::vector<T>& weight, const std::vector<T>& bias) {
    return {.weight = TensorView<const T, 2>::contiguous(weight.data(), {features, features}),
            .order = WeightOrder::out_in,
            .bias = bias};
  }
  MultiHeadAttentionWeights<T> weights() const {
    return {.query = projection(weight_query, bias_query),
            .key = projection(weight_key, bias_key),
            .value = projection(weight_value, bias_value),
            .output = projection(weight_output, bias_output)};
  }
  MultiHeadAttentionArguments<T> arguments(std::vector<T>& output, std::vector<T>& attention_weights) const {
    output.assign(batch * tokens * features, NAN);
    attention_weights.assign(batch * num_heads * tokens * tokens, NAN);
    return {.query_input = TensorView<const T, 3>::contiguous(x.data(), {batch, tokens, features}),
            .output = TensorView<T, 3>::contiguous(output.data(), {batch, tokens, features}),
            .key_lengths = key_lengths,
            .weights = TensorView<T, 4>::contiguous(attention_weights.data(), {batch, num_heads, tokens, tokens})};
  }
};

/// The largest difference to the file's numbers as a share of what is allowed. The file was computed in double: for
/// double it has such an error of its own, so twice as much is allowed.
template <class T, class Real>
Real share_of_file(const Approximate<Real>& reference, const std::vector<T>& actual, const std::string& file) {
  const std::vector<double> expected = load(file).as<double>();
  Approximate<Real> against{{expected.begin(), expected.end()}, reference.error};
  const Real factor = std::is_same_v<T, double> ? 2 : 1;
  for (Real& error : against.error) error *= factor;
  return against.worst_share(actual);
}

}  // namespace

TEST_CASE_TEMPLATE("a trained layer gives the expected output and attention weights", T, float, double) {
  const TrainedLayer<T> layer;
  std::vector<T> output, attention_weights;
  const MultiHeadAttentionArguments<T> arguments = layer.arguments(output, attention_weights);
  const auto reference = reference_layer<T>(layer_shape, layer.weights(), arguments);
  for (const int num_threads : thread_counts()) {
    CAPTURE(num_threads);
    std::fill(output.begin(), output.end(), T(NAN));
    std::fill(attention_weights.begin(), attention_weights.end(), T(NAN));
    const MultiHeadAttention<T> attention(layer_shape, layer.weights(), {.num_threads = num_threads});
    attention.run(arguments);
    CHECK(reference.output.worst_share(output) <= 1);
    CHECK(reference.weights.worst_share(attention_weights) <= 1);
    CHECK(share_of_file(reference.output, output, "expected_output") <= 1);
    CHECK(share_of_file(reference.weights, attention_weights, "expected_weights") <= 1);
  }
}

TEST_CASE("in head 1 of the trained layer \"it\" attends to \"animal\"") {
  const TrainedLayer<float> layer;
  std::vector<float> output, attention_weights;
  multi_head_attention(layer.arguments(output, attention_weights), layer.weights(), num_heads);
  const auto weights = TensorView<const float, 4>::contiguous(attention_weights.data(), {2, num_heads, tokens, tokens});
  const int it = 10, animal = 2;
  CHECK(weights(0, 1, it, animal) == doctest::Approx(0.68).epsilon(0.01));
}

}  // namespace headwise::test
