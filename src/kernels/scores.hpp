// Scores of one tile against one key block: lanes are query rows, keys are read in place and broadcast.
#pragma once

#include <algorithm>

#include "kernels/adjust.hpp"
#include "kernels/kernel_table.hpp"
#include "kernels/mask.hpp"
#include "kernels/prefetch.hpp"
#include "kernels/register_tile.hpp"
#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// Everything of a span that does not change from one register tile to the next.
template <class T>
struct ScoreSpan {
  const T* query;
  int row_stride;
  int head_dim;
  std::int64_t key_stride;
  const PairMask<T>* mask;  ///< null: none
  bool fetch_keys;    ///< the next register tile's are prefetched
  bool fetch_values;  ///< those of the same keys are
};

/// Whether a span prefetches values. A tile of one vector is bound by its loads: only if they arrive before they are read.
constexpr bool fetches_values(int vectors, int keys) { return vectors > 1 || keys > 2 * Isa::score_keys(1); }

/// The largest of scores [First, First + Count), by halves.
template <int First, int Count, class T, int Keys>
HEADWISE_INLINE Vector<T> largest_of(const Vector<T> (&score)[Keys][1]) {
  if constexpr (Count == 1) return score[First][0];
  else return maximum(largest_of<First, Count / 2, T>(score), largest_of<First + Count / 2, Count - Count / 2, T>(score));
}

/// A register tile of `Vectors` row vectors × `Keys` keys. It prefetches a cache line of features at a time.
template <class T, int Vectors, int Keys>
HEADWISE_INLINE void score_tile(const ScoreSpan<T>& span, const T* key, PrefetchedRows<T>& prefetched, int index,
                                T* scores, Vector<T> (&largest)[Vectors]) {
  constexpr int line = 64 / static_cast<int>(sizeof(T));
  Vector<T> sum[Keys][Vectors];
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
    static_for<Keys>([&](auto j) __attribute__((always_inline)) { sum[j][v] = Vector<T>(T(0)); });
  });
  BroadcastRows<T, Keys> keys(key, span.key_stride);
  const T* query = span.query;
  for (int d = 0; d < span.head_dim; d += line) {
    if (span.fetch_keys) prefetch_lines<Keys, true>(prefetched.near, d);
    if (span.fetch_values) prefetch_lines<Keys, false>(prefetched.far, d);
    if (prefetched.far_too.data != nullptr) prefetch_lines<Keys, false>(prefetched.far_too, d);
    prefetched.upcoming.prefetch_row();
    keys.multiply(std::min(line, span.head_dim - d), query, span.row_stride, sum);
  }

  if (span.mask != nullptr) span.mask->apply(sum, index);
  // One after the other each would wait for the one before, and a tile of one vector has nothing else to do meanwhile.
  if constexpr (Vectors == 1) largest[0] = maximum(largest[0], largest_of<0, Keys, T>(sum));
  const std::int64_t row_stride = span.row_stride;
  static_for<Keys>([&](auto j) __attribute__((always_inline)) {
    static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
      if constexpr (Vectors > 1) largest[v] = maximum(largest[v], sum[j][v]);
      store(scores + v * lanes<T>, sum[j][v]);
    });
    scores += row_stride;
  });
}

/// The keys that do not fill a register tile: tiles of half the size, a quarter …
template <class T, int Vectors, int Keys>
HEADWISE_INLINE void score_rest(const ScoreSpan<T>& span, const T* key, PrefetchedRows<T>& prefetched, int index, int keys,
                                T* scores, Vector<T> (&largest)[Vectors]) {
  if constexpr (Keys > 0) {
    if (keys >= Keys) {
      score_tile<T, Vectors, Keys>(span, key, prefetched, index, scores, largest);
      key += Keys * span.key_stride;
      prefetched.advance(Keys);
      scores += Keys * span.row_stride;
      index += Keys;
      keys -= Keys;
    }
    score_rest<T, Vectors, Keys / 2>(span, key, prefetched, index, keys, scores, largest);
  }
}

constexpr int largest_power_below(int n) {
  int power = 1;
  while (2 * power < n) power *= 2;
  return power;
}

template <class T, int Vectors>
[[gnu::noinline]] void score_span(const ScoreSpan<T>& given, const T* key, PrefetchedRows<T> prefetched, int index,
                                  int keys, T* scores, T* maxima) {
  constexpr int tile_keys = Isa::score_keys(Vectors);
  const ScoreSpan<T> span = given;  // of its own: no store can change it
  Vector<T> largest[Vectors];
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) { largest[v] = load(maxima + v * lanes<T>); });
  for (; keys >= tile_keys; keys -= tile_keys) {
    prefetched.upcoming.begin_tile();
    score_tile<T, Vectors, tile_keys>(span, key, prefetched, index, scores, largest);
    prefetched.upcoming.end_tile();
    key += tile_keys * span.key_stride;
    prefetched.advance(tile_keys);
    scores += tile_keys * span.row_stride;
    index += tile_keys;
  }
  score_rest<T, Vectors, largest_power_below(tile_keys)>(span, key, prefetched, index, keys, scores, largest);
  static_for<Vectors>([&](auto v) __attribute__((always_inline)) { store(maxima + v * lanes<T>, largest[v]); });
}

template <class T>
HEADWISE_INLINE void clear_maxima(const BlockArguments<T, T>& block) {
  for (int row = 0; row < block.row_stride; row += lanes<T>) {
    store(block.state.maximum + row, Vector<T>(-infinity<T>));
  }
}

/// Calls f with the compile-time number of vectors, 1 … tile_vectors.
template <class Function, int Vectors = Isa::tile_vectors>
HEADWISE_INLINE void with_vectors(int vectors, Function&& function) {
  if constexpr (Vectors > 1) {
    if (vectors < Vectors) return with_vectors<Function, Vectors - 1>(vectors, static_cast<Function&&>(function));
  }
  function(std::integral_constant<int, Vectors>{});
}

/// What happens to the scores after the product; the maxima are those of the last step. True if the bias excludes a pair.
template <class T>
bool adjust(const BlockArguments<T, T>& block) {
  const ScoreAdjustment<T>& adjustment = block.adjustment;
  const bool biased = adjustment.bias != nullptr;
  if (!biased || adjustment.softcap != T(0) || adjustment.slope != nullptr) {
    clear_maxima(block);
    for (int s = 0; s < block.num_spans; ++s) {
      const KeySpan& span = block.spans[s];
      const PairMask<T> mask = biased ? PairMask<T>{} : pair_mask(block, span);
      with_vectors(span.vectors, [&](auto vectors) { adjust_span<T, vectors>(block, span, mask); });
    }
  }
  if (!biased) return false;
  clear_maxima(block);
  bool excluded = false;
  for (int s = 0; s < block.num_spans; ++s) {
    const PairMask<T> mask = pair_mask(block, block.spans[s]);
    const bool found = mask.any() ? add_bias<T, true>(block, block.spans[s], mask)
                                  : add_bias<T, false>(block, block.spans[s], mask);
    excluded = excluded || found;
  }
  return excluded;
}

template <class T>
bool scores(const BlockArguments<T, T>& block) {
  const bool adjusted = block.adjustment.any();
  clear_maxima(block);
  int longest = 0;
  for (int s = 1; s < block.num_spans; ++s) {
    if (block.spans[s].keys > block.spans[longest].keys) longest = s;
  }
  for (int s = 0; s < block.num_spans; ++s) {
    const KeySpan& shape = block.spans[s];
    const int row = shape.first_vector * lanes<T>;
    const PairMask<T> mask = pair_mask(block, shape);
    const ScoreSpan<T> span{.query = block.query + row,
                            .row_stride = block.row_stride,
                            .head_dim = block.head_dim,
                            .key_stride = block.key.stride,
                            .mask = adjusted || !mask.any() ? nullptr : &mask,
                            .fetch_keys = true,
                            .fetch_values = fetches_values(shape.vectors, shape.keys)};
    with_vectors(shape.vectors, [&](auto vectors) {
      score_span<T, vectors>(span, block.key.data + shape.first_key * block.key.stride,
                             prefetched_rows(block, shape, s == longest), shape.first_key, shape.keys,
                             block.scores + static_cast<std::int64_t>(shape.first_key) * block.row_stride + row,
                             block.state.maximum + row);
    });
  }
  return adjusted && adjust(block);
}

}  // namespace
}  // namespace headwise::detail
