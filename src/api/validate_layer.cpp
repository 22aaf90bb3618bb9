#include "api/validate_layer.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "api/error.hpp"
#include "api/validate_views.hpp"
#include "drivers/projection.hpp"
#include "platform/blas.hpp"

namespace headwise::detail {
namespace {

// Texts are built only where an argument is refused: a call that is fine makes no string.

std::string member(std::string_view name, std::string_view part) {
  std::string text(name);
  return text.append(part);
}

/// A weight that BLAS can read and a bias of matching length.
template <class T>
void validate_weight(std::string_view name, const Projection<T>& projection) {
  const auto& [weight, order, bias, packed] = projection;
  if (order != WeightOrder::in_out && order != WeightOrder::out_in) {
    refuse(member(name, ".order"), static_cast<std::int64_t>(order), "in_out (0) or out_in (1)");
  }
  for (int axis = 0; axis < 2; ++axis) {
    if (weight.extent(axis) >= 0) continue;
    refuse(member(name, ".weight.extent(") + std::to_string(axis) + ")", weight.extent(axis), "at least 0");
  }
  if (count_elements(weight.extents) > kMaximumElements) {
    refuse(member(name, ".weight.extents"), list_text(weight.extents), kMaximumElementsText);
  }
  if (packed) {
    const auto [inputs, outputs] = packed_extents(projection);
    if (projection.inputs() != inputs || projection.outputs() != outputs) {
      refuse(member(name, ".weight.extents"), list_text(weight.extents),
             std::to_string(inputs) + " inputs and " + std::to_string(outputs) + " outputs, as when it was packed");
    }
  }
  const auto layout = weight_layout(projection);
  if (!layout || layout->stride > max_leading_dimension()) {
    refuse(member(name, ".weight.strides"), list_text(weight.strides),
           "one stride of 1, the other at least the extent of that axis and at most " +
               std::to_string(max_leading_dimension()));
  }
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != projection.outputs()) {
    refuse(member(name, ".bias.size()"), static_cast<std::int64_t>(bias.size()),
           "none or " + std::to_string(projection.outputs()) + " (outputs)");
  }
}

/// Rows that BLAS can walk: [batch, tokens, features].
template <class T>
void validate_rows(std::string_view name, const TensorView<T, 3>& view) {
  const std::int64_t features = view.extent(2);
  if (view.empty()) return;
  if (features > 1 && view.stride(2) != 1) refuse(member(name, ".stride(2)"), view.stride(2), "1");
  if (view.extent(1) > 1 && (view.stride(1) < features || view.stride(1) > max_leading_dimension())) {
    refuse(member(name, ".stride(1)"), view.stride(1),
           std::to_string(features) + " (features) to " + std::to_string(max_leading_dimension()));
  }
}

template <class T>
void expect_outputs(std::string_view name, const Projection<T>& projection, std::int64_t expected,
                    std::string_view formula) {
  if (projection.outputs() == expected) return;
  refuse(member(name, ".outputs()"), projection.outputs(), member(formula, " = ") + std::to_string(expected));
}

/// Pointers, alignment and overlaps of everything that one run reads and writes.
template <class T>
void validate_layer_memory(const MultiHeadAttentionWeights<T>& weights,
                           const MultiHeadAttentionArguments<T>& arguments) {
  MemoryCheck memory;
  memory.add_output("output", arguments.output);
  memory.add_output("logsumexp", arguments.logsumexp);
  memory.add_output("weights", arguments.weights);

  memory.add_input("query_input", arguments.query_input);
  memory.add_input("key_input", arguments.key_input);
  memory.add_input("value_input", arguments.value_input);
  memory.add_input("key_lengths", arguments.key_lengths);
  memory.add_input("query_offsets", arguments.query_offsets);
  const auto add_projection = [&memory](std::string_view weight, std::string_view bias,
                                        const std::optional<Projection<T>>& projection) {
    if (!projection) return;
    if (!projection->packed) memory.add_input(weight, projection->weight);
    memory.add_input(bias, projection->bias);
  };
  add_projection("weights.packed.weight", "weights.packed.bias", weights.packed);
  add_projection("weights.query.weight", "weights.query.bias", weights.query);
  add_projection("weights.key.weight", "weights.key.bias", weights.key);
  add_projection("weights.value.weight", "weights.value.bias", weights.value);
  add_projection("weights.output.weight", "weights.output.bias", weights.output);
}

}  // namespace

template <class T>
void validate_packable(const Projection<T>& projection) {
  validate_weight("projection", projection);
  if (!projection.packed) validate_memory("projection.weight", element_view(projection.weight), true);
  if (!projection.bias.empty()) validate_memory("projection.bias", element_view(projection.bias), true);
}

template <class T>
void validate_projection(const TensorView<const T, 3>& input, const Projection<T>& projection,
                         const TensorView<T, 3>& output, int num_threads) {
  validate_weight("projection", projection);
  const Axis batch{"batch of input", std::max<std::int64_t>(input.extent(0), 0)};
  const Axis tokens{"tokens of input", std::max<std::int64_t>(input.extent(1), 0)};
  expect_extents("input", input, {batch, tokens, {"inputs of projection", projection.inputs()}});
  expect_extents("output", output, {batch, tokens, {"outputs of projection", projection.outputs()}});
  if (num_threads < 0) refuse("num_threads", num_threads, "at least 0");
  validate_rows("input", input);
  validate_rows("output", output);
  MemoryCheck memory;
  memory.add_output("output", output);
  memory.add_input("input", input);
  if (!projection.packed) memory.add_input("projection.weight", projection.weight);
  memory.add_input("projection.bias", projection.bias);
}

template <class T>
void validate_weight_set(const MultiHeadAttentionWeights<T>& weights) {
  const auto state = [](const auto& projection) { return std::string(projection ? "given" : "absent"); };
  const bool all = weights.query && weights.key && weights.value;
  const bool any = weights.query || weights.key || weights.value;
  if (weights.packed ? !any : all) return;
  refuse("weights {packed, query, key, value}",
         "{" + state(weights.packed) + ", " + state(weights.query) + ", " + state(weights.key) + ", " +
             state(weights.value) + "}",
         "either packed alone or query, key and value");
}

template <class T>
void validate_layer(const MultiHeadAttentionShape& shape, const MultiHeadAttentionWeights<T>& weights) {
  validate_weight_set(weights);
  // Valid for attention: none of these products overflows.
  const std::int64_t query = shape.num_heads * shape.head_dim;
  const std::int64_t key = shape.num_kv_heads * shape.head_dim;
  const std::int64_t value = shape.num_kv_heads * shape.value_dim;
  if (weights.packed) {
    validate_weight("weights.packed", *weights.packed);
    expect_outputs("weights.packed", *weights.packed, query + key + value,
                   "(num_heads + num_kv_heads) * head_dim + num_kv_heads * value_dim");
  } else {
    validate_weight("weights.query", *weights.query);
    validate_weight("weights.key", *weights.key);
    validate_weight("weights.value", *weights.value);
    expect_outputs("weights.query", *weights.query, query, "num_heads * head_dim");
    expect_outputs("weights.key", *weights.key, key, "num_kv_heads * head_dim");
    expect_outputs("weights.value", *weights.value, value, "num_kv_heads * value_dim");
  }
  if (!weights.output) return;
  validate_weight("weights.output", *weights.output);
  if (weights.output->inputs() != shape.num_heads * shape.value_dim) {
    refuse("weights.output.inputs()", weights.output->inputs(),
           "num_heads * value_dim = " + std::to_string(shape.num_heads * shape.value_dim));
  }
}

template <class T>
void validate_layer_arguments(const MultiHeadAttentionShape& shape, const MultiHeadAttentionWeights<T>& weights,
                              const MultiHeadAttentionArguments<T>& arguments) {
  const TensorView<const T, 3>& query_input = arguments.query_input;
  const auto& key_input = arguments.key_input;
  const auto& value_input = arguments.value_input;
  if (weights.packed && (key_input || value_input)) {
    refuse(key_input ? "key_input" : "value_input", "given",
           "none with packed weights: slice them for cross-attention");
  }
  const TensorView<const T, 3> key_tokens = key_input.value_or(query_input);
  const TensorView<const T, 3> value_tokens = value_input.value_or(key_tokens);
  const auto inputs_of = [&weights](const auto& projection) {
    return Axis{"inputs of its projection", weights.packed ? weights.packed->inputs() : projection->inputs()};
  };
  const Axis batch{"batch", shape.batch}, queries{"query_length", shape.query_length};
  const Axis keys{"key length", key_tokens.extent(1)};
  const std::string_view key_name = key_input ? "key_input" : "query_input";
  const std::string_view value_name = value_input ? "value_input" : key_name;
  expect_extents("query_input", query_input, {batch, queries, inputs_of(weights.query)});
  if (keys.extent < 0 || keys.extent > shape.key_length) {
    refuse(member(key_name, ".extent(1)"), keys.extent,
           "0 to " + std::to_string(shape.key_length) + " (shape.key_length)");
  }
  expect_extents(key_name, key_tokens, {batch, keys, inputs_of(weights.key)});
  expect_extents(value_name, value_tokens, {batch, keys, inputs_of(weights.value)});
  const std::int64_t features = weights.output ? weights.output->outputs() : shape.num_heads * shape.value_dim;
  expect_extents("output", arguments.output, {batch, queries, {"features of the last step", features}});

  validate_rows("query_input", query_input);
  validate_rows(key_name, key_tokens);
  validate_rows(value_name, value_tokens);
  if (weights.output) validate_rows("output", arguments.output);
  validate_layer_memory(weights, arguments);
}

template void validate_packable(const Projection<float>&);
template void validate_projection(const TensorView<const float, 3>&, const Projection<float>&,
                                  const TensorView<float, 3>&, int);
template void validate_weight_set(const MultiHeadAttentionWeights<float>&);
template void validate_layer(const MultiHeadAttentionShape&, const MultiHeadAttentionWeights<float>&);
template void validate_layer_arguments(const MultiHeadAttentionShape&, const MultiHeadAttentionWeights<float>&,
                                       const MultiHeadAttentionArguments<float>&);
template void validate_packable(const Projection<double>&);
template void validate_projection(const TensorView<const double, 3>&, const Projection<double>&,
                                  const TensorView<double, 3>&, int);
template void validate_weight_set(const MultiHeadAttentionWeights<double>&);
template void validate_layer(const MultiHeadAttentionShape&, const MultiHeadAttentionWeights<double>&);
template void validate_layer_arguments(const MultiHeadAttentionShape&, const MultiHeadAttentionWeights<double>&,
                                       const MultiHeadAttentionArguments<double>&);

}  // namespace headwise::detail
