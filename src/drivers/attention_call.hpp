// One attention call as the drivers see it: arguments that have been checked, decisions that have been made.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "headwise/attention.hpp"
#include "kernels/kernel_table.hpp"
#include "plan/key_blocks.hpp"
#include "plan/tile_plan.hpp"

namespace headwise::detail {

/// One batch entry.
struct Sequence {
  std::int64_t batch;         ///< of scores-shaped views and per-entry spans
  std::int64_t tensor_batch;  ///< of query, key, value, output and logsumexp: 0 when ragged
  std::int64_t first_query;   ///< along their position axis
  std::int64_t query_length;
  std::int64_t first_key;
  std::int64_t key_length;
  std::int64_t offset;  ///< position of query 0
};

/// One row: a query of a head.
struct RowIndex {
  std::int64_t head;
  std::int64_t query;
};

/// Keys of consecutive positions [begin, end) that lie in memory with one stride, and their values.
template <class KV>
struct KeyPiece {
  std::int64_t begin;
  std::int64_t end;
  const KV* key;
  std::int64_t key_stride;
  std::int64_t key_feature_stride;
  const KV* value;
  std::int64_t value_stride;
  std::int64_t value_feature_stride;
};

/// The stride of an axis, but of one with at most one element, whose stride may hold anything, one that is safe to
/// multiply: 0, which broadcasts inputs, or next to each other for features.
template <class T, int Rank>
std::int64_t used_stride(const TensorView<T, Rank>& view, int axis) {
  if (view.extent(axis) > 1) return view.stride(axis);
  return Rank == 4 && axis == Rank - 1 ? 1 : 0;
}

template <class T, class KV>
struct AttentionCall {
  const AttentionShape& shape;  ///< of this call: key_length is its own, not the plan's maximum
  const AttentionOptions& options;
  const AttentionArguments<T, KV>& arguments;
  const KernelTable<T, KV>& kernels;
  double scale;
  int num_threads;
  std::int64_t group = shape.num_heads / shape.num_kv_heads;  ///< heads that share keys and values

  bool is_ragged() const { return !arguments.query_starts.empty(); }
  KernelPath path(const Sequence& sequence) const {
    return choose_path(folded_rows(sequence.query_length, group), kernels.lanes);
  }

  Sequence sequence(std::int64_t batch) const {
    const auto at = static_cast<std::size_t>(batch);
    Sequence result{batch, batch, 0, shape.query_length, 0, shape.key_length, 0};
    if (is_ragged()) {
      result.tensor_batch = 0;
      result.first_query = arguments.query_starts[at];
      result.query_length = arguments.query_starts[at + 1] - result.first_query;
      result.first_key = arguments.key_starts[at];
      result.key_length = arguments.key_starts[at + 1] - result.first_key;
    }
    if (!arguments.key_runs.empty()) {
      result.key_length = 0;
      for (const KeyRun<KV>& run : arguments.key_runs) {
        if (run.length[at] > 0) result.key_length = run.first_position[at] + run.length[at];
      }
    }
    if (!arguments.key_lengths.empty()) result.key_length = arguments.key_lengths[at];
    if (options.query_position == QueryPosition::bottom_right) result.offset = result.key_length - result.query_length;
    if (options.query_position == QueryPosition::given) result.offset = arguments.query_offsets[at];
    return result;
  }

  /// Position of a query; one beyond 64 bits stands behind every key.
  std::int64_t position(const Sequence& sequence, std::int64_t query) const {
    std::int64_t position;
    return __builtin_add_overflow(query, sequence.offset, &position) ? std::numeric_limits<std::int64_t>::max()
                                                                     : position;
  }

  /// Whether rows of a sequence attend different keys, mask and bias aside.
  bool limits_keys() const { return options.causal || options.window.left >= 0 || options.window.right >= 0; }

  /// Keys that query `query` of a sequence attends as far as causality and window tell.
  KeyBounds bounds(const Sequence& sequence, std::int64_t query) const {
    return key_bounds(position(sequence, query), options.causal, options.window);
  }

  /// … and lengths.
  KeyRange keys(const Sequence& sequence, std::int64_t query) const {
    return attended_keys(position(sequence, query), options.causal, options.window, sequence.key_length);
  }

  /// The piece that holds key `position`, from there on, or the next one behind a gap; empty behind the last key there is.
  /// Keys beyond the sequence's length belong to it: raw scores are asked of them, too.
  KeyPiece<KV> piece(const Sequence& sequence, std::int64_t kv_head, std::int64_t position) const {
    if (arguments.key_runs.empty()) {
      return piece_of(arguments.key, arguments.value, sequence.tensor_batch, kv_head, sequence.first_key + position,
                      {position, is_ragged() ? sequence.key_length : shape.key_length});
    }
    const auto at = static_cast<std::size_t>(sequence.batch);
    for (const KeyRun<KV>& run : arguments.key_runs) {
      const std::int64_t first = run.first_position[at], end = first + run.length[at];
      if (run.length[at] == 0 || end <= position) continue;
      const std::int64_t begin = first < position ? position : first;
      return piece_of(run.key, run.value, sequence.tensor_batch, kv_head, run.first_slot[at] + begin - first,
                      {begin, end});
    }
    KeyPiece<KV> none{};
    none.begin = none.end = sequence.key_length;
    return none;
  }

  double output_bytes() const {
    double elements = 1;
    for (const std::int64_t extent : arguments.output.extents) elements *= static_cast<double>(extent);
    return elements * sizeof(T);
  }

  /// Address of a row in query, output or logsumexp.
  template <class U, int Rank>
  U* token_row(const TensorView<U, Rank>& view, const Sequence& sequence, const RowIndex& row) const {
    return view.data + sequence.tensor_batch * view.stride(0) + row.head * view.stride(1) +
           (sequence.first_query + row.query) * view.stride(2);
  }

  /// Address of a row in a scores-shaped view.
  template <class U>
  U* score_row(const TensorView<U, 4>& view, const Sequence& sequence, const RowIndex& row) const {
    return view.data + sequence.batch * view.stride(0) + row.head * view.stride(1) + row.query * view.stride(2);
  }

 private:
  static KeyPiece<KV> piece_of(const TensorView<const KV, 4>& key, const TensorView<const KV, 4>& value,
                               std::int64_t batch, std::int64_t kv_head, std::int64_t slot, KeyRange positions) {
    // Values without features may be null, but their addresses are formed and prefetched all the same.
    const KV* const first_value = value.data != nullptr ? value.data : key.data;
    return {positions.begin,
            positions.end,
            key.data + batch * used_stride(key, 0) + kv_head * used_stride(key, 1) + slot * used_stride(key, 2),
            used_stride(key, 2),
            used_stride(key, 3),
            first_value + batch * used_stride(value, 0) + kv_head * used_stride(value, 1) + slot * used_stride(value, 2),
            used_stride(value, 2),
            used_stride(value, 3)};
  }
};

/// The softcap in units of 1/unit, 0 = off; kept within a range where neither it nor its inverse leaves the type.
template <class T>
T softcap_in(double softcap, double unit) {
  if (softcap == 0) return T(0);
  constexpr double smallest = static_cast<double>(std::numeric_limits<T>::min());
  constexpr double largest = sizeof(T) == 4 ? 0x1p100 : 0x1p1000;
  const double scaled = softcap * unit;
  return static_cast<T>(scaled < smallest ? smallest : scaled > largest ? largest : scaled);
}

/// ln Σ exp of a row from its base-2 reference and sum; −∞ for a dead row.
template <class T>
T natural_logsumexp(T reference, T sum) {
  if (sum == T(0)) return -std::numeric_limits<T>::infinity();
  return static_cast<T>(static_cast<double>(reference) * std::numbers::ln2 + std::log(static_cast<double>(sum)));
}

/// About the largest number whose product with log2(e) is finite in T.
template <class T>
constexpr double largest_in_base_2 = static_cast<double>(std::numeric_limits<T>::max()) / std::numbers::log2e *
                                     (1 - std::numeric_limits<double>::epsilon());
static_assert(largest_in_base_2<double> * std::numbers::log2e > 0);  // a constant: it does not overflow

/// State of the online softmax of a row before its first key: nothing, or its head's sink, in base 2.
template <class T>
struct InitialState {
  T reference = -std::numeric_limits<T>::infinity();
  T sum = T(0);
};

template <class T>
InitialState<T> initial_state(std::span<const T> sinks, std::int64_t head) {
  if (sinks.empty()) return {};
  const T sink = sinks[static_cast<std::size_t>(head)];
  if (sink == -std::numeric_limits<T>::infinity()) return {};
  // An infinite or NaN logit leaves nothing to divide by: the row is NaN, as with such a score.
  if (!std::isfinite(sink)) return {T(0), std::numeric_limits<T>::quiet_NaN()};
  const double logit = std::clamp(static_cast<double>(sink), -largest_in_base_2<T>, largest_in_base_2<T>);
  return {static_cast<T>(logit * std::numbers::log2e), T(1)};
}

}  // namespace headwise::detail
