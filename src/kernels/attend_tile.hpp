// A tile of queries and the only block of their keys at once, all attended: the same steps as a driver takes with the
// kernels of each, and the same bits; there is nothing to look up between them.
#pragma once

#include "kernels/pack.hpp"
#include "kernels/scores.hpp"
#include "kernels/softmax.hpp"
#include "kernels/values.hpp"

namespace headwise::detail {
namespace {

/// Scores of the packed queries, and the largest of each row.
template <class T, int Vectors>
HEADWISE_INLINE void score_keys_of(const TileArguments<T, T>& tile, const UpcomingSets& upcoming, T* maximum) {
  constexpr int tile_keys = Isa::score_keys(Vectors);
  const PrefetchedRows<T> prefetched{{tile.key.data + tile_keys * tile.key.stride, tile.key.stride},
                                     tile.value,
                                     {nullptr, 0},
                                     {upcoming, tile.keys / tile_keys}};
  const ScoreSpan<T> span{.query = tile.packed,
                          .row_stride = Vectors * lanes<T>,
                          .head_dim = tile.head_dim,
                          .key_stride = tile.key.stride,
                          .mask = {},
                          .long_span = tile.keys > 2 * Isa::score_keys(1)};
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) { store(maximum + v * lanes<T>, Vector<T>(-infinity<T>)); });
  score_span<T, Vectors>(span, tile.key.data, prefetched, 0, tile.keys, tile.scores, maximum);
}

/// Scores to weights: `softmax` of a first block, and `finish`.
template <class T, int Vectors>
HEADWISE_INLINE void weigh_tile(const TileArguments<T, T>& tile, const RowState<T>& state) {
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    const Vector<T> largest = load(state.maximum + v * lanes<T>), none(-infinity<T>);
    store(state.reference + v * lanes<T>, xsimd::select(largest > none, largest, none));
    store(state.sum + v * lanes<T>, Vector<T>(T(0)));
  });
  weigh_span<T, Vectors, false>({tile.scores, Vectors * lanes<T>, tile.keys, state.reference, state.sum});
  finish(state, Vectors * lanes<T>);
}

template <class T>
void attend_tile(const TileArguments<T, T>& tile) {
  constexpr int most_rows = Isa::tile_vectors * lanes<T>;
  const T* query[most_rows];
  T* output[most_rows];
  const T* from = tile.query.data;
  T* to = tile.output;
  for (int r = 0; r < tile.rows; ++r, from += tile.query.stride, to += tile.output_stride) {
    query[r] = from;
    output[r] = to;
  }
  UpcomingSets upcoming;
  if (tile.fetch_output) upcoming.add(output, 0, tile.rows, tile.value_vectors * lanes<T>, true);
  if (tile.next_query != nullptr) upcoming.add(query, tile.next_query - tile.query.data, tile.rows, tile.head_dim);
  T reference[most_rows], sum[most_rows], maximum[most_rows], inverse[most_rows];
  const int row_vectors = (tile.rows + lanes<T> - 1) / lanes<T>, row_stride = row_vectors * lanes<T>;
  pack_query(query, 1, tile.rows, tile.head_dim, tile.factor, tile.packed, row_stride);
  with_vectors(row_vectors, [&](auto vectors) {
    score_keys_of<T, vectors>(tile, upcoming, maximum);
    weigh_tile<T, vectors>(tile, {reference, sum, maximum, nullptr, inverse, nullptr, nullptr});
  });
  values<T>({.weights = tile.scores,
             .row_stride = row_stride,
             .keys = tile.keys,
             .value = tile.value,
             .value_vectors = tile.value_vectors,
             .output = output,
             .rows = tile.rows,
             .first_key = nullptr,
             .last_key = nullptr,
             .first = true,
             .factor = nullptr,
             .inverse = inverse});
}

}  // namespace
}  // namespace headwise::detail
