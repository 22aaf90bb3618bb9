// Few rows against many keys: the limit is reading keys and values once, so lanes are features and every cache line is
// read in order, prefetched, and used for all rows that share it.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/exp2.hpp"
#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"
#include "kernels/softmax.hpp"
#include "kernels/transpose.hpp"

namespace headwise::detail {
namespace {

/// Prefetch distances in bytes of row data: near into the first level, far into the second. Measured on AVX-512 with
/// D = 128 and four queries out of cache: 4 and 8 KiB 98 % of read bandwidth, 2 and 8 97 %, 2 and 4 93 %.
constexpr int near_bytes = 4096;
constexpr int far_bytes = 8192;

/// Keys that all queries use before the next keys are read: few enough to stay in the first level, enough to pay for
/// loading and storing the accumulators.
constexpr int shared_keys = row_sum_keys;

/// Prefetches what lies as far behind each row as the distances say.
template <class T>
class RowPrefetch {
 public:
  /// \param features of a row; values may have none
  RowPrefetch(std::int64_t stride, int features)
      : near_(std::max(1, near_bytes / (std::max(1, features) * element)) * stride),
        far_(std::max(1, far_bytes / (std::max(1, features) * element)) * stride) {}

  /// Of the vector `offset` elements into a row: its cache line, where it begins one.
  HEADWISE_INLINE void operator()(const T* row, int offset) const {
    if (lanes<T> < line && offset % line != 0) return;
    if (Isa::row_places == 1) prefetch_near(row + near_ + offset);
    prefetch_far(row + far_ + offset);
  }

 private:
  static constexpr int element = static_cast<int>(sizeof(T));
  static constexpr int line = 64 / element;
  std::int64_t near_, far_;
};

/// Reads a number of every cache line, at several places in turn: what is fetched ahead then comes from all of them.
template <class T>
HEADWISE_INLINE void read_at_places(Rows<T> rows, int count, int features) {
  const int part = count / Isa::row_places;
  for (int i = 0; i < part; ++i) {
    for (int f = 0; f < features; f += 64 / static_cast<int>(sizeof(T))) {
      static_for<Isa::row_places>([&](auto place) __attribute__((always_inline)) {
        static_cast<void>(*static_cast<const volatile T*>(rows.data + (place * part + i) * rows.stride + f));
      });
    }
  }
}

/// Products of `Queries` queries with `lanes` / Queries keys, which share one transposed sum. Up to four keys advance
/// together and share the loads of the queries: neighbours, or keys at as many places.
template <class T, int Queries>
[[gnu::noinline]] void row_scores_of(const T* query, int query_stride, Rows<T> key, int keys, int features,
                                     RowPrefetch<T> prefetch, T* scores, int score_stride) {
  constexpr int key_count = lanes<T> / Queries, together = std::min(4, key_count), steps = key_count / together;
  constexpr bool apart = Isa::row_places > 1;
  constexpr int runs = apart ? together : 1, run = key_count / runs;  // of neighbours in the scores
  const int whole = keys - keys % key_count;
  const T* next = key.data;
  for (int j = 0; j < keys; j += key_count) {
    // Apart: keys place + k · distance + step.
    const bool last = j == whole;
    const int place = apart && !last ? j / together : j, distance = last ? steps : whole / together;
    Vector<T> sum[lanes<T>];
    static_for<steps>([&](auto step) __attribute__((always_inline)) {
      const T* row[together];
      Vector<T> partial[Queries][together];
      static_for<together>([&](auto k) __attribute__((always_inline)) {
        // Past the end the last key is read again; its sum is dropped below.
        if constexpr (apart) {
          row[k] = key.data + std::min(place + k * distance + step, keys - 1) * key.stride;
        } else {
          row[k] = next;
          if (j + step * together + k + 1 < keys) next += key.stride;
        }
        static_for<Queries>([&](auto q) __attribute__((always_inline)) { partial[q][k] = Vector<T>(T(0)); });
      });
      for (int f = 0; f < features; f += lanes<T>) {
        Vector<T> element[together];
        static_for<together>([&](auto k) __attribute__((always_inline)) {
          prefetch(row[k], f);
          element[k] = load(row[k] + f);
        });
        static_for<Queries>([&](auto q) __attribute__((always_inline)) {
          const Vector<T> factor = load(query + q * query_stride + f);
          static_for<together>([&](auto k) __attribute__((always_inline)) {
            partial[q][k] = fma(element[k], factor, partial[q][k]);
          });
        });
      }
      static_for<Queries>([&](auto q) __attribute__((always_inline)) {
        static_for<together>([&](auto k) __attribute__((always_inline)) {
          constexpr int slot = apart ? k * steps + step : step * together + k;
          sum[q * key_count + slot] = partial[q][k];
        });
      });
    });
    T total[lanes<T>];
    store(total, sum_each(sum));
    const int count = std::min(key_count, keys - j);
    for (int q = 0; q < Queries; ++q) {
      const T* const totals = total + q * key_count;
      T* const target = scores + q * score_stride;
      if (count == key_count) {
        for (int k = 0; k < runs; ++k) std::copy_n(totals + k * run, run, target + place + k * distance);
      } else {
        std::copy_n(totals, count, target + j);
      }
    }
  }
}

/// Calls f(first, count) for groups of 4, 2 and 1 queries (count is a compile-time number), at most `Most` a group.
template <int Most, class Function>
HEADWISE_INLINE void for_query_groups(int queries, Function&& function) {
  int first = 0;
  if constexpr (Most >= 4) {
    for (; first + 4 <= queries; first += 4) function(first, std::integral_constant<int, 4>{});
  }
  if constexpr (Most >= 2) {
    for (; first + 2 <= queries; first += 2) function(first, std::integral_constant<int, 2>{});
  }
  for (; first < queries; ++first) function(first, std::integral_constant<int, 1>{});
}

template <class T>
void row_scores(const T* query, int query_stride, int queries, Rows<T> key, int keys, int feature_vectors, T* scores,
                int score_stride) {
  constexpr int most = std::min(4, lanes<T>);
  const int features = feature_vectors * lanes<T>;
  const bool one_group = queries <= most && queries != 3;
  const int block = one_group ? keys : shared_keys;
  const RowPrefetch<T> prefetch(key.stride, features);
  for (int j = 0; j < keys; j += block) {
    for_query_groups<most>(queries, [&](int first, auto count) {
      row_scores_of<T, count>(query + first * query_stride, query_stride, {key.data + j * key.stride, key.stride},
                              std::min(block, keys - j), features, prefetch, scores + first * score_stride + j,
                              score_stride);
    });
  }
}

/// −∞ for the keys outside [begin, end), up to whole vectors, whose end is returned.
template <class T>
HEADWISE_INLINE int exclude_outside(T* scores, int begin, int end, int keys) {
  const int padded = (keys + lanes<T> - 1) / lanes<T> * lanes<T>;
  std::fill(scores, scores + begin, -infinity<T>);
  std::fill(scores + end, scores + padded, -infinity<T>);
  return padded;
}

template <class T>
T row_softmax(T* scores, int begin, int end, int keys, T* reference, T* sum, bool mark_excluded) {
  const int padded = exclude_outside(scores, begin, end, keys);
  Vector<T> largest(-infinity<T>);
  for (int j = 0; j < padded; j += lanes<T>) largest = maximum(largest, load(scores + j));
  T factor = T(1);
  const bool first = *reference == -infinity<T>;
  if (first || xsimd::any(largest - Vector<T>(*reference) > Vector<T>(reference_slack<T>))) {
    const T peak = reduce(largest, [](T a, T b) { return a > b ? a : b; });
    if (!first) {
      T lane[lanes<T>];
      store(lane, settled(exp2(Vector<T>(*reference - peak))));
      factor = lane[0];
    }
    *reference = peak;
  }
  const Vector<T> shift(*reference == -infinity<T> ? T(0) : *reference);
  Vector<T> total(T(0));
  for (int j = 0; j < padded; j += lanes<T>) {
    const Vector<T> score = load(scores + j);
    const Vector<T> weight = exp2(score - shift);
    total += weight;
    const Vector<T> excluded(mark_excluded ? T(-0.0) : T(0));
    store(scores + j, xsimd::select(score == Vector<T>(-infinity<T>), excluded, weight));
  }
  *sum = *sum * factor + reduce(total, [](T a, T b) { return a + b; });
  return factor;
}

template <class T>
void row_weights(T* scores, int begin, int end, int keys, T reference, T inverse) {
  const int padded = exclude_outside(scores, begin, end, keys);
  const Vector<T> none(-infinity<T>), shift(reference == -infinity<T> ? T(0) : reference);
  for (int j = 0; j < padded; j += lanes<T>) {
    const Vector<T> score = load(scores + j);
    const Vector<T> weight = exp2(score - shift) * Vector<T>(inverse);
    store(scores + j, xsimd::select(score == none, Vector<T>(T(0)), weight));
  }
}

/// What becomes of the sum over a few keys.
enum class KeySum {
  starts,    ///< from 0, and joins what was accumulated before
  continues  ///< what was accumulated before
};

/// accumulator · factor + sum; without a factor it is 1.
template <class T>
HEADWISE_INLINE void accumulate(T* accumulator, const T* factor, Vector<T> sum) {
  const Vector<T> before = load(accumulator);
  store(accumulator, factor == nullptr ? before + sum : fma(before, Vector<T>(*factor), sum));
}

/// `Vectors` feature vectors of `Queries` rows at once, over a few keys.
template <class T, int Queries, int Vectors>
[[gnu::noinline]] void row_values_tile(const T* weights, int weight_stride, KeySum kind, const T* factor, Rows<T> value,
                                       int keys, RowPrefetch<T> prefetch, T* accumulator, int accumulator_stride) {
  Vector<T> sum[Queries][Vectors];
  static_for<Queries>([&](auto q) __attribute__((always_inline)) {
    static_for<Vectors>([&](auto f) __attribute__((always_inline)) {
      sum[q][f] = Vector<T>(T(0));
      if (kind == KeySum::continues) sum[q][f] = load(accumulator + q * accumulator_stride + f * lanes<T>);
    });
  });
  const T* row = value.data;
  for (int j = 0; j < keys; ++j, row += value.stride) {
    static_for<Vectors>([&](auto f) __attribute__((always_inline)) {
      prefetch(row, f * lanes<T>);
      const Vector<T> feature = load(row + f * lanes<T>);
      static_for<Queries>([&](auto q) __attribute__((always_inline)) {
        sum[q][f] = fma(Vector<T>(weights[q * weight_stride + j]), feature, sum[q][f]);
      });
    });
  }
  static_for<Queries>([&](auto q) __attribute__((always_inline)) {
    static_for<Vectors>([&](auto f) __attribute__((always_inline)) {
      T* const target = accumulator + q * accumulator_stride + f * lanes<T>;
      if (kind == KeySum::continues) {
        store(target, sum[q][f]);
      } else {
        accumulate(target, factor == nullptr ? nullptr : factor + q, sum[q][f]);
      }
    });
  });
}

/// All feature vectors of `Queries` rows, `Vectors` at a time, then half as many …
template <class T, int Queries, int Vectors>
HEADWISE_INLINE void row_values_of(const T* weights, int weight_stride, KeySum kind, const T* factor, Rows<T> value,
                                   int keys, int features, const RowPrefetch<T>& prefetch, T* accumulator,
                                   int accumulator_stride, int offset = 0) {
  for (; offset + Vectors * lanes<T> <= features; offset += Vectors * lanes<T>) {
    row_values_tile<T, Queries, Vectors>(weights, weight_stride, kind, factor, {value.data + offset, value.stride}, keys,
                                         prefetch, accumulator + offset, accumulator_stride);
  }
  if constexpr (Vectors > 1) {
    row_values_of<T, Queries, Vectors / 2>(weights, weight_stride, kind, factor, value, keys, features, prefetch,
                                           accumulator, accumulator_stride, offset);
  }
}

/// \param factor null where the sums continue
template <class T, KeySum kind>
HEADWISE_INLINE void sum_rows(const T* weights, int weight_stride, int queries, const T* factor, Rows<T> value, int keys,
                              int feature_vectors, T* accumulator, int accumulator_stride) {
  const int features = feature_vectors * lanes<T>;
  const RowPrefetch<T> prefetch(value.stride, features);
  // Three and more queries compute for longer than that.
  constexpr int read_rows = 64;
  const bool reads = Isa::row_places > 1 && queries < 3;
  int j = 0;
  do {
    if (reads && j % read_rows == 0) {
      read_at_places<T>({value.data + j * value.stride, value.stride}, std::min(read_rows, keys - j), features);
    }
    for_query_groups<4>(queries, [&](int first, auto count) {
      constexpr int vectors = std::min(8, Isa::registers / 2 / count);
      row_values_of<T, count, vectors>(weights + first * weight_stride + j, weight_stride, kind,
                                       kind == KeySum::starts && j == 0 ? factor + first : nullptr,
                                       {value.data + j * value.stride, value.stride}, std::min(shared_keys, keys - j),
                                       features, prefetch, accumulator + first * accumulator_stride, accumulator_stride);
    });
    j += shared_keys;
  } while (j < keys);
}

template <class T>
void row_values(const T* weights, int weight_stride, int queries, const T* factor, Rows<T> value, int keys,
                int feature_vectors, T* accumulator, int accumulator_stride) {
  sum_rows<T, KeySum::starts>(weights, weight_stride, queries, factor, value, keys, feature_vectors, accumulator,
                              accumulator_stride);
}

template <class T>
void add_rows(const T* weights, int weight_stride, int queries, Rows<T> value, int keys, int feature_vectors, T* accumulator,
              int accumulator_stride) {
  sum_rows<T, KeySum::continues>(weights, weight_stride, queries, nullptr, value, keys, feature_vectors, accumulator,
                                 accumulator_stride);
}

/// Rare: see values_careful.
template <class T>
void row_values_careful(const T* weights, int weight_stride, int queries, const T* factor, Rows<T> value, int keys,
                        int feature_vectors, T* accumulator, int accumulator_stride) {
  for (int q = 0; q < queries; ++q) {
    for (int f = 0; f < feature_vectors; ++f) {
      for (int begin = 0; begin < keys; begin += shared_keys) {
        Vector<T> sum(T(0));
        for (int j = begin; j < std::min(begin + shared_keys, keys); ++j) {
          const T weight = weights[q * weight_stride + j];
          if (std::signbit(weight)) continue;
          sum = fma(Vector<T>(weight), load(value.data + j * value.stride + f * lanes<T>), sum);
        }
        accumulate(accumulator + q * accumulator_stride + f * lanes<T>, begin == 0 ? factor + q : nullptr, sum);
      }
    }
  }
}

template <class T>
void merge_parts(T* references, T* sums, T* accumulators, int parts, std::int64_t part_stride,
                 std::int64_t accumulator_stride, int feature_vectors) {
  T largest = -infinity<T>;
  for (int p = 0; p < parts; ++p) largest = std::max(largest, references[p * part_stride]);
  T sum = T(0);
  for (int p = 0; p < parts; ++p) {
    const T reference = references[p * part_stride];
    T factor[lanes<T>];
    const bool equal = reference == largest;
    store(factor, settled(exp2(settled(Vector<T>(equal ? T(0) : reference)) - settled(Vector<T>(equal ? T(0) : largest)))));
    const T* part = accumulators + p * accumulator_stride;
    for (int f = 0; f < feature_vectors; ++f) {
      const Vector<T> scaled = load(part + f * lanes<T>) * Vector<T>(factor[0]);
      T* target = accumulators + f * lanes<T>;
      store(target, p == 0 ? scaled : load(target) + scaled);
    }
    sum += sums[p * part_stride] * factor[0];
  }
  references[0] = largest;
  sums[0] = sum;
}

}  // namespace
}  // namespace headwise::detail
