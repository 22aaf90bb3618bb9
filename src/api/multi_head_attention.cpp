#include "headwise/multi_head_attention.hpp"

#include <algorithm>
#include <optional>

#include "api/error.hpp"
#include "api/validate.hpp"
#include "api/validate_layer.hpp"
#include "drivers/projection.hpp"
#include "platform/workspace.hpp"

namespace headwise {
inline namespace v0 {
namespace {

/// Features per token of the layer's intermediate results.
struct Widths {
  std::int64_t query, key, value, heads;
};

Widths widths_of(const MultiHeadAttentionShape& shape) {
  return {shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim, shape.num_kv_heads * shape.value_dim,
          shape.num_heads * shape.value_dim};
}

/// Where the intermediate results lie in the workspace.
template <class T>
struct Memory {
  T *query, *key, *value;  ///< packed weights: all three side by side at `query`
  T* heads;                ///< without an output projection the heads go to the output
  std::byte* steps;        ///< workspace of the attention and of each projection, one after the other
};

/// What the projections and the attention need in turn.
template <class T>
std::size_t step_bytes(const MultiHeadAttentionShape& shape, const MultiHeadAttentionWeights<T>& weights,
                       const AttentionPlan<T>& plan) {
  std::size_t bytes = plan.workspace_bytes();
  const auto add = [&](std::int64_t tokens, const std::optional<Projection<T>>& projection) {
    if (!projection) return;
    const std::int64_t rows = shape.batch * tokens;
    bytes = std::max(bytes, detail::projection_workspace_bytes(rows, *projection, plan.options().num_threads));
  };
  for (const auto* projection : {&weights.packed, &weights.query, &weights.output}) add(shape.query_length, *projection);
  for (const auto* projection : {&weights.key, &weights.value}) add(shape.key_length, *projection);
  return bytes;
}

template <class T>
Memory<T> carve(detail::Carver& carver, const MultiHeadAttentionShape& shape,
                const MultiHeadAttentionWeights<T>& weights, std::size_t bytes) {
  const Widths widths = widths_of(shape);
  const auto take = [&](std::int64_t tokens, std::int64_t width) {
    constexpr std::int64_t most_elements = std::int64_t{1} << 58;  // all results together stay below 2^63 bytes
    const std::int64_t elements = shape.batch * tokens * width;
    if (elements > most_elements) detail::refuse("elements of a projection", elements, "at most 2^58");
    return carver.take<T>(static_cast<std::size_t>(elements));
  };
  Memory<T> memory{};
  if (weights.packed) {
    memory.query = take(shape.query_length, widths.query + widths.key + widths.value);
  } else {
    memory.query = take(shape.query_length, widths.query);
    memory.key = take(shape.key_length, widths.key);
    memory.value = take(shape.key_length, widths.value);
  }
  if (weights.output) memory.heads = take(shape.query_length, widths.heads);
  memory.steps = carver.take<std::byte>(bytes);
  return memory;
}

/// The intermediate results as [batch, tokens, features].
template <class T>
struct Tokens {
  TensorView<T, 3> packed;  ///< query, key and value in one, with packed weights
  TensorView<T, 3> query, key, value, heads;
};

template <class T>
Tokens<T> tokens_in(const Memory<T>& memory, const MultiHeadAttentionShape& shape,
                    const MultiHeadAttentionWeights<T>& weights, std::int64_t key_length, TensorView<T, 3> output) {
  const Widths widths = widths_of(shape);
  const auto view = [&shape](T* first, std::int64_t tokens, std::int64_t width) {
    return TensorView<T, 3>::contiguous(first, {shape.batch, tokens, width});
  };
  Tokens<T> tokens;
  if (weights.packed) {
    const std::int64_t key_end = widths.query + widths.key;
    tokens.packed = view(memory.query, shape.query_length, key_end + widths.value);
    tokens.query = tokens.packed.slice(2, 0, widths.query);
    tokens.key = tokens.packed.slice(2, widths.query, key_end);
    tokens.value = tokens.packed.slice(2, key_end, key_end + widths.value);
  } else {
    tokens.query = view(memory.query, shape.query_length, widths.query);
    tokens.key = view(memory.key, key_length, widths.key);
    tokens.value = view(memory.value, key_length, widths.value);
  }
  tokens.heads = weights.output ? view(memory.heads, shape.query_length, widths.heads) : output;
  return tokens;
}

/// [batch, tokens, num_heads·dim] → [batch, num_heads, tokens, dim], also for no heads.
template <class T>
TensorView<T, 4> heads_of(const TensorView<T, 3>& tokens, std::int64_t num_heads, std::int64_t dim) {
  if (num_heads > 0) return split_heads(tokens, num_heads);
  return {tokens.data, {tokens.extent(0), 0, tokens.extent(1), dim}, {}};
}

}  // namespace

template <class T>
MultiHeadAttentionWeights<T> pack_weights(const MultiHeadAttentionWeights<T>& weights) {
  MultiHeadAttentionWeights<T> packed = weights;
  for (auto* const projection : {&packed.packed, &packed.query, &packed.key, &packed.value, &packed.output}) {
    if (*projection) *projection = pack_weight(**projection);
  }
  return packed;
}

template <class T>
MultiHeadAttention<T>::MultiHeadAttention(const MultiHeadAttentionShape& shape,
                                          const MultiHeadAttentionWeights<T>& weights, const AttentionOptions& options)
    : shape_(shape),
      weights_(weights),
      plan_({.batch = shape.batch,
             .num_heads = shape.num_heads,
             .num_kv_heads = shape.num_kv_heads,
             .query_length = shape.query_length,
             .key_length = shape.key_length,
             .head_dim = shape.head_dim,
             .value_dim = shape.value_dim},
            options) {
  detail::validate_layer(shape, weights);
  workspace_bytes();  // refuses sizes that no memory holds
}

template <class T>
std::size_t MultiHeadAttention<T>::workspace_bytes() const {
  detail::Carver measure;
  carve(measure, shape_, weights_, step_bytes(shape_, weights_, plan_));
  return detail::workspace_mark_bytes + measure.used();
}

template <class T>
void MultiHeadAttention<T>::run(const MultiHeadAttentionArguments<T>& arguments, std::span<std::byte> workspace) const {
  detail::validate_layer_arguments(shape_, weights_, arguments);
  const std::size_t needed = workspace_bytes();
  detail::validate_workspace(workspace, needed);
  const detail::Workspace scratch(workspace, needed);
  detail::Carver carver(scratch.data());
  const Memory<T> memory = carve(carver, shape_, weights_, step_bytes(shape_, weights_, plan_));

  const TensorView<const T, 3> key_input = arguments.key_input.value_or(arguments.query_input);
  const TensorView<const T, 3> value_input = arguments.value_input.value_or(key_input);
  const Tokens<T> tokens = tokens_in(memory, shape_, weights_, key_input.extent(1), arguments.output);
  const AttentionArguments<T> attention{.query = heads_of(tokens.query, shape_.num_heads, shape_.head_dim),
                                        .key = heads_of(tokens.key, shape_.num_kv_heads, shape_.head_dim),
                                        .value = heads_of(tokens.value, shape_.num_kv_heads, shape_.value_dim),
                                        .output = heads_of(tokens.heads, shape_.num_heads, shape_.value_dim),
                                        .key_lengths = arguments.key_lengths,
                                        .query_offsets = arguments.query_offsets,
                                        .logsumexp = arguments.logsumexp,
                                        .weights = arguments.weights};
  // The plan checks this again when it runs; here it comes before the projections, which are most of the work.
  detail::validate_arguments(plan_.shape(), plan_.options(), attention);
  // Nothing is written, so nothing is read: what would be may be null.
  const auto is_empty = [](const auto& further_output) { return !further_output || further_output->empty(); };
  if (arguments.output.empty() && is_empty(arguments.logsumexp) && is_empty(arguments.weights)) return;

  const int num_threads = plan_.options().num_threads;
  if (weights_.packed) {
    detail::run_projection(arguments.query_input, *weights_.packed, tokens.packed, num_threads, memory.steps);
  } else {
    detail::run_projection(arguments.query_input, *weights_.query, tokens.query, num_threads, memory.steps);
    detail::run_projection(key_input, *weights_.key, tokens.key, num_threads, memory.steps);
    detail::run_projection(value_input, *weights_.value, tokens.value, num_threads, memory.steps);
  }
  plan_.run(attention, {memory.steps, plan_.workspace_bytes()});
  if (weights_.output) {
    detail::run_projection<T>(tokens.heads, *weights_.output, arguments.output, num_threads, memory.steps);
  }
}

template <class T>
void multi_head_attention(const MultiHeadAttentionArguments<T>& arguments, const MultiHeadAttentionWeights<T>& weights,
                          std::int64_t num_heads, const AttentionOptions& options) {
  detail::validate_weight_set(weights);
  // Packed weights are [query | key | value], as wide as each other.
  const std::int64_t query_outputs = weights.packed ? weights.packed->outputs() / 3 : weights.query->outputs();
  if (weights.packed && weights.packed->outputs() != 3 * query_outputs) {
    detail::refuse("weights.packed.outputs()", weights.packed->outputs(), "a multiple of 3 (query, key and value)");
  }
  if (num_heads < 1 || query_outputs % num_heads != 0) {
    detail::refuse("num_heads", num_heads,
                   "a divisor of the model size (" + std::to_string(query_outputs) + " query features)");
  }
  const std::int64_t head_dim = query_outputs / num_heads;
  const std::int64_t key_outputs = weights.packed ? query_outputs : weights.key->outputs();
  const std::int64_t value_outputs = weights.packed ? query_outputs : weights.value->outputs();
  // head_dim 0, and outputs that are no multiple of a head, are refused by name when the layer is made.
  const std::int64_t num_kv_heads = head_dim > 0 ? key_outputs / head_dim : 0;
  const MultiHeadAttentionShape shape{.batch = arguments.query_input.extent(0),
                                      .query_length = arguments.query_input.extent(1),
                                      .key_length = arguments.key_input.value_or(arguments.query_input).extent(1),
                                      .num_heads = num_heads,
                                      .num_kv_heads = num_kv_heads,
                                      .head_dim = head_dim,
                                      .value_dim = num_kv_heads > 0 ? value_outputs / num_kv_heads : 0};
  MultiHeadAttention<T>(shape, weights, options).run(arguments);
}

template MultiHeadAttentionWeights<float> pack_weights(const MultiHeadAttentionWeights<float>&);
template MultiHeadAttentionWeights<double> pack_weights(const MultiHeadAttentionWeights<double>&);
template class MultiHeadAttention<float>;
template class MultiHeadAttention<double>;
template void multi_head_attention(const MultiHeadAttentionArguments<float>&, const MultiHeadAttentionWeights<float>&,
                                   std::int64_t, const AttentionOptions&);
template void multi_head_attention(const MultiHeadAttentionArguments<double>&, const MultiHeadAttentionWeights<double>&,
                                   std::int64_t, const AttentionOptions&);

}  // namespace v0
}  // namespace headwise
