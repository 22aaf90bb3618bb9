// Five classic exercises on attention, answered by library calls; data/worked-examples.json has the expected values,
// computed in long double.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <doctest/doctest.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/layer_reference.hpp"

namespace headwise::test {
namespace {

using nlohmann::json;

const json& exercises() {
  static const json loaded = json::parse(std::ifstream(HEADWISE_TEST_DATA "/worked-examples.json"));
  return loaded;
}

void flatten(const json& nested, std::vector<double>& numbers) {
  if (nested.is_number()) return numbers.push_back(nested.get<double>());
  for (const json& inner : nested) flatten(inner, numbers);
}

std::vector<double> numbers_of(const json& nested) {
  std::vector<double> numbers;
  flatten(nested, numbers);
  return numbers;
}

/// A matrix of the file as numbers of T.
template <class T>
struct Matrix {
  explicit Matrix(const json& rows)
      : height(static_cast<std::int64_t>(rows.size())), width(static_cast<std::int64_t>(rows.at(0).size())) {
    for (const double number : numbers_of(rows)) elements.push_back(static_cast<T>(number));
  }
  TensorView<const T, 3> tokens() const {
    return TensorView<const T, 3>::contiguous(elements.data(), {1, height, width});
  }
  Projection<T> projection() const {
    return {.weight = TensorView<const T, 2>::contiguous(elements.data(), {height, width})};
  }

  std::int64_t height, width;
  std::vector<T> elements;
};

/// double: within 1e-13 of the largest number of its row, since sums that cancel have no better relative error.
/// float: within the bound of a layer in float, whose inputs and weights are rounded from the file's, too.
template <class T>
void check(const std::vector<T>& actual, const std::vector<double>& expected, std::int64_t width,
           const Approximate<ReferenceTypeOf<T>>& bound) {
  REQUIRE(actual.size() == expected.size());
  if constexpr (std::is_same_v<T, double>) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto row = expected.begin() + static_cast<std::ptrdiff_t>(i) / width * width;
      const double largest = std::accumulate(
          row, row + width, 0.0, [](double largest_yet, double v) { return std::max(largest_yet, std::abs(v)); });
      CHECK(std::abs(actual[i] - expected[i]) <= 1e-13 * largest);
    }
  } else {
    (void)width;
    const Approximate<double> allowed{expected, bound.error};
    CHECK(allowed.worst_share(actual) <= 1);
  }
}

/// The results of one call, and what a layer of this type may return.
template <class T>
struct Answer {
  std::vector<T> output, weights;
  LayerReference<ReferenceTypeOf<T>> reference;

  void check_output(const json& expected) const {
    check(output, numbers_of(expected), static_cast<std::int64_t>(expected.at(0).size()), reference.output);
  }
  void check_weights(const json& expected, std::int64_t tokens) const {
    check(weights, numbers_of(expected), tokens, reference.weights);
  }
};

template <class T>
Answer<T> self_attention(const Matrix<T>& x, const MultiHeadAttentionWeights<T>& weights, std::int64_t num_heads,
                         const AttentionOptions& options = {}) {
  const std::int64_t tokens = x.height, head_dim = weights.query->outputs() / num_heads;
  const std::int64_t width = weights.output ? weights.output->outputs() : weights.value->outputs();
  Answer<T> answer;
  answer.output.assign(static_cast<std::size_t>(tokens * width), NAN);
  answer.weights.assign(static_cast<std::size_t>(num_heads * tokens * tokens), NAN);
  const MultiHeadAttentionArguments<T> arguments{
      .query_input = x.tokens(),
      .output = TensorView<T, 3>::contiguous(answer.output.data(), {1, tokens, width}),
      .weights = TensorView<T, 4>::contiguous(answer.weights.data(), {1, num_heads, tokens, tokens})};
  multi_head_attention(arguments, weights, num_heads, options);
  answer.reference =
      reference_layer<T>({1, tokens, tokens, num_heads, num_heads, head_dim, weights.value->outputs() / num_heads},
                         weights, arguments, options, Data::rounded);
  return answer;
}

/// x and its three weight matrices.
template <class T>
struct Exercise {
  explicit Exercise(const json& data) : x(data["X"]), query(data["Wq"]), key(data["Wk"]), value(data["Wv"]) {}

  MultiHeadAttentionWeights<T> weights() const {
    return {.query = query.projection(), .key = key.projection(), .value = value.projection()};
  }
  std::vector<T> project(const Matrix<T>& weight) const {
    std::vector<T> output(static_cast<std::size_t>(x.height * weight.width), NAN);
    const auto view = TensorView<T, 3>::contiguous(output.data(), {1, x.height, weight.width});
    headwise::project(x.tokens(), weight.projection(), view);
    return output;
  }

  Matrix<T> x, query, key, value;
};

}  // namespace

TEST_CASE_TEMPLATE("exercise 1: queries, keys and values; attention with a scale; heads side by side", T, float,
                   double) {
  const json& data = exercises()["five_tokens"];
  const Exercise<T> exercise(data);
  const auto projected = [&](const Matrix<T>& weight, const char* expected) {
    check(exercise.project(weight), numbers_of(data[expected]), weight.width,
          reference_projection(exact<ReferenceTypeOf<T>>(exercise.x.tokens()), weight.projection(), Data::rounded));
  };
  projected(exercise.query, "Q");
  projected(exercise.key, "K");
  projected(exercise.value, "V");

  const Answer<T> scaled = self_attention(exercise.x, exercise.weights(), 1, {.scale = 0.5});
  scaled.check_output(data["scale_half_output"]);
  scaled.check_weights(data["scale_half_weights"], 5);

  const json& layer = exercises()["layer_with_output_projection"];
  const Exercise<T> heads(layer);
  self_attention(heads.x, heads.weights(), 4).check_output(layer["heads_output"]);
}

TEST_CASE_TEMPLATE("exercise 2: five tokens with one and with three heads", T, float, double) {
  const json& data = exercises()["five_tokens"];
  const Exercise<T> exercise(data);
  const Answer<T> one = self_attention(exercise.x, exercise.weights(), 1);
  one.check_output(data["one_head_output"]);
  one.check_weights(data["one_head_weights"], 5);
  const Answer<T> three = self_attention(exercise.x, exercise.weights(), 3);
  three.check_output(data["three_heads_output"]);
  three.check_weights(data["three_heads_weights"], 5);
}

TEST_CASE_TEMPLATE("exercise 2: swapping two tokens swaps their rows of the output and nothing else", T, float,
                   double) {
  const json& data = exercises()["five_tokens"];
  Exercise<T> exercise(data);
  const auto order = data["swapped_tokens"].get<std::vector<std::size_t>>();
  const std::vector<T> original = exercise.x.elements;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto from = original.begin() + static_cast<std::ptrdiff_t>(order[i] * 6);
    std::copy(from, from + 6, exercise.x.elements.begin() + static_cast<std::ptrdiff_t>(i * 6));
  }
  const Answer<T> swapped = self_attention(exercise.x, exercise.weights(), 3);
  swapped.check_output(data["swapped_three_heads_output"]);
  swapped.check_weights(data["swapped_three_heads_weights"], 5);
}

TEST_CASE_TEMPLATE("exercise 3: two tokens", T, float, double) {
  const json& data = exercises()["two_tokens"];
  const Exercise<T> exercise(data);
  const Answer<T> answer = self_attention(exercise.x, exercise.weights(), 1);
  answer.check_output(data["output"]);
  answer.check_weights(data["weights"], 2);
}

TEST_CASE_TEMPLATE("exercise 4: a layer with output projection, in one call and step by step", T, float, double) {
  const json& data = exercises()["layer_with_output_projection"];
  const Exercise<T> exercise(data);
  const Matrix<T> output_weight(data["Wo"]);
  MultiHeadAttentionWeights<T> weights = exercise.weights();
  weights.output = output_weight.projection();
  const Answer<T> layer = self_attention(exercise.x, weights, 4);
  layer.check_output(data["output"]);
  layer.check_weights(data["weights"], 7);

  const std::vector<T> q = exercise.project(exercise.query), k = exercise.project(exercise.key),
                       v = exercise.project(exercise.value);
  const auto split = [](const std::vector<T>& tokens) {
    return split_heads(TensorView<const T, 3>::contiguous(tokens.data(), {1, 7, 8}), 4);
  };
  std::vector<T> heads(7 * 8), output(7 * 8);
  const auto heads_view = TensorView<T, 3>::contiguous(heads.data(), {1, 7, 8});
  attention<T>(split(q), split(k), split(v), split_heads(heads_view, 4));
  project<T>(heads_view, *weights.output, TensorView<T, 3>::contiguous(output.data(), {1, 7, 8}));
  check(heads, numbers_of(data["heads_output"]), 8, layer.reference.heads);
  check(output, numbers_of(data["output"]), 8, layer.reference.output);
}

TEST_CASE_TEMPLATE("exercise 5: heads from queries, keys and values, also with scores of twenty million", T, float,
                   double) {
  for (const char* name : {"two_heads_identity", "two_heads_identity_times_1000"}) {
    CAPTURE(name);
    const json& data = exercises()[name];
    const Matrix<T> x(data["X"]), identity(data["W"]);
    const MultiHeadAttentionWeights<T> weights{
        .query = identity.projection(), .key = identity.projection(), .value = identity.projection()};
    const Answer<T> answer = self_attention(x, weights, 2);
    answer.check_output(data["output"]);
    answer.check_weights(data["weights"], 2);

    std::vector<T> output(8);
    const auto heads = split_heads(x.tokens(), 2);
    attention<T>(heads, heads, heads, split_heads(TensorView<T, 3>::contiguous(output.data(), {1, 2, 4}), 2));
    check(output, numbers_of(data["output"]), 4, answer.reference.output);
    if (data["weights"][0][0][0] == 0.0) {
      CHECK(output == answer.output);
      CHECK(std::vector<double>(output.begin(), output.end()) == numbers_of(data["output"]));
    }
  }
}

TEST_CASE("a head count that does not divide the model size is a clear error") {
  const Exercise<double> exercise(exercises()["five_tokens"]);
  CHECK_THROWS_WITH_AS(self_attention(exercise.x, exercise.weights(), 4),
                       "headwise: num_heads is 4, expected a divisor of the model size (6 query features)",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(split_heads(exercise.x.tokens(), 4),
                       "headwise: num_heads is 4, expected a divisor of tokens.extent(2) (6)", std::invalid_argument);
}

}  // namespace headwise::test
