// The kernels of one instruction set: plain functions beside the tile sizes they want.
//
// Rules for what stands behind these pointers: a kernel does one tile. It takes pointers, strides and sizes; it does no
// allocation, no threads, no exceptions, no I/O and uses no std:: container; it only asserts. It is compiled once per
// instruction set from templates in an anonymous namespace, so nothing of it can be linked into another's code.
// User memory is never read or written beyond the elements named here; workspace tiles are padded to whole vectors.
//
// A tile holds up to tile_rows query rows, one per vector lane, and up to max_block_keys keys at a time. Workspace tiles:
//   packed query   [head_dim][row_stride]     scale · log2(e) folded in, 0 in lanes without a row
//   scores         [key][row_stride]          base-2 scores, then weights relative to the row's reference maximum
// row_stride is the tile's number of vectors × lanes. All row state is per lane; no lane ever affects another.
#pragma once

#include <cstdint>

namespace headwise::detail {

/// A stretch of a key block as one rectangle of the scores: keys × row vectors [first_vector, first_vector + vectors).
/// Rows outside attend none of these keys. `masked`: some row inside attends only part of them (see key_begin/key_end).
struct KeySpan {
  int first_key;
  int keys;
  int first_vector;
  int vectors;
  bool masked;
};

/// Rows of memory: `stride` elements from row to row, features next to each other.
template <class T>
struct Rows {
  const T* data;
  std::int64_t stride;
};

/// Per-row state of the online softmax, one lane per row, tile_rows each.
template <class T>
struct RowState {
  T* reference;  ///< what the row's weights are relative to: a maximum seen so far; −∞ before the first attended key
  T* sum;        ///< Σ of weights so far
  T* start;      ///< where score accumulators start: −reference where that is harmless, else 0
  T* maximum;    ///< largest score of the block, start included
  T* factor;     ///< factor that turns the rows accumulated so far to the new reference
  T* shift;      ///< what the exponential pass subtracts
  T* inverse;    ///< 1 / sum, 0 in dead rows; set by `finish`
  T* key_begin;  ///< first attended key, relative to the block; only read in masked spans
  T* key_end;    ///< one past the last attended key, relative to the block; only read in masked spans
};

template <class T, class KV>
struct BlockArguments {
  const T* query;          ///< packed query
  int row_stride;          ///< lanes of the tile
  int head_dim;
  Rows<KV> key;            ///< the block's keys
  Rows<KV> value;          ///< the block's values: only prefetched by `scores`
  const KeySpan* spans;
  int num_spans;
  T* scores;               ///< [key][row_stride]
  RowState<T> state;
};

template <class T, class KV>
struct ValueArguments {
  const T* weights;        ///< [key][row_stride]
  int row_stride;
  int keys;
  Rows<KV> value;          ///< the block's values, readable up to value_vectors · lanes features
  int value_vectors;
  T* const* output;        ///< rows, writable up to value_vectors · lanes features
  int rows;
  const int* first_key;    ///< per row, not decreasing: earlier keys of the block have weight 0; null = 0
  const int* last_key;     ///< per row, not decreasing: later ones have weight 0; null = keys
  bool first;              ///< store instead of add
  const T* factor;         ///< per row, for what is there already (unless first)
  const T* inverse;        ///< per row, when this is the last block: the sum is multiplied by it; else null
};

template <class T, class KV>
struct KernelTable {
  const char* isa;
  int lanes;              ///< elements of a vector
  int tile_rows;          ///< query rows of a full tile
  int block_keys;         ///< keys of a regular key block
  int max_block_keys;     ///< a last block takes a rest up to this size

  /// Transposes `rows` query rows of any feature stride into the packed query, times `factor`; pads to whole vectors.
  void (*pack_query)(const T* const* query, std::int64_t feature_stride, int rows, int head_dim, T factor, T* packed,
                     int row_stride);

  /// Copies rows of any strides next to each other, features padded with 0 to target_stride.
  void (*pack_rows)(const KV* source, std::int64_t row_stride, std::int64_t feature_stride, int rows, int features,
                    KV* target, int target_stride);

  /// scores[key][row] = start[row] + query[row]·key, −∞ where a masked span excludes the pair; maximum[row] over the
  /// attended ones. Lanes outside a span's vectors are left alone.
  void (*scores)(const BlockArguments<T, KV>&);

  /// Moves the reference where the maximum grew by more than 8, replaces the scores by weights 2^(score − reference),
  /// 0 outside the spans' vectors, adds their sums, sets factor and the next start. Lanes are `row_stride`.
  /// `mark_excluded`: excluded pairs get −0 instead of +0, for values_careful.
  void (*softmax)(const BlockArguments<T, KV>&, bool mark_excluded);

  /// inverse[row] = 1 / sum[row], 0 for a dead row.
  void (*finish)(const RowState<T>&, int row_stride);

  /// output[row] = (output[row] · factor[row] + Σ_key weights[key][row] · value[key]) · inverse[row].
  void (*values)(const ValueArguments<T, KV>&);

  /// The same where a value may not be finite: keys whose weight is −0 are not touched.
  void (*values_careful)(const ValueArguments<T, KV>&);

  /// True if every element is finite.
  bool (*all_finite)(const KV* rows, std::int64_t row_stride, int count, int features);

  /// Recompute pass of the weights output: scores (taken with start 0) become
  /// 2^(score − reference[row]) · inverse[row], 0 where excluded, written to target[row][key · key_stride].
  void (*store_weights)(const BlockArguments<T, KV>&, int keys, int rows, T* const* target, std::int64_t key_stride);

  // Few rows against many keys (decode): lanes are features.

  /// scores[q · score_stride + j] = query[q]·key[j] for j < keys. Features padded to whole vectors: queries with 0, keys
  /// readable. Rounds the same for any number of queries.
  void (*row_scores)(const T* query, int query_stride, int queries, Rows<KV> key, int keys, int feature_vectors,
                     T* scores, int score_stride);

  /// Online softmax of one row: keys [begin, end) of `keys` attended. Updates reference and sum, replaces scores by
  /// weights (0 outside), returns the factor for what was accumulated before. `keys` is padded to whole vectors.
  T (*row_softmax)(T* scores, int begin, int end, int keys, T* reference, T* sum);

  /// Recompute pass of the weights output: scores → 2^(score − reference) · inverse for keys [begin, end) of `keys`, 0
  /// elsewhere.
  void (*row_weights)(T* scores, int begin, int end, int keys, T reference, T inverse);

  /// accumulator[q] = accumulator[q] · factor[q] + Σ_j weights[q][j] · value[j].
  void (*row_values)(const T* weights, int weight_stride, int queries, const T* factor, Rows<KV> value, int keys,
                     int feature_vectors, T* accumulator, int accumulator_stride);

  /// Turns `parts` partial results of one row over disjoint keys into one: part p at references[p · part_stride],
  /// sums[p · part_stride], accumulators[p · accumulator_stride]; merged into the first one, in order.
  void (*merge_parts)(T* references, T* sums, T* accumulators, int parts, std::int64_t part_stride,
                      std::int64_t accumulator_stride, int feature_vectors);
};

}  // namespace headwise::detail
