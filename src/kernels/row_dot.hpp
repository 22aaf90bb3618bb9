// Few rows against many keys: the limit is reading keys and values once, so lanes are features and every cache line is
// read in order, prefetched, and used for all rows that share it.
#pragma once

#include <algorithm>

#include "kernels/exp2.hpp"
#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"
#include "kernels/softmax.hpp"

namespace headwise::detail {
namespace {

/// Prefetch distances in bytes of row data: near into the first level, far into the second.
constexpr int near_bytes = 2048;
constexpr int far_bytes = 8192;

template <class T>
HEADWISE_INLINE void prefetch_row(const T* row, std::int64_t stride, int features, int line_offset) {
  const int near_rows = std::max(1, near_bytes / (features * static_cast<int>(sizeof(T))));
  const int far_rows = std::max(1, far_bytes / (features * static_cast<int>(sizeof(T))));
  prefetch_near(row + near_rows * stride + line_offset);
  prefetch_far(row + far_rows * stride + line_offset);
}

/// Rows of queries handled together: their products with `lanes` / Queries keys share one transposed sum.
template <class T, int Queries>
[[gnu::noinline]] void row_scores_of(const T* query, int query_stride, Rows<T> key, int keys, int feature_vectors,
                                     T* scores, int score_stride) {
  constexpr int key_count = lanes<T> / Queries;
  const int features = feature_vectors * lanes<T>;
  for (int j = 0; j < keys; j += key_count) {
    Vector<T> sum[lanes<T>];
    static_for<key_count>([&](auto k) __attribute__((always_inline)) {
      // Past the end the last key is read again; its sum is dropped below.
      const T* row = key.data + std::min(j + k, keys - 1) * key.stride;
      Vector<T> partial[Queries];
      static_for<Queries>([&](auto q) __attribute__((always_inline)) { partial[q] = Vector<T>(T(0)); });
      for (int f = 0; f < features; f += lanes<T>) {
        prefetch_row(row, key.stride, features, f);
        const Vector<T> element = load(row + f);
        static_for<Queries>([&](auto q) __attribute__((always_inline)) {
          partial[q] = fma(element, load(query + q * query_stride + f), partial[q]);
        });
      }
      static_for<Queries>([&](auto q) __attribute__((always_inline)) { sum[q * key_count + k] = partial[q]; });
    });
    T total[lanes<T>];
    store(total, sum_each(sum));
    const int count = std::min(key_count, keys - j);
    for (int q = 0; q < Queries; ++q) {
      std::copy_n(total + q * key_count, count, scores + q * score_stride + j);
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
  for_query_groups<std::min(4, lanes<T>)>(queries, [&](int first, auto count) {
    row_scores_of<T, count>(query + first * query_stride, query_stride, key, keys, feature_vectors,
                            scores + first * score_stride, score_stride);
  });
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
  const T peak = reduce(largest, [](T a, T b) { return a > b ? a : b; });
  T factor = T(1);
  if (*reference == -infinity<T>) {
    *reference = peak;
  } else if (peak - *reference > reference_slack<T>) {
    T lane[lanes<T>];
    store(lane, settled(exp2(Vector<T>(*reference - peak))));
    factor = lane[0];
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

/// Up to `Vectors` feature vectors of `Queries` rows at once.
template <class T, int Queries, int Vectors>
HEADWISE_INLINE void row_values_tile(const T* weights, int weight_stride, const T* factor, Rows<T> value, int keys,
                                     int features, T* accumulator, int accumulator_stride, int offset) {
  Vector<T> sum[Queries][Vectors];
  static_for<Queries>([&](auto q) __attribute__((always_inline)) {
    static_for<Vectors>([&](auto f) __attribute__((always_inline)) {
      sum[q][f] = load(accumulator + q * accumulator_stride + offset + f * lanes<T>) * Vector<T>(factor[q]);
    });
  });
  const T* row = value.data + offset;
  for (int j = 0; j < keys; ++j, row += value.stride) {
    static_for<Vectors>([&](auto f) __attribute__((always_inline)) {
      prefetch_row(row, value.stride, features, f * lanes<T>);
      const Vector<T> feature = load(row + f * lanes<T>);
      static_for<Queries>([&](auto q) __attribute__((always_inline)) {
        sum[q][f] = fma(Vector<T>(weights[q * weight_stride + j]), feature, sum[q][f]);
      });
    });
  }
  static_for<Queries>([&](auto q) __attribute__((always_inline)) {
    static_for<Vectors>([&](auto f) __attribute__((always_inline)) {
      store(accumulator + q * accumulator_stride + offset + f * lanes<T>, sum[q][f]);
    });
  });
}

template <class T, int Queries>
[[gnu::noinline]] void row_values_of(const T* weights, int weight_stride, const T* factor, Rows<T> value, int keys,
                                     int feature_vectors, T* accumulator, int accumulator_stride) {
  // Accumulators of all groups stay within half of the registers of the smallest instruction set but one.
  constexpr int most = Queries == 1 ? 8 : Queries == 2 ? 4 : 2;
  const int features = feature_vectors * lanes<T>;
  int f = 0;
  for (; f + most <= feature_vectors; f += most) {
    row_values_tile<T, Queries, most>(weights, weight_stride, factor, value, keys, features, accumulator,
                                      accumulator_stride, f * lanes<T>);
  }
  for (; f < feature_vectors; ++f) {
    row_values_tile<T, Queries, 1>(weights, weight_stride, factor, value, keys, features, accumulator,
                                   accumulator_stride, f * lanes<T>);
  }
}

template <class T>
void row_values(const T* weights, int weight_stride, int queries, const T* factor, Rows<T> value, int keys,
                int feature_vectors, T* accumulator, int accumulator_stride) {
  for_query_groups<4>(queries, [&](int first, auto count) {
    row_values_of<T, count>(weights + first * weight_stride, weight_stride, factor + first, value, keys,
                            feature_vectors, accumulator + first * accumulator_stride, accumulator_stride);
  });
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
