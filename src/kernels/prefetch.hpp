// What the score kernel prefetches: the keys it reads next, the values, and rows that are read or written later.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// Upcoming rows, prefetched in shares of a register tile, and each share a row at a time between parts of the product,
/// because many misses at once hold up its own loads.
class UpcomingQueue {
 public:
  /// All rows of all sets, in so many register tiles, of which none takes rows of two sets.
  UpcomingQueue(const UpcomingSets& upcoming, int tiles) {
    if (upcoming.count == 0 || tiles == 0) return;
    set_ = upcoming.sets, last_ = set_ + upcoming.count - 1;
    int rows = 0;
    for (const UpcomingRows* set = set_; set <= last_; ++set) rows += set->num_rows;
    const int shares = std::max(1, tiles - (upcoming.count - 1));
    share_ = (rows + shares - 1) / shares;
  }

  HEADWISE_INLINE void begin_tile() {
    if (set_ == nullptr) return;
    if (next_ == set_->num_rows && set_ != last_) ++set_, next_ = due_ = 0;
    due_ = std::min(due_ + share_, set_->num_rows);
  }
  HEADWISE_INLINE void prefetch_row() {
    if (next_ == due_) return;
    constexpr int entry = sizeof(const char*);
    const char* line;
    std::memcpy(&line, static_cast<const char*>(set_->rows) + entry * next_++, entry);
    line += set_->offset;
    for (const char* const end = line + set_->bytes; line < end; line += 64) {
      if (set_->written) prefetch_to_write(line);
      else prefetch_far(line);
    }
  }
  HEADWISE_INLINE void end_tile() {
    while (next_ != due_) prefetch_row();
  }

 private:
  const UpcomingRows* set_ = nullptr;
  const UpcomingRows* last_ = nullptr;
  int next_ = 0;  ///< row of the set
  int due_ = 0;   ///< rows of it to have been prefetched by the end of the register tile
  int share_ = 0;
};

/// Rows that are prefetched while as many keys are scored: the next keys into the first level, what is read later into
/// the second.
template <class T>
struct PrefetchedRows {
  Rows<T> near;
  Rows<T> far;
  Rows<T> far_too;  ///< null: none
  UpcomingQueue upcoming;

  HEADWISE_INLINE void advance(int rows) {
    near.data += rows * near.stride;
    far.data += rows * far.stride;
    if (far_too.data != nullptr) far_too.data += rows * far_too.stride;
  }
};

/// `upcoming`: the span is the one that prefetches upcoming rows, too.
template <class T>
PrefetchedRows<T> prefetched_rows(const BlockArguments<T, T>& block, const KeySpan& span, bool upcoming) {
  const int tile_keys = Isa::score_keys(span.vectors), tiles = upcoming && block.upcoming.count > 0 ? span.keys / tile_keys : 0;
  PrefetchedRows<T> rows{block.key,
                         block.next_value.data != nullptr ? block.next_value : block.value,
                         block.next_key,
                         {block.upcoming, tiles}};
  rows.advance(span.first_key);
  rows.near.data += tile_keys * block.key.stride;
  return rows;
}

/// A cache line of `Count` rows, `offset` elements in.
template <int Count, bool Near, class T>
HEADWISE_INLINE void prefetch_lines(const Rows<T>& rows, int offset) {
  // Opaque: else all rows' addresses are computed ahead of the product, kept in memory and read again for every line.
  const T* line = opaque(rows.data + offset);
  static_for<Count>([&](auto) __attribute__((always_inline)) {
    if constexpr (Near) prefetch_near(line);
    else prefetch_far(line);
    line += rows.stride;
  });
}

}  // namespace
}  // namespace headwise::detail
