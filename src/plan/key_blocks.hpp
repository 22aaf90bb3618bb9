// Which keys a row attends, how a tile's keys are cut into blocks, and which rectangles of a block are computed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "headwise/attention.hpp"
#include "kernels/kernel_table.hpp"
#include "plan/tile_plan.hpp"

namespace headwise::detail {

/// Keys [begin, end); empty where end ≤ begin.
struct KeyRange {
  std::int64_t begin;
  std::int64_t end;

  bool empty() const { return end <= begin; }
  friend bool operator==(const KeyRange&, const KeyRange&) = default;
};

/// The same, of keys that need not exist: from −2^63 or up to 2^63 − 1 where nothing bounds them.
struct KeyBounds {
  std::int64_t begin = std::numeric_limits<std::int64_t>::min();
  std::int64_t end = std::numeric_limits<std::int64_t>::max();
};

/// The keys that a query at `position` (which may be negative) attends: at most its own position if causal, and within
/// the window. Every step of the position moves them by one.
inline KeyBounds key_bounds(std::int64_t position, bool causal, const Window& window) {
  KeyBounds bounds;
  const std::int64_t right = causal ? 0 : window.right;
  std::int64_t bound;
  // A bound beyond 64 bits excludes nothing on its side.
  if (right >= 0 && !__builtin_add_overflow(position, right, &bound) && bound < bounds.end) bounds.end = bound + 1;
  if (window.left >= 0 && !__builtin_sub_overflow(position, window.left, &bound)) bounds.begin = bound;
  return bounds;
}

/// Those of them that exist, among `key_length`.
inline KeyRange attended_keys(std::int64_t position, bool causal, const Window& window, std::int64_t key_length) {
  const KeyBounds bounds = key_bounds(position, causal, window);
  return {std::clamp<std::int64_t>(bounds.begin, 0, key_length), std::clamp<std::int64_t>(bounds.end, 0, key_length)};
}

/// End of the block that starts at `begin`: blocks end at multiples of block_keys, so that boundaries depend on positions
/// only, but a block takes up to max_block_keys rather than leave a short one, first or last. Where a window begins,
/// rows do so within one block then.
std::int64_t block_end(std::int64_t begin, std::int64_t end, int block_keys, int max_block_keys);

/// Most spans that make_spans gives for a block of `keys` keys.
constexpr int max_spans(int keys, int lanes) { return keys / edge_step(lanes) + 1; }

/// The keys [first_key[r], last_key[r]) that each row of a tile attends in a block; neither decreases. Null: all keys.
struct RowLimits {
  const int* first_key;
  const int* last_key;
  int rows;
};

/// Cuts the `keys` keys of a block into spans, in steps where rows begin or end inside it, which leave out the row
/// vectors that attend none of their keys. Steps are whole, counted from the ends of the block inwards: short ones
/// leave register tiles with too few sums to keep the multipliers busy. Returns the number of spans.
int make_limited_spans(const RowLimits& limits, int lanes, int keys, KeySpan* spans);

/// The same where there may be no limits: one span then.
inline int make_spans(const RowLimits& limits, int lanes, int keys, KeySpan* spans) {
  if (limits.first_key != nullptr) return make_limited_spans(limits, lanes, keys, spans);
  spans[0] = {.first_key = 0,
              .keys = keys,
              .first_vector = 0,
              .vectors = static_cast<int>(vectors_for(limits.rows, lanes))};
  return 1;
}

}  // namespace headwise::detail
