// What the score kernel prefetches: the keys it reads next, the values, and rows that are read or written later.
#pragma once

#include <algorithm>

#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// Upcoming rows, prefetched in shares: a row at a time between parts of the product, because many misses at once hold
/// up its own loads.
template <class T>
class UpcomingShare {
 public:
  /// Nothing.
  UpcomingShare() = default;

  /// All rows, in shares of a register tile each.
  UpcomingShare(const UpcomingRows<T>& rows, int tiles) : upcoming_(rows) {
    if (rows.rows == nullptr || tiles == 0) return;
    end_ = rows.num_rows;
    share_ = (end_ + tiles - 1) / tiles;
  }

  HEADWISE_INLINE void begin_tile() { due_ = std::min(due_ + share_, end_); }
  HEADWISE_INLINE void prefetch_row() {
    if (next_ == due_) return;
    constexpr int line = 64 / static_cast<int>(sizeof(T));
    const T* row = upcoming_.rows[next_++] + upcoming_.offset;
    for (int i = 0; i < upcoming_.elements; i += line) {
      if (upcoming_.written) prefetch_to_write(row + i);
      else prefetch_far(row + i);
    }
  }
  HEADWISE_INLINE void end_tile() {
    while (next_ < due_) prefetch_row();
  }

 private:
  UpcomingRows<T> upcoming_ = {};
  int next_ = 0;   ///< row
  int due_ = 0;    ///< rows to have been prefetched by the end of the register tile
  int share_ = 0;
  int end_ = 0;
};

/// All rows that a block names.
template <class T>
struct UpcomingShares {
  UpcomingShare<T> scores;
  UpcomingShare<std::uint8_t> mask;
  UpcomingShare<T> query;

  HEADWISE_INLINE void begin_tile() { scores.begin_tile(), mask.begin_tile(), query.begin_tile(); }
  HEADWISE_INLINE void prefetch_row() { scores.prefetch_row(), mask.prefetch_row(), query.prefetch_row(); }
  HEADWISE_INLINE void end_tile() { scores.end_tile(), mask.end_tile(), query.end_tile(); }
};

/// Rows that are prefetched while as many keys are scored: the next keys into the first level, what is read later into
/// the second.
template <class T>
struct PrefetchedRows {
  Rows<T> near;
  Rows<T> far;
  Rows<T> far_too;  ///< null: none
  UpcomingShares<T> upcoming;

  HEADWISE_INLINE void advance(int rows) {
    near.data += rows * near.stride;
    far.data += rows * far.stride;
    if (far_too.data != nullptr) far_too.data += rows * far_too.stride;
  }
};

/// `upcoming`: the span is the one that prefetches upcoming rows, too.
template <class T>
PrefetchedRows<T> prefetched_rows(const BlockArguments<T, T>& block, const KeySpan& span, bool upcoming) {
  const int tile_keys = Isa::score_keys(span.vectors), tiles = upcoming ? span.keys / tile_keys : 0;
  PrefetchedRows<T> rows{
      block.key,
      block.next_value.data != nullptr ? block.next_value : block.value,
      block.next_key,
      {{block.upcoming, tiles}, {block.upcoming_mask, tiles}, {block.upcoming_query, tiles}}};
  rows.advance(span.first_key);
  rows.near.data += tile_keys * block.key.stride;
  return rows;
}

/// A cache line of `Count` rows, `offset` elements in.
template <int Count, bool Near, class T>
HEADWISE_INLINE void prefetch_lines(const Rows<T>& rows, int offset) {
  const T* line = rows.data + offset;
  static_for<Count>([&](auto) __attribute__((always_inline)) {
    if constexpr (Near) prefetch_near(line);
    else prefetch_far(line);
    line += rows.stride;
  });
}

}  // namespace
}  // namespace headwise::detail
