#include "api/validate_cache.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "api/error.hpp"
#include "api/validate_rotary.hpp"
#include "api/validate_views.hpp"

namespace headwise::detail {
namespace {

using Values = std::span<const std::int64_t>;

void expect_one_per_sequence(const ArgumentName& name, Values values, std::int64_t batch,
                             std::string_view alternative) {
  if (values.size() != static_cast<std::size_t>(batch)) {
    refuse(name.text(".size()"), static_cast<std::int64_t>(values.size()),
           Axis{"batch", batch}.text().append(alternative));
  }
  validate_memory(name, element_view(values), true);
}

template <class T>
void validate_counts(const KvCacheShape& shape, const NewTokens<T>& tokens) {
  const std::int64_t most = tokens.key.extent(2);
  const auto refuse_count = [&](std::int64_t b, const std::string& expectation) {
    const bool counted = !tokens.counts.empty();
    refuse(counted ? ArgumentName("counts").element_text(static_cast<std::size_t>(b)) : "key.extent(2)",
           tokens.count(b), expectation);
  };
  if (!tokens.counts.empty()) expect_one_per_sequence("counts", tokens.counts, shape.batch, " or none");
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    const std::int64_t count = tokens.count(b), length = tokens.lengths[static_cast<std::size_t>(b)];
    if (count < 0 || count > most) refuse_count(b, "0 to " + Axis{"tokens of key", most}.text());
    // Positions in a ring end where sums with them still fit 64 bits.
    const std::int64_t room = (shape.ring ? kMaximumElements : shape.capacity) - length;
    if (count > room)
      refuse_count(b, "at most " + std::to_string(room) + " (room in sequence " + std::to_string(b) + ")");
  }
}

template <class T>
void validate_cache_rotary(const KvCacheShape& shape, const NewTokens<T>& tokens,
                           const std::optional<RotaryOptions>& rotary, const std::optional<RotaryTable<T>>& table) {
  if (!rotary) {
    if (table) refuse("table", "given", "none without rotary");
    return;
  }
  validate_rotary("rotary", *rotary, "shape.head_dim", shape.head_dim, table);
  if (!table) return;
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    const std::int64_t length = tokens.lengths[static_cast<std::size_t>(b)] + tokens.count(b);
    if (tokens.count(b) == 0 || length <= table->cosine.extent(0)) continue;
    refuse("table.cosine.extent(0)", table->cosine.extent(0),
           "at least " + std::to_string(length) + " (positions in sequence " + std::to_string(b) + ")");
  }
}

}  // namespace

void validate_cache_shape(const KvCacheShape& shape) {
  const auto expect_at_least = [](std::int64_t minimum, std::string_view name, std::int64_t value) {
    if (value < minimum) refuse(name, value, "at least " + std::to_string(minimum));
  };
  expect_at_least(0, "shape.batch", shape.batch);
  expect_at_least(0, "shape.num_kv_heads", shape.num_kv_heads);
  expect_at_least(0, "shape.capacity", shape.capacity);
  expect_at_least(1, "shape.head_dim", shape.head_dim);
  expect_at_least(0, "shape.value_dim", shape.value_dim);
  if (shape.ring && shape.capacity == 0) refuse("shape.capacity", 0, "at least 1 for a ring");
  const auto expect_countable = [&](std::string_view name, std::int64_t features) {
    const std::array extents{shape.batch, shape.num_kv_heads, shape.capacity, features};
    if (count_elements(extents) > kMaximumElements) refuse(name, list_text(extents), kMaximumElementsText);
  };
  expect_countable("shape of keys", shape.head_dim);
  expect_countable("shape of values", shape.value_dim);
}

template <class T>
void validate_append(const KvCacheShape& shape, const NewTokens<T>& tokens, const std::optional<RotaryOptions>& rotary,
                     const std::optional<RotaryTable<T>>& table) {
  const Axis batch{"batch", shape.batch}, heads{"num_kv_heads", shape.num_kv_heads};
  const Axis count{"tokens of key", std::max<std::int64_t>(tokens.key.extent(2), 0)};
  expect_extents("key", tokens.key, {batch, heads, count, {"head_dim", shape.head_dim}});
  expect_extents("value", tokens.value, {batch, heads, count, {"value_dim", shape.value_dim}});
  validate_counts(shape, tokens);
  validate_cache_rotary(shape, tokens, rotary, table);

  bool stores = false;
  for (std::int64_t b = 0; b < shape.batch; ++b) stores = stores || tokens.count(b) > 0;
  const auto expect_outside = [&]<class U, int Rank>(const ArgumentName& name, const TensorView<const U, Rank>& view) {
    const ElementView elements = element_view(view);
    validate_memory(name, elements, stores);
    if (!stores || (!shares_element(elements, element_view(tokens.key_slots)) &&
                    !shares_element(elements, element_view(tokens.value_slots)))) {
      return;
    }
    refuse(name.text(".data"), address_text(elements.address), "a view that shares no element with the cache");
  };
  expect_outside("key", tokens.key);
  expect_outside("value", tokens.value);
  if (table) {
    expect_outside("table.cosine", table->cosine);
    expect_outside("table.sine", table->sine);
  }
}

void validate_truncate(const KvCacheShape& shape, Values wanted, Values first_positions, Values lengths) {
  expect_one_per_sequence("lengths", wanted, shape.batch, "");
  for (std::size_t b = 0; b < wanted.size(); ++b) {
    if (wanted[b] == 0 || (wanted[b] >= first_positions[b] && wanted[b] <= lengths[b])) continue;
    const std::string held = std::to_string(first_positions[b]) + " to " + std::to_string(lengths[b]);
    refuse(ArgumentName("lengths").element_text(b), wanted[b],
           first_positions[b] == 0 ? held + " (length)" : "0 or " + held + " (tokens that the ring holds)");
  }
}

void validate_reorder(const KvCacheShape& shape, Values source) {
  expect_one_per_sequence("source", source, shape.batch, "");
  for (std::size_t b = 0; b < source.size(); ++b) {
    if (source[b] >= 0 && source[b] < shape.batch) continue;
    refuse(ArgumentName("source").element_text(b), source[b],
           "at least 0 and below " + Axis{"batch", shape.batch}.text());
  }
}

template void validate_append(const KvCacheShape&, const NewTokens<float>&, const std::optional<RotaryOptions>&,
                              const std::optional<RotaryTable<float>>&);
template void validate_append(const KvCacheShape&, const NewTokens<double>&, const std::optional<RotaryOptions>&,
                              const std::optional<RotaryTable<double>>&);

}  // namespace headwise::detail
