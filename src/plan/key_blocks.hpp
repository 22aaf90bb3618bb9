// Which keys a row attends, how a tile's keys are cut into blocks, and which rectangles of a block are computed.
#pragma once

#include <algorithm>
#include <cstdint>

#include "headwise/attention.hpp"
#include "kernels/kernel_table.hpp"

namespace headwise::detail {

/// Keys [begin, end); empty where end ≤ begin.
struct KeyRange {
  std::int64_t begin;
  std::int64_t end;

  bool empty() const { return end <= begin; }
  friend bool operator==(const KeyRange&, const KeyRange&) = default;
};

/// The keys that a query at `position` (which may be negative) attends among `key_length`: at most its own position if
/// causal, and within the window.
inline KeyRange attended_keys(std::int64_t position, bool causal, const Window& window, std::int64_t key_length) {
  KeyRange range{0, key_length};
  const std::int64_t right = causal ? 0 : window.right;
  std::int64_t bound;
  // A bound beyond 64 bits excludes nothing on its side.
  if (right >= 0 && !__builtin_add_overflow(position, right, &bound) && bound < key_length) {
    range.end = std::max<std::int64_t>(bound + 1, 0);
  }
  if (window.left >= 0 && !__builtin_sub_overflow(position, window.left, &bound)) {
    range.begin = std::clamp<std::int64_t>(bound, 0, key_length);
  }
  return range;
}

/// End of the block that starts at `begin`: blocks end at multiples of block_keys, so that boundaries depend on positions
/// only; what is left takes up to max_block_keys at once rather than as a short last block.
std::int64_t block_end(std::int64_t begin, std::int64_t end, int block_keys, int max_block_keys);

/// Keys of a step where rows begin or end inside a block: consecutive queries shift by a whole vector in `lanes` keys.
constexpr int edge_step(int lanes) { return lanes < 8 ? 8 : lanes; }

/// Most spans that make_spans gives for a block of `keys` keys.
constexpr int max_spans(int keys, int lanes) { return keys / edge_step(lanes) + 3; }

/// Cuts the keys of a block into spans, in steps where rows begin or end inside it. Steps leave out the row vectors that
/// attend none of their keys. Returns the number of spans.
/// \param range  keys of each row, begin and end not decreasing
/// \param block  the block's keys, within the union of the ranges
/// \param interior the keys that all rows attend
int make_spans(const KeyRange* range, int rows, int lanes, KeyRange block, KeyRange interior, KeySpan* spans);

}  // namespace headwise::detail
