/// \file
/// What the tests of the kernels share: the kernels in use, operands and tiles that end at guard pages, and errors
/// measured against what is allowed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/dispatch.hpp"
#include "plan/key_blocks.hpp"
#include "support/error_bound.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"

namespace headwise::test {

/// The kernels of the instruction set in use; CTest runs the program once for each.
template <class T>
const detail::KernelTable<T, T>& kernels() {
  return *detail::kernel_table<T, T>(detail::active_instruction_set());
}

/// What results of type T are compared in.
template <class T>
using Wide = std::conditional_t<sizeof(T) == 4, double, long double>;

template <class T>
inline constexpr T infinity = std::numeric_limits<T>::infinity();

template <class T>
inline constexpr T quiet_nan = std::numeric_limits<T>::quiet_NaN();

/// Fills an operand with normally distributed numbers.
template <class T>
void fill_normal(Random& random, const GuardedBuffer<T>& buffer, double factor = 1) {
  std::generate_n(buffer.data(), buffer.size(), [&] { return static_cast<T>(factor * random.normal()); });
}

/// A copy to compare with same_bits.
template <class T>
std::vector<T> copied(const T* data, std::int64_t count) {
  return {data, data + count};
}

template <class T>
bool is_poison(T element) {
  return std::bit_cast<BitsOf<T>>(element) == poison_bits<T>;
}

/// The largest of many errors, as a share of what is allowed; NaN or infinity where a result is none of the expected.
class ErrorShare {
 public:
  template <class Real>
  void add(Real actual, Real exact, Real allowed) {
    const Real error = std::abs(actual - exact);
    const double share = error == 0 ? 0 : static_cast<double>(error / allowed);
    if (!(share <= largest_) && !std::isnan(largest_)) largest_ = share;
  }
  double largest() const { return largest_; }

 private:
  double largest_ = 0;
};

/// A tile of the workspace: packed query, scores and row state, everything poison but the state's initial values.
template <class T>
struct Tile {
  Tile(int tile_row_count, int query_head_dim, int block_keys)
      : rows(tile_row_count),
        row_stride((rows + kernels<T>().lanes - 1) / kernels<T>().lanes * kernels<T>().lanes),
        head_dim(query_head_dim),
        keys(block_keys),
        query(std::int64_t{head_dim} * row_stride, Placement::before_guard),
        scores(std::int64_t{keys} * row_stride, Placement::before_guard),
        state_memory(std::int64_t{7} * row_stride, Placement::before_guard) {
    T* array = state_memory.data();
    for (T** member : {&state.reference, &state.sum, &state.maximum, &state.factor, &state.inverse, &state.key_begin,
                       &state.key_end}) {
      *member = array;
      array += row_stride;
    }
    std::fill_n(state.reference, row_stride, -infinity<T>);
    std::fill_n(state.sum, row_stride, T(0));
    attend_all();
  }

  int vectors() const { return row_stride / kernels<T>().lanes; }

  /// Every row attends every key.
  void attend_all() {
    spans = {{.first_key = 0, .keys = keys, .first_vector = 0, .vectors = vectors()}};
  }

  /// Row r attends the keys range[r] of the block; ranges do not decrease.
  void attend(const std::vector<detail::KeyRange>& range) {
    std::vector<int> first, last;
    for (int r = 0; r < row_stride; ++r) {
      const detail::KeyRange own = r < rows ? range[static_cast<std::size_t>(r)] : detail::KeyRange{0, 0};
      state.key_begin[r] = static_cast<T>(own.begin);
      state.key_end[r] = static_cast<T>(own.end);
      first.push_back(static_cast<int>(own.begin));
      last.push_back(static_cast<int>(own.end));
    }
    const int lanes = kernels<T>().lanes;
    spans.resize(static_cast<std::size_t>(detail::max_spans(keys, lanes)));
    const int count = detail::make_spans({first.data(), last.data(), rows}, lanes, keys, spans.data());
    spans.resize(static_cast<std::size_t>(count));
  }

  /// Whether a span holds the pair.
  bool covers(int key, int row) const {
    const int vector = row / kernels<T>().lanes;
    return std::any_of(spans.begin(), spans.end(), [&](const detail::KeySpan& span) {
      return key >= span.first_key && key < span.first_key + span.keys && vector >= span.first_vector &&
             vector < span.first_vector + span.vectors;
    });
  }

  /// Whether a span masks the pair out.
  bool excludes(int key, int row) const {
    const int vector = row / kernels<T>().lanes;
    return std::any_of(spans.begin(), spans.end(), [&](const detail::KeySpan& span) {
      if (key < span.first_key || key >= span.first_key + span.keys) return false;
      const int end = span.first_vector + span.vectors;
      const bool begins = vector >= end - span.begin_vectors && vector < end;
      const bool ends = vector >= span.first_vector && vector < span.first_vector + span.end_vectors;
      return (begins && static_cast<T>(key) < state.key_begin[row]) || (ends && static_cast<T>(key) >= state.key_end[row]);
    });
  }

  /// Values are only prefetched, which never faults: they point at an unreadable page.
  detail::BlockArguments<T, T> block(detail::Rows<T> key = {nullptr, 0}) const {
    return {.query = query.data(),
            .row_stride = row_stride,
            .head_dim = head_dim,
            .key = key,
            .value = {scores.data() + scores.size(), 1 << 20},
            .spans = spans.data(),
            .num_spans = static_cast<int>(spans.size()),
            .scores = scores.data(),
            .state = state};
  }

  T& score(int key, int row) const { return scores.data()[std::int64_t{key} * row_stride + row]; }

  int rows, row_stride, head_dim, keys;
  GuardedBuffer<T> query, scores, state_memory;
  detail::RowState<T> state{};
  std::vector<detail::KeySpan> spans;
};

}  // namespace headwise::test
