#include "api/validate.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "api/error.hpp"
#include "api/validate_views.hpp"

namespace headwise::detail {
namespace {

// Texts are built only where an argument is refused: a call that is fine makes no string.

std::string indexed(std::string_view name, std::size_t index) {
  return std::string(name) + "[" + std::to_string(index) + "]";
}

void expect_at_least(std::int64_t minimum, std::string_view name, std::int64_t value) {
  if (value < minimum) refuse(name, value, "at least " + std::to_string(minimum));
}

// ---------------------------------------------------------------------------------------------------- extents

template <class T, class KV>
void validate_extents(const AttentionShape& shape, const AttentionArguments<T, KV>& arguments) {
  const Axis batch{"batch", shape.batch};
  const Axis heads{"num_heads", shape.num_heads}, kv_heads{"num_kv_heads", shape.num_kv_heads};
  const Axis queries{"query_length", shape.query_length}, keys{"key length", arguments.key.extent(2)};
  const Axis head_dim{"head_dim", shape.head_dim}, value_dim{"value_dim", shape.value_dim};

  if (keys.extent < 0 || keys.extent > shape.key_length) {
    refuse("key.extent(2)", keys.extent, "0 to " + std::to_string(shape.key_length) + " (shape.key_length)");
  }
  expect_extents("query", arguments.query, {batch, heads, queries, head_dim});
  expect_extents("key", arguments.key, {batch, kv_heads, keys, head_dim});
  expect_extents("value", arguments.value, {batch, kv_heads, keys, value_dim});
  expect_extents("output", arguments.output, {batch, heads, queries, value_dim});
  if (arguments.logsumexp) expect_extents("logsumexp", *arguments.logsumexp, {batch, heads, queries});
  if (arguments.weights) expect_extents("weights", *arguments.weights, {batch, heads, queries, keys});
}

// ---------------------------------------------------------------------------------------------- per batch entry

void expect_one_per_batch_entry(std::string_view name, std::span<const std::int64_t> values, std::int64_t batch,
                                std::string_view alternative) {
  if (values.size() != static_cast<std::size_t>(batch)) {
    refuse(std::string(name) + ".size()", static_cast<std::int64_t>(values.size()),
           std::to_string(batch) + " (batch)" + std::string(alternative));
  }
  validate_memory(named(name, values), true);
}

void validate_key_lengths(std::span<const std::int64_t> key_lengths, std::int64_t batch, std::int64_t key_length) {
  if (key_lengths.empty()) return;
  expect_one_per_batch_entry("key_lengths", key_lengths, batch, " or none");
  for (std::size_t entry = 0; entry < key_lengths.size(); ++entry) {
    if (key_lengths[entry] >= 0 && key_lengths[entry] <= key_length) continue;
    refuse(indexed("key_lengths", entry), key_lengths[entry], "0 to " + std::to_string(key_length) + " (key length)");
  }
}

void validate_query_offsets(std::span<const std::int64_t> query_offsets, std::int64_t batch, QueryPosition position) {
  if (position != QueryPosition::given) {
    if (query_offsets.empty()) return;
    refuse("query_offsets.size()", static_cast<std::int64_t>(query_offsets.size()),
           "none unless options.query_position is given");
  }
  expect_one_per_batch_entry("query_offsets", query_offsets, batch, ": options.query_position is given");
  // Lengths are at most 2^60: sums and differences of positions and lengths stay within 64 bits.
  constexpr std::int64_t kLimit = std::int64_t{1} << 62;
  for (std::size_t entry = 0; entry < query_offsets.size(); ++entry) {
    if (query_offsets[entry] >= -kLimit && query_offsets[entry] <= kLimit) continue;
    refuse(indexed("query_offsets", entry), query_offsets[entry], "-2^62 to 2^62");
  }
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

void validate_options(const AttentionOptions& options) {
  const double scale = options.scale.value_or(1);
  if (!std::isfinite(scale)) {
    refuse("options.scale", std::isnan(scale) ? "nan" : scale > 0 ? "inf" : "-inf", "a finite number");
  }
  switch (options.query_position) {
    case QueryPosition::top_left:
    case QueryPosition::bottom_right:
    case QueryPosition::given: break;
    default:
      refuse("options.query_position", static_cast<std::int64_t>(options.query_position),
             "top_left (0), bottom_right (1) or given (2)");
  }
  expect_at_least(0, "options.num_threads", options.num_threads);
}

template <class T, class KV>
void validate_arguments(const AttentionShape& shape, const AttentionOptions& options,
                        const AttentionArguments<T, KV>& arguments) {
  validate_extents(shape, arguments);
  validate_key_lengths(arguments.key_lengths, shape.batch, arguments.key.extent(2));
  validate_query_offsets(arguments.query_offsets, shape.batch, options.query_position);

  const std::array inputs{named("query", arguments.query), named("key", arguments.key), named("value", arguments.value),
                          named("key_lengths", arguments.key_lengths), named("query_offsets", arguments.query_offsets)};
  const std::array outputs{named("output", arguments.output), named("logsumexp", arguments.logsumexp),
                           named("weights", arguments.weights)};
  validate_views(inputs, outputs);
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

template void validate_arguments(const AttentionShape&, const AttentionOptions&, const AttentionArguments<float>&);
template void validate_arguments(const AttentionShape&, const AttentionOptions&, const AttentionArguments<double>&);

}  // namespace headwise::detail
