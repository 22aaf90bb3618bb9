#include "api/validate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "api/error.hpp"
#include "api/validate_sequences.hpp"
#include "api/validate_views.hpp"
#include "drivers/attention_call.hpp"
#include "plan/tile_plan.hpp"

namespace headwise::detail {
namespace {

// Texts are built only where an argument is refused: a call that is fine makes no string.

void expect_at_least(std::int64_t minimum, std::string_view name, std::int64_t value) {
  if (value < minimum) refuse(name, value, "at least " + std::to_string(minimum));
}

void expect_at_most(std::int64_t maximum, std::string_view name, std::int64_t value) {
  if (value > maximum) refuse(name, value, "at most " + std::to_string(maximum));
}

/// Keys and values come from the runs alone.
template <class T, class KV>
void expect_only_runs(const AttentionArguments<T, KV>& arguments) {
  const auto expect_absent = [](std::string_view name, const TensorView<const KV, 4>& view) {
    if (view.data != nullptr || view.extents != decltype(view.extents){}) refuse(name, "given", "none with key_runs");
  };
  const std::size_t count = arguments.key_runs.size();
  if (is_ragged(arguments)) refuse("key_runs.size()", static_cast<std::int64_t>(count), "none in a ragged batch");
  expect_absent("key", arguments.key);
  expect_absent("value", arguments.value);
  if (arguments.key_runs.data() == nullptr) {
    refuse("key_runs.data", "null", "a pointer to " + std::to_string(count) + " runs");
  }
}

/// What a negative extent is refused for.
Axis own_extent(const char* meaning, std::int64_t extent) { return {meaning, std::max<std::int64_t>(extent, 0)}; }

/// Extents of key and value, or of those of every run.
template <class T, class KV>
void validate_key_extents(const AttentionShape& shape, const AttentionArguments<T, KV>& arguments, const Axis& batch) {
  const Axis heads{"num_kv_heads", shape.num_kv_heads};
  const Axis head_dim{"head_dim", shape.head_dim}, value_dim{"value_dim", shape.value_dim};
  for (std::size_t i = 0; i < arguments.key_runs.size(); ++i) {
    const KeyRun<KV>& run = arguments.key_runs[i];
    const Axis slots = own_extent("slots of key", run.key.extent(2));
    expect_extents({i, "key"}, run.key, {batch, heads, slots, head_dim});
    expect_extents({i, "value"}, run.value, {batch, heads, slots, value_dim});
  }
  if (!arguments.key_runs.empty()) return;
  const std::int64_t length = arguments.key.extent(2);
  const Axis keys = is_ragged(arguments) ? own_extent("tokens of key", length) : Axis{"key length", length};
  if (!is_ragged(arguments) && (length < 0 || length > shape.key_length)) {
    refuse("key.extent(2)", length, "0 to " + std::to_string(shape.key_length) + " (shape.key_length)");
  }
  expect_extents("key", arguments.key, {batch, heads, keys, head_dim});
  expect_extents("value", arguments.value, {batch, heads, keys, value_dim});
}

template <class T, class KV>
void validate_extents(const AttentionShape& shape, const AttentionArguments<T, KV>& arguments) {
  const bool ragged = is_ragged(arguments);
  const Axis heads{"num_heads", shape.num_heads};
  const Axis head_dim{"head_dim", shape.head_dim}, value_dim{"value_dim", shape.value_dim};
  // Of the tensors with a row per token: a ragged batch has all its tokens in one entry.
  const Axis token_batch = ragged ? Axis{"ragged batch", 1} : Axis{"batch", shape.batch};
  const Axis tokens =
      ragged ? own_extent("tokens of query", arguments.query.extent(2)) : Axis{"query_length", shape.query_length};
  expect_extents("query", arguments.query, {token_batch, heads, tokens, head_dim});
  validate_key_extents(shape, arguments, token_batch);
  expect_extents("output", arguments.output, {token_batch, heads, tokens, value_dim});
  if (arguments.logsumexp) expect_extents("logsumexp", *arguments.logsumexp, {token_batch, heads, tokens});

  // Of the tensors with a row per score: padded to the longest sequence.
  const Axis batch{"batch", shape.batch}, queries{"query_length", shape.query_length};
  const bool one_length = !ragged && arguments.key_runs.empty();
  const Axis keys{"key length", one_length ? arguments.key.extent(2) : shape.key_length};
  if (arguments.mask) expect_broadcastable("mask", *arguments.mask, {batch, heads, queries, keys});
  if (arguments.bias) expect_broadcastable("bias", *arguments.bias, {batch, heads, queries, keys});
  if (arguments.key_padding_mask) {
    expect_broadcastable("key_padding_mask", *arguments.key_padding_mask, {batch, keys});
  }
  if (arguments.weights) expect_extents("weights", *arguments.weights, {batch, heads, queries, keys});
  if (arguments.mean_weights) expect_extents("mean_weights", *arguments.mean_weights, {batch, queries, keys});
  if (arguments.scores) expect_extents("scores", *arguments.scores, {batch, heads, queries, keys});
}

void expect_one_per_head(std::string_view name, std::size_t size, std::int64_t num_heads) {
  if (size == 0 || size == static_cast<std::size_t>(num_heads)) return;
  refuse(std::string(name) + ".size()", static_cast<std::int64_t>(size),
         std::to_string(num_heads) + " (num_heads) or none");
}

/// Pointers, alignment and overlaps.
template <class T, class KV>
void validate_views(const AttentionArguments<T, KV>& arguments) {
  MemoryCheck memory;
  memory.add_output("output", arguments.output);
  memory.add_output("logsumexp", arguments.logsumexp);
  memory.add_output("weights", arguments.weights);
  memory.add_output("mean_weights", arguments.mean_weights);
  memory.add_output("scores", arguments.scores);

  memory.add_input("query", arguments.query);
  memory.add_input("key", arguments.key);
  memory.add_input("value", arguments.value);
  for (std::size_t i = 0; i < arguments.key_runs.size(); ++i) {
    const KeyRun<KV>& run = arguments.key_runs[i];
    memory.add_input({i, "key"}, run.key);
    memory.add_input({i, "value"}, run.value);
    memory.add_input({i, "first_slot"}, run.first_slot);
    memory.add_input({i, "first_position"}, run.first_position);
    memory.add_input({i, "length"}, run.length);
  }
  memory.add_input("key_lengths", arguments.key_lengths);
  memory.add_input("query_offsets", arguments.query_offsets);
  memory.add_input("query_starts", arguments.query_starts);
  memory.add_input("key_starts", arguments.key_starts);
  memory.add_input("mask", arguments.mask);
  memory.add_input("bias", arguments.bias);
  memory.add_input("key_padding_mask", arguments.key_padding_mask);
  memory.add_input("alibi_slopes", arguments.alibi_slopes);
  memory.add_input("sinks", arguments.sinks);
}

}  // namespace

void validate_shape(const AttentionShape& shape) {
  expect_at_least(0, "shape.batch", shape.batch);
  expect_at_least(0, "shape.num_heads", shape.num_heads);
  expect_at_least(0, "shape.num_kv_heads", shape.num_kv_heads);
  expect_at_least(0, "shape.query_length", shape.query_length);
  expect_at_least(0, "shape.key_length", shape.key_length);
  expect_at_least(1, "shape.head_dim", shape.head_dim);
  expect_at_least(0, "shape.value_dim", shape.value_dim);
  expect_at_most(most_features, "shape.head_dim", shape.head_dim);
  expect_at_most(most_features, "shape.value_dim", shape.value_dim);

  const auto& [batch, num_heads, num_kv_heads, query_length, key_length, head_dim, value_dim] = shape;
  if (num_heads > 0) expect_at_least(1, "shape.num_kv_heads", num_kv_heads);
  if (num_kv_heads > num_heads) {
    refuse("shape.num_kv_heads", num_kv_heads, "at most shape.num_heads (" + std::to_string(num_heads) + ")");
  }
  if (num_heads > 0 && num_heads % num_kv_heads != 0) {
    refuse("shape.num_heads", num_heads, "a multiple of shape.num_kv_heads (" + std::to_string(num_kv_heads) + ")");
  }
  const auto expect_countable = [](std::string_view name, const std::array<std::int64_t, 4>& extents) {
    if (count_elements(extents) > kMaximumElements) refuse(name, list_text(extents), kMaximumElementsText);
  };
  expect_countable("shape of query", {batch, num_heads, query_length, head_dim});
  expect_countable("shape of key", {batch, num_kv_heads, key_length, head_dim});
  expect_countable("shape of value", {batch, num_kv_heads, key_length, value_dim});
  expect_countable("shape of output", {batch, num_heads, query_length, value_dim});
}

template <class T>
void validate_options(const AttentionOptions& options) {
  const double scale = options.scale.value_or(1);
  if (!std::isfinite(scale)) refuse("options.scale", number_text(scale), "a finite number");
  if (std::abs(scale) > largest_in_base_2<T>) {
    refuse("options.scale", number_text(scale), "a magnitude of at most " + number_text(largest_in_base_2<T>));
  }
  if (!std::isfinite(options.softcap) || options.softcap < 0) {
    refuse("options.softcap", number_text(options.softcap), "a finite number of at least 0");
  }
  expect_at_least(-1, "options.window.left", options.window.left);
  expect_at_least(-1, "options.window.right", options.window.right);
  switch (options.query_position) {
    case QueryPosition::top_left:
    case QueryPosition::bottom_right:
    case QueryPosition::given: break;
    default:
      refuse("options.query_position", static_cast<std::int64_t>(options.query_position),
             "top_left (0), bottom_right (1) or given (2)");
  }
  switch (options.score_stage) {
    case ScoreStage::scaled:
    case ScoreStage::softcapped:
    case ScoreStage::biased: break;
    default:
      refuse("options.score_stage", static_cast<std::int64_t>(options.score_stage),
             "scaled (0), softcapped (1) or biased (2)");
  }
  expect_at_least(0, "options.num_threads", options.num_threads);
}

template <class T, class KV>
void validate_arguments(const AttentionShape& shape, const AttentionOptions& options,
                        const AttentionArguments<T, KV>& arguments) {
  if (!arguments.key_runs.empty()) expect_only_runs(arguments);
  validate_extents(shape, arguments);
  validate_sequences(shape, options, arguments);
  expect_one_per_head("alibi_slopes", arguments.alibi_slopes.size(), shape.num_heads);
  expect_one_per_head("sinks", arguments.sinks.size(), shape.num_heads);
  validate_views(arguments);
}

void validate_workspace(std::span<std::byte> workspace, std::size_t needed) {
  const auto refuse_workspace = [needed](std::string_view property, std::string_view value) {
    refuse(property, value, "at least " + std::to_string(needed) + " bytes aligned to 64");
  };
  const auto address = reinterpret_cast<std::uintptr_t>(workspace.data());
  if (workspace.data() == nullptr && !workspace.empty()) refuse_workspace("workspace.data()", "null");
  if (workspace.data() == nullptr) return;
  if (workspace.size() < needed) refuse_workspace("workspace.size()", std::to_string(workspace.size()));
  if (address % 64 != 0) refuse_workspace("workspace.data()", address_text(address));
}

template void validate_options<float>(const AttentionOptions&);
template void validate_options<double>(const AttentionOptions&);
template void validate_arguments(const AttentionShape&, const AttentionOptions&, const AttentionArguments<float>&);
template void validate_arguments(const AttentionShape&, const AttentionOptions&, const AttentionArguments<double>&);

}  // namespace headwise::detail
