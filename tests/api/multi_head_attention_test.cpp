#include "headwise/multi_head_attention.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <doctest/doctest.h>
#include <span>
#include <stdexcept>
#include <vector>

#include "support/environment.hpp"
#include "support/layer_reference.hpp"
#include "support/random.hpp"
#include "support/token_rows.hpp"

namespace headwise::test {
namespace {

/// What a layer test varies.
struct Layer {
  MultiHeadAttentionShape shape;
  std::int64_t inputs = 12;
  bool cross = false;
  bool packed = false;
  bool bias = true;
  WeightOrder order = WeightOrder::in_out;
  std::int64_t outputs = 10;  ///< 0: no output projection
  Rows rows = Rows::dense;    ///< of inputs and output
  AttentionOptions options = {};
  std::vector<std::int64_t> key_lengths = {};
};

/// Weights in one buffer, query | key | value by outputs as packed weights are, and slices of it.
template <class T>
struct Weights {
  Weights(const Layer& layer, Random& random) {
    const auto& shape = layer.shape;
    const std::int64_t query = shape.num_heads * shape.head_dim, key = shape.num_kv_heads * shape.head_dim;
    const std::int64_t value = shape.num_kv_heads * shape.value_dim, all = query + key + value;
    packed = make(layer, random, 0, layer.inputs, all);
    separate.query = slice(packed, 0, query);
    separate.key = slice(packed, query, query + key);
    separate.value = slice(packed, query + key, all);
    if (layer.outputs > 0) {
      separate.output = make(layer, random, 1, shape.num_heads * shape.value_dim, layer.outputs);
    }
  }

  Projection<T> make(const Layer& layer, Random& random, std::size_t index, std::int64_t inputs, std::int64_t outputs) {
    const auto normal = [&random](std::int64_t count) {
      std::vector<T> numbers(static_cast<std::size_t>(count));
      for (T& number : numbers) number = static_cast<T>(random.normal() / 3);
      return numbers;
    };
    weight[index] = normal(inputs * outputs);
    bias[index] = normal(layer.bias ? outputs : 0);
    const auto extents = layer.order == WeightOrder::in_out ? std::array{inputs, outputs} : std::array{outputs, inputs};
    return {.weight = TensorView<const T, 2>::contiguous(weight[index].data(), extents),
            .order = layer.order,
            .bias = bias[index]};
  }

  static Projection<T> slice(const Projection<T>& whole, std::int64_t begin, std::int64_t end) {
    const auto first = static_cast<std::size_t>(begin), count = static_cast<std::size_t>(end - begin);
    return {.weight = whole.weight.slice(whole.order == WeightOrder::in_out ? 1 : 0, begin, end),
            .order = whole.order,
            .bias = whole.bias.empty() ? whole.bias : whole.bias.subspan(first, count)};
  }

  std::vector<T> weight[2], bias[2];
  Projection<T> packed;
  MultiHeadAttentionWeights<T> separate;
};

/// A layer with its data.
template <class T>
struct Problem {
  explicit Problem(const Layer& given) : layer(given), random(11), weights(given, random) {
    const auto& shape = layer.shape;
    x = make_rows<T>(layer.rows, {shape.batch, shape.query_length, layer.inputs});
    y = make_rows<T>(layer.rows, {shape.batch, shape.key_length, layer.inputs});
    for (const auto& tokens : {x, y}) {
      visit_elements(tokens.view, [&](T& element) { element = static_cast<T>(random.normal()); });
    }
    const std::int64_t width = layer.outputs > 0 ? layer.outputs : shape.num_heads * shape.value_dim;
    output = make_rows<T>(layer.rows, {shape.batch, shape.query_length, width});
    attention_weights = make_tensor<T, 4>({shape.batch, shape.num_heads, shape.query_length, shape.key_length},
                                          Layout::bhsd, Placement::before_guard);
    logsumexp =
        make_tensor<T, 3>({shape.batch, shape.num_heads, shape.query_length}, Layout::bhsd, Placement::before_guard);
  }

  MultiHeadAttentionWeights<T> given_weights() const {
    if (!layer.packed) return weights.separate;
    return {.packed = weights.packed, .output = weights.separate.output};
  }
  MultiHeadAttentionArguments<T> arguments() const {
    MultiHeadAttentionArguments<T> result{.query_input = x.view, .output = output.view};
    if (layer.cross) result.key_input = y.view;
    result.key_lengths = layer.key_lengths;
    result.logsumexp = logsumexp.view;
    result.weights = attention_weights.view;
    return result;
  }
  void run(std::span<std::byte> workspace = {}) const {
    MultiHeadAttention<T>(layer.shape, given_weights(), layer.options).run(arguments(), workspace);
  }
  void poison() const {
    for (const auto& buffer : {output.buffer, attention_weights.buffer, logsumexp.buffer}) buffer->poison();
  }

  Layer layer;
  Random random;
  Weights<T> weights;
  Tensor<T, 3> x, y, output, logsumexp;
  Tensor<T, 4> attention_weights;
};

template <class T>
void check_layer(const Layer& layer) {
  Problem<T> problem(layer);
  const auto reference = reference_layer<T>(layer.shape, problem.weights.separate, problem.arguments(), layer.options);
  for (const int num_threads : thread_counts()) {
    CAPTURE(num_threads);
    problem.layer.options.num_threads = num_threads;
    problem.poison();
    problem.run();
    CHECK(reference.output.worst_share(dense(problem.output.view)) <= 1);
    CHECK(reference.weights.worst_share(dense(problem.attention_weights.view)) <= 1);
    CHECK(problem.output.gaps_untouched());
  }
}

// batch, query_length, key_length, num_heads, num_kv_heads, head_dim, value_dim
constexpr MultiHeadAttentionShape self_shape{2, 9, 9, 4, 4, 5, 5};
constexpr MultiHeadAttentionShape cross_shape{3, 4, 17, 6, 2, 8, 3};

}  // namespace

TEST_CASE_TEMPLATE("self-attention layers are within the bound", T, float, double) {
  for (const bool packed : {false, true}) {
    for (const bool bias : {false, true}) {
      for (const WeightOrder order : {WeightOrder::in_out, WeightOrder::out_in}) {
        for (const std::int64_t outputs : {0, 10}) {
          CAPTURE(packed);
          CAPTURE(bias);
          CAPTURE(static_cast<int>(order));
          CAPTURE(outputs);
          check_layer<T>({.shape = self_shape, .packed = packed, .bias = bias, .order = order, .outputs = outputs});
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("layers over strided rows are within the bound and leave the gaps alone", T, float, double) {
  for (const Rows rows : all_rows) {
    for (const bool packed : {false, true}) {
      for (const std::int64_t outputs : {0, 10}) {
        CAPTURE(static_cast<int>(rows));
        CAPTURE(packed);
        CAPTURE(outputs);
        check_layer<T>({.shape = self_shape, .packed = packed, .outputs = outputs, .rows = rows});
      }
    }
  }
}

TEST_CASE_TEMPLATE("cross-attention, grouped heads, key lengths and causal layers are within the bound", T, float,
                   double) {
  check_layer<T>({.shape = cross_shape, .cross = true});
  check_layer<T>({.shape = cross_shape, .cross = true, .rows = Rows::tokens_first, .key_lengths = {17, 3, 0}});
  check_layer<T>({.shape = cross_shape,
                  .cross = true,
                  .options = {.scale = 0.5, .causal = true, .query_position = QueryPosition::bottom_right}});
  check_layer<T>({.shape = {2, 9, 9, 6, 2, 4, 7}, .packed = true, .options = {.causal = true}});
  check_layer<T>({.shape = {1, 1, 1, 1, 1, 1, 1}, .inputs = 1, .outputs = 1});
  check_layer<T>(
      {.shape = {2, 70, 70, 3, 3, 32, 32}, .inputs = 96, .packed = true, .order = WeightOrder::out_in, .outputs = 96});
}

TEST_CASE("keys and values may come from different inputs, and from fewer keys than planned") {
  const Problem<float> problem({.shape = cross_shape, .cross = true});
  MultiHeadAttentionArguments<float> arguments = problem.arguments();
  arguments.key_input = arguments.key_input->slice(1, 0, 6);
  arguments.value_input = TensorView<const float, 3>(problem.y.view.slice(1, 11, 17));
  arguments.weights = problem.attention_weights.view.slice(3, 0, 6);
  MultiHeadAttention<float>(cross_shape, problem.weights.separate).run(arguments);
  const auto reference = reference_layer<float>(cross_shape, problem.weights.separate, arguments);
  CHECK(reference.output.worst_share(dense(problem.output.view)) <= 1);
}

TEST_CASE("a workspace of the caller gives the same bits as none, and so does every repeat") {
  for (const bool packed : {false, true}) {
    const Problem<float> problem({.shape = self_shape, .packed = packed});
    problem.run();
    const auto output = dense(problem.output.view), weights = dense(problem.attention_weights.view);
    const std::size_t bytes =
        MultiHeadAttention<float>(self_shape, problem.given_weights(), problem.layer.options).workspace_bytes();
    const GuardedBuffer<float> buffer(static_cast<std::int64_t>((bytes + 63) / 64 * 16), Placement::before_guard);
    problem.poison();
    problem.run({reinterpret_cast<std::byte*>(buffer.data()), bytes});
    CHECK(same_bits(dense(problem.output.view), output));
    CHECK(same_bits(dense(problem.attention_weights.view), weights));
    problem.run();
    CHECK(same_bits(dense(problem.output.view), output));
  }
}

TEST_CASE_TEMPLATE("a layer of packed weights keeps its bits, whatever becomes of the given ones", T, float, double) {
  for (const Layer& given :
       {Layer{.shape = self_shape, .packed = true, .order = WeightOrder::out_in},
        Layer{.shape = cross_shape, .cross = true, .bias = false}, Layer{.shape = self_shape, .outputs = 0}}) {
    Problem<T> problem(given);
    problem.run();
    const auto output = dense(problem.output.view), weights = dense(problem.attention_weights.view);
    const MultiHeadAttentionWeights<T> packed = pack_weights(pack_weights(problem.given_weights()));
    for (auto* const numbers : {&problem.weights.weight[0], &problem.weights.weight[1], &problem.weights.bias[0],
                                &problem.weights.bias[1]}) {
      *numbers = {};
    }
    problem.poison();
    MultiHeadAttention<T>(given.shape, packed, given.options).run(problem.arguments());
    CHECK(same_bits(dense(problem.output.view), output));
    CHECK(same_bits(dense(problem.attention_weights.view), weights));
  }
}

TEST_CASE("a projection that is packed again owns the bias that it was given in between") {
  const std::vector<float> weight{1, 2, 3, 4}, input{1, 1};
  std::vector<float> bias{10, 20}, output(2);
  Projection<float> projection{.weight = TensorView<const float, 2>::contiguous(weight.data(), {2, 2})};
  projection = pack_weight(projection);
  projection.bias = bias;
  projection = pack_weight(pack_weight(projection));
  bias.assign(2, -1);
  project(TensorView<const float, 3>::contiguous(input.data(), {1, 1, 2}), projection,
          TensorView<float, 3>::contiguous(output.data(), {1, 1, 2}));
  CHECK(output == std::vector<float>{14, 26});
}

TEST_CASE("a packed projection of nothing is one") {
  const std::vector<float> bias{1, 2, 3};
  std::vector<float> output(6, 7.0F);
  const Projection<float> bias_alone = pack_weight(
      Projection<float>{.weight = TensorView<const float, 2>::contiguous(nullptr, {0, 3}), .bias = bias});
  project(TensorView<const float, 3>::contiguous(nullptr, {1, 2, 0}), bias_alone,
          TensorView<float, 3>::contiguous(output.data(), {1, 2, 3}));
  CHECK(output == std::vector<float>{1, 2, 3, 1, 2, 3});
  const std::vector<float> input(4);
  const Projection<float> no_outputs =
      pack_weight(Projection<float>{.weight = TensorView<const float, 2>::contiguous(nullptr, {2, 0})});
  project(TensorView<const float, 3>::contiguous(input.data(), {1, 2, 2}), no_outputs,
          TensorView<float, 3>::contiguous(output.data(), {1, 2, 0}));
  CHECK(output[0] == 1);
}

TEST_CASE("a layer that writes nothing reads nothing: what would be read may be null") {
  const auto weight = [](std::int64_t outputs) {
    return Projection<float>{.weight = TensorView<const float, 2>::contiguous(nullptr, {4, outputs})};
  };
  const auto tokens = [](std::int64_t count) { return TensorView<const float, 3>::contiguous(nullptr, {1, count, 4}); };
  for (const auto& [queries, value_dim] : {std::pair<std::int64_t, std::int64_t>{0, 4}, {2, 0}}) {
    const MultiHeadAttentionWeights<float> weights{.query = weight(4), .key = weight(4), .value = weight(value_dim)};
    const MultiHeadAttentionArguments<float> arguments{
        .query_input = tokens(queries),
        .key_input = tokens(3),
        .output = TensorView<float, 3>::contiguous(nullptr, {1, queries, value_dim})};
    MultiHeadAttention<float>({1, queries, 3, 1, 1, 4, value_dim}, weights).run(arguments);
  }
}

TEST_CASE("multi_head_attention finds the sizes of heads, grouped ones and packed ones too") {
  for (const Layer& layer : {Layer{.shape = cross_shape, .cross = true}, Layer{.shape = self_shape, .packed = true}}) {
    const Problem<double> problem(layer);
    problem.run();
    const auto output = dense(problem.output.view);
    problem.poison();
    multi_head_attention(problem.arguments(), problem.given_weights(), layer.shape.num_heads);
    CHECK(same_bits(dense(problem.output.view), output));
  }
}

TEST_CASE("extents of zero: nothing to write, or the output bias alone") {
  Problem<float>({.shape = {0, 9, 9, 4, 4, 5, 5}}).run();
  Problem<float>({.shape = {2, 0, 0, 4, 4, 5, 5}}).run();
  const Problem<float> no_keys({.shape = {2, 3, 0, 4, 4, 5, 5}, .cross = true});
  no_keys.run();
  const Problem<float> no_heads({.shape = {2, 3, 3, 0, 0, 5, 5}});
  no_heads.run();
  for (const Problem<float>* problem : {&no_keys, &no_heads}) {
    const std::vector<float>& bias = problem->weights.bias[1];
    for (std::int64_t token = 0; token < 3; ++token) {
      const auto row = problem->output.view.slice(0, 1, 2).slice(1, token, token + 1);
      CHECK(dense(row) == bias);
    }
  }
}

TEST_CASE("split_heads is a view") {
  std::vector<float> tokens(2 * 3 * 8);
  const auto heads = split_heads(TensorView<float, 3>::contiguous(tokens.data(), {2, 3, 8}), 4);
  CHECK(heads.extents == TensorView<float, 4>::Extents{2, 4, 3, 2});
  CHECK(&heads(1, 2, 1, 1) == &tokens[24 + 8 + 5]);
  CHECK_THROWS_WITH_AS(split_heads(TensorView<float, 3>::contiguous(tokens.data(), {2, 3, 8}), 0),
                       "headwise: num_heads is 0, expected a divisor of tokens.extent(2) (8)", std::invalid_argument);
}

}  // namespace headwise::test
