// The rows of one tile: which head and query each of them is, where it lies in a view, which keys it attends.
#pragma once

#include <algorithm>
#include <cstdint>

#include "drivers/attention_call.hpp"

namespace headwise::detail {

template <class T, class KV>
class TileRowSet {
 public:
  TileRowSet(const AttentionCall<T, KV>& call, const Sequence& sequence, std::int64_t kv_head, const TileRows& rows)
      : call_(call),
        sequence_(sequence),
        kv_head_(kv_head),
        first_row_(rows.first),
        group_(call.group),
        first_query_(rows.first < group_ ? 0 : rows.first / group_),
        first_group_head_(rows.first - first_query_ * group_),
        rows_(rows.count) {}

 protected:
  /// Calls f(r, index) for every row of the tile.
  template <class Function>
  void for_rows(Function&& function) const {
    const std::int64_t first_head = kv_head_ * group_;
    std::int64_t query = first_query_, head = first_group_head_;
    for (int r = 0; r < rows_; ++r) {
      function(r, RowIndex{first_head + head, query});
      if (++head == group_) head = 0, ++query;
    }
  }

  /// The first row of the tile.
  RowIndex first_row() const { return {kv_head_ * group_ + first_group_head_, first_query_}; }

  /// Addresses of the tile's rows in a view, by steps from its first row; computed one by one they would take a tenth
  /// of the time of a tile of 64 keys.
  template <class U>
  void locate_rows(U* first, std::int64_t head_stride, std::int64_t query_stride, U** rows) const {
    if (group_ == 1) {
#pragma GCC unroll 4
      for (U** const end = rows + rows_; rows < end; first += query_stride) *rows++ = first;
      return;
    }
    std::int64_t head = first_group_head_, offset = 0;
    for (int r = 0; r < rows_; ++r) {
      rows[r] = first + offset;
      if (++head == group_) {
        head = 0;
        offset += query_stride - (group_ - 1) * head_stride;
      } else {
        offset += head_stride;
      }
    }
  }

  template <class U>
  void locate_token_rows(const TensorView<U, 4>& view, U** rows) const {
    locate_rows(call_.token_row(view, sequence_, first_row()), view.stride(1), view.stride(2), rows);
  }

  template <class U>
  void locate_score_rows(const TensorView<U, 4>& view, U** rows) const {
    locate_rows(call_.score_row(view, sequence_, first_row()), view.stride(1), view.stride(2), rows);
  }

  /// Each row's attended keys relative to a block.
  void limit_rows(KeyRange block, int* first_key, int* last_key) const {
    const auto keys = static_cast<int>(block.end - block.begin);
    const KeyBounds bounds = call_.bounds(sequence_, first_query_);
    const int begin = distance_to(bounds.begin, block.begin), end = distance_to(bounds.end, block.begin);
    const auto set = [=](int r, int query) {
      first_key[r] = std::clamp(begin + query, 0, keys);
      last_key[r] = std::clamp(end + query, 0, keys);
    };
    const int count = rows_;
    if (group_ == 1) {
      for (int r = 0; r < count; ++r) set(r, r);
    } else {
      int query = 0;
      std::int64_t head = first_group_head_;
      for (int r = 0; r < count; ++r) {
        set(r, query);
        if (++head == group_) head = 0, ++query;
      }
    }
  }

  const AttentionCall<T, KV>& call_;
  const Sequence sequence_;
  const std::int64_t kv_head_;
  const std::int64_t first_row_;
  const std::int64_t group_;
  const std::int64_t first_query_;
  const std::int64_t first_group_head_;
  const int rows_;

 private:
  /// key − origin, or so far off that it is outside of any block.
  static int distance_to(std::int64_t key, std::int64_t origin) {
    constexpr std::int64_t far = 1 << 30;
    std::int64_t distance;
    if (__builtin_sub_overflow(key, origin, &distance)) return static_cast<int>(-far);
    return static_cast<int>(std::clamp(distance, -far, far));
  }
};

}  // namespace headwise::detail
