// A tile of queries and the only block of their keys at once: the same steps as a driver takes with the kernels of each,
// and the same bits; there is nothing to look up between them.
#pragma once

#include "kernels/pack.hpp"
#include "kernels/scores.hpp"
#include "kernels/softmax.hpp"
#include "kernels/values.hpp"

namespace headwise::detail {
namespace {

/// Where the rows of a tile lie, and the state of their softmax.
template <class T>
struct TileState {
  static constexpr int most_rows = Isa::tile_vectors * lanes<T>;
  const T* query[most_rows];
  T* output[most_rows];
  T reference[most_rows], sum[most_rows], maximum[most_rows], inverse[most_rows];
  int last_key[most_rows];  ///< keys that a row attends, only where not all rows attend all
  T key_end[most_rows];     ///< the same as a number
};

/// So few keys that are in the second level come in time by themselves: prefetching them as well costs tiles of 16 and 32
/// rows up to 8 %. Where the caches do not hold the operands, leaving it out costs 5 to 16 %.
constexpr int few_keys = 4 * Isa::score_keys(1);

/// Scores of `keys` keys from `first_key` on and the rows from `row` on, and the largest of each.
template <class T, int Vectors>
HEADWISE_INLINE void score_keys_of(const TileArguments<T, T>& tile, const UpcomingSets& upcoming, int row_stride, int row,
                                   int first_key, int keys, const PairMask<T>* mask, TileState<T>& state) {
  constexpr int tile_keys = Isa::score_keys(Vectors);
  const T* const key = tile.key.data + first_key * tile.key.stride;
  const PrefetchedRows<T> prefetched{{key + tile_keys * tile.key.stride, tile.key.stride},
                                     {tile.value.data + first_key * tile.value.stride, tile.value.stride},
                                     {nullptr, 0},
                                     {upcoming, keys / tile_keys}};
  const bool fetch = tile.fetch_output || keys > few_keys;
  const ScoreSpan<T> span{.query = tile.packed + row,
                          .row_stride = row_stride,
                          .head_dim = tile.head_dim,
                          .key_stride = tile.key.stride,
                          .mask = mask,
                          .fetch_keys = fetch,
                          .fetch_values = fetch && fetches_values(Vectors, keys)};
  score_span<T, Vectors>(span, key, prefetched, first_key, keys,
                         tile.scores + static_cast<std::int64_t>(first_key) * row_stride + row, state.maximum + row);
}

/// References and sums of one vector of rows before the first key.
template <class T>
HEADWISE_INLINE void start_weights(TileState<T>& state, int row) {
  const Vector<T> largest = load(state.maximum + row), none(-infinity<T>);
  store(state.reference + row, xsimd::select(largest > none, largest, none));
  store(state.sum + row, Vector<T>(T(0)));
}

/// Weights where all rows attend all keys.
template <class T>
HEADWISE_INLINE void weigh_all_keys(const TileArguments<T, T>& tile, const UpcomingSets& upcoming, int row_stride,
                                    TileState<T>& state) {
  with_vectors(row_stride / lanes<T>, [&](auto vectors) {
    constexpr int stride = vectors * lanes<T>;
    score_keys_of<T, vectors>(tile, upcoming, stride, 0, 0, tile.keys, nullptr, state);
    static_for<vectors>([&](auto v) __attribute__((always_inline)) { start_weights(state, v * lanes<T>); });
    weigh_span<T, vectors, false>({tile.scores, stride, tile.keys, state.reference, state.sum});
  });
}

/// Sets the limits of rows, and cuts the keys into those that all rows attend, and steps from where rows end, which leave
/// out the row vectors that attend none of their keys: the spans of plan/key_blocks.hpp, but from one number instead of
/// tables of all rows. Returns how many.
template <class T>
int limit_rows(const TileArguments<T, T>& tile, int row_stride, TileState<T>& state, KeySpan* spans) {
  constexpr int step = edge_step(lanes<T>);
  const int vectors = row_stride / lanes<T>, keys = tile.keys, first = tile.first_row_keys;
  for (int r = 0; r < row_stride; ++r) state.last_key[r] = std::clamp(first + r, 0, keys);
  for (int r = 0; r < row_stride; ++r) state.key_end[r] = static_cast<T>(state.last_key[r]);
  const int steps = (keys - state.last_key[0] + step - 1) / step;
  int key = std::max(0, keys - steps * step), count = 0;
  if (key > 0) spans[count++] = {.first_key = 0, .keys = key, .first_vector = 0, .vectors = vectors};
  const auto vectors_before = [&](int row) { return std::clamp(row / lanes<T>, 0, vectors - 1); };
  for (; key < keys; key += step) {
    const int begin = vectors_before(key + 1 - first), end = std::min(key + step, keys);
    spans[count++] = {.first_key = key,
                      .keys = end - key,
                      .first_vector = begin,
                      .vectors = vectors - begin,
                      .end_vectors = vectors_before(end - 1 - first) + 1 - begin};
  }
  return count;
}

/// … where not all rows attend all keys.
template <class T>
[[gnu::noinline]] void weigh_limited_keys(const TileArguments<T, T>& tile, const UpcomingSets& upcoming, int row_stride,
                                          TileState<T>& state) {
  KeySpan spans[max_block_keys / edge_step(lanes<T>) + 1];
  const int num_spans = limit_rows(tile, row_stride, state, spans);
  const int longest = num_spans > 1 && spans[0].keys < spans[1].keys ? 1 : 0;  // steps are equally long
  for (int s = 0; s < num_spans; ++s) {
    const KeySpan& span = spans[s];
    const int row = span.first_vector * lanes<T>;
    const PairMask<T> mask = limit_mask(span, static_cast<const T*>(nullptr), state.key_end + row);
    with_vectors(span.vectors, [&](auto vectors) {
      score_keys_of<T, vectors>(tile, s == longest ? upcoming : UpcomingSets{}, row_stride, row, span.first_key, span.keys,
                                span.end_vectors > 0 ? &mask : nullptr, state);
    });
  }
  for (int row = 0; row < row_stride; row += lanes<T>) start_weights(state, row);
  for (int s = 0; s < num_spans; ++s) {
    const KeySpan& span = spans[s];
    const int row = span.first_vector * lanes<T>;
    with_vectors(span.vectors, [&](auto vectors) {
      weigh_span<T, vectors, false>({tile.scores + static_cast<std::int64_t>(span.first_key) * row_stride + row, row_stride,
                                     span.keys, state.reference + row, state.sum + row});
    });
    clear_outside(tile.scores, row_stride, span, T(0));
  }
}

template <class T>
void attend_tile(const TileArguments<T, T>& tile) {
  TileState<T> state;
  const T* from = tile.query.data;
  T* to = tile.output;
  for (int r = 0; r < tile.rows; ++r, from += tile.query.stride, to += tile.output_stride) {
    state.query[r] = from;
    state.output[r] = to;
  }
  UpcomingSets upcoming;
  if (tile.fetch_output) upcoming.add(state.output, 0, tile.rows, tile.value_vectors * lanes<T>, true);
  if (tile.next_query != nullptr) upcoming.add(state.query, tile.next_query - tile.query.data, tile.rows, tile.head_dim);
  const int row_stride = (tile.rows + lanes<T> - 1) / lanes<T> * lanes<T>;
  pack_query(state.query, 1, tile.rows, tile.head_dim, tile.factor, tile.packed, row_stride);
  for (int row = 0; row < row_stride; row += lanes<T>) store(state.maximum + row, Vector<T>(-infinity<T>));
  const bool limited = tile.first_row_keys < tile.keys;
  if (limited) [[unlikely]] weigh_limited_keys(tile, upcoming, row_stride, state);
  else weigh_all_keys(tile, upcoming, row_stride, state);
  finish<T>({state.reference, state.sum, state.maximum, nullptr, state.inverse, nullptr, nullptr}, row_stride);
  values<T>({.weights = tile.scores,
             .row_stride = row_stride,
             .keys = tile.keys,
             .value = tile.value,
             .value_vectors = tile.value_vectors,
             .output = state.output,
             .rows = tile.rows,
             .first_key = nullptr,
             .last_key = limited ? state.last_key : nullptr,
             .first = true,
             .factor = nullptr,
             .inverse = state.inverse});
}

}  // namespace
}  // namespace headwise::detail
