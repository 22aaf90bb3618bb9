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
#include <type_traits>

namespace headwise::detail {

/// Instruction sets that there may be kernels for.
struct Sse2;
struct Avx2;
struct Avx512;
struct Neon64;

/// A stretch of a key block as one rectangle of the scores: keys × row vectors [first_vector, first_vector + vectors).
/// Rows outside attend none of these keys. Of the rows inside, all begin to attend before the span but those of the last
/// `begin_vectors` vectors, and all end behind it but those of the first `end_vectors` (see key_begin/key_end).
struct KeySpan {
  int first_key;
  int keys;
  int first_vector;
  int vectors;
  int begin_vectors = 0;
  int end_vectors = 0;

  bool masked() const { return begin_vectors > 0 || end_vectors > 0; }
};

/// One bit per key, in words as wide as a lane: bit k % bits of word k / bits.
template <class T>
using KeyBits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
template <class T>
constexpr int bits_per_word = 8 * static_cast<int>(sizeof(T));

/// What happens to a score before the softmax beside masking, in this order; scores in units of 1/`unit`: log2(e) where
/// they are exponents of 2, 1 where they leave as they are.
template <class T>
struct ScoreAdjustment {
  T softcap = 0;                ///< · unit; score ← softcap · tanh(score / softcap); 0 = off
  const T* slope = nullptr;     ///< per row, · unit: score += slope · (distance + key index in the block); null = off
  const T* distance = nullptr;  ///< per row: position of the block's first key − position of the row
  const T* const* bias = nullptr;  ///< per row: score += unit · bias[row][bias_offset + key · bias_stride], −∞ excludes;
                                   ///< a finite product that overflows is the largest finite number; null = off
  std::int64_t bias_offset = 0;
  std::int64_t bias_stride = 0;
  int bias_rows = 0;            ///< rows there are; lanes beyond them are any row's
  T unit = 1;

  bool any() const { return softcap != 0 || slope != nullptr || bias != nullptr; }
};

/// What a mask or bias does to a block.
struct BlockCoverage {
  bool any_attended;
  bool any_excluded;
};

/// Rows of which some bytes, from `offset` on, will soon be read or written. They are so many streams that the hardware
/// follows none of them.
struct UpcomingRows {
  const void* rows;     ///< table of pointers to them
  std::int64_t offset;  ///< bytes
  int num_rows;
  int bytes;            ///< of each row
  bool written;
};

/// Those of a block, to prefetch in this order: mask bytes, biases, queries, rows of a scores-shaped output, of the output.
struct UpcomingSets {
  static constexpr int most = 5;
  UpcomingRows sets[most];  ///< those beyond `count` hold anything: clearing them takes longer than most blocks need
  int count;

  UpcomingSets() : count(0) {}

  /// `elements` of each row, from `offset` elements on.
  template <class Element>
  void add(Element* const* rows, std::int64_t offset, int num_rows, int elements, bool written = false) {
    constexpr int size = sizeof(Element);
    sets[count++] = {rows, offset * size, num_rows, elements * size, written};
  }
};

/// Rows of memory: `stride` elements from row to row, features next to each other.
template <class T>
struct Rows {
  const T* data;
  std::int64_t stride;
};

/// Weighted sums of rows: so many are summed on their own, then added to the rest. Sums of equal numbers, whose roundings
/// all point the same way, stay exact to some units that way, where one sum of 500 is off by 40. Steps of a sweep begin
/// and end at multiples of it, so that bits do not depend on where a sweep begins.
constexpr int row_sum_keys = 16;

/// Most keys of a block.
constexpr int max_block_keys = 160;

/// Keys of a step where rows begin or end inside a block: consecutive queries shift by a whole vector in `lanes` keys.
constexpr int edge_step(int lanes) { return lanes < 8 ? 8 : lanes; }

/// Per-row state of the online softmax, one lane per row, tile_rows each.
template <class T>
struct RowState {
  T* reference;  ///< what the row's weights are relative to: a maximum seen so far; −∞ before the first attended key
  T* sum;        ///< Σ of weights so far
  T* maximum;    ///< largest score of the block
  T* factor;     ///< factor that turns the rows accumulated so far to the new reference
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
  Rows<KV> next_key = {nullptr, 0};    ///< keys that the driver copies for the next block, to prefetch; else null
  Rows<KV> next_value = {nullptr, 0};  ///< likewise values
  const KeySpan* spans;
  int num_spans;
  T* scores;               ///< [key][row_stride]
  RowState<T> state;
  const KeyBits<T>* attended = nullptr;  ///< [word][row_stride]: attended keys, where limits do not tell; else null
  ScoreAdjustment<T> adjustment = {};
  UpcomingSets upcoming = {};  ///< prefetched by `scores`
};

/// The mask bytes of a tile's rows over one key block.
template <class T>
struct MaskArguments {
  const std::uint8_t* const* rows;  ///< per row, non-zero = attend; null: no mask
  std::int64_t key_stride;
  const std::uint8_t* padding;      ///< of all rows, non-zero = exclude; null: none
  std::int64_t padding_stride;
  const int* first_key;             ///< per row: keys outside [first_key, last_key) are excluded too; null: none are
  const int* last_key;
  int num_rows;
  int keys;
  int row_stride;
  bool prefetch_next;  ///< as many keys behind these: nobody else does
};

/// Scores of one row against consecutive keys (row-dot path) and what happens to them, in this order.
template <class T>
struct RowAdjustment {
  T unit = 1;     ///< scores are in units of 1/unit
  T softcap = 0;  ///< · unit
  T slope = 0;    ///< · unit: score += slope · (distance + j)
  T distance = 0;
  const T* bias = nullptr;  ///< not scaled by unit; −∞ excludes
  std::int64_t bias_stride = 0;
  const std::uint8_t* mask = nullptr;
  std::int64_t mask_stride = 0;
  const std::uint8_t* padding = nullptr;
  std::int64_t padding_stride = 0;
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
  const int* first_key;    ///< per row, not decreasing: earlier keys of the block have weight 0, their values are not used,
                           ///< finite or not; null = 0
  const int* last_key;     ///< likewise later ones; null = keys
  bool first;              ///< store instead of add
  const T* factor;         ///< per row, for what is there already (unless first)
  const T* inverse;        ///< per row, when this is the last block: the sum is multiplied by it; else null
  const T* const* accumulated = nullptr;  ///< in a last block: rows so far where they do not lie in the output; else null
};

/// A tile of up to tile_rows rows, and its only keys, up to max_block_keys.
template <class T, class KV>
struct TileArguments {
  Rows<T> query;
  int rows;
  int head_dim;
  T factor;           ///< of the queries
  Rows<KV> key;
  Rows<KV> value;     ///< readable up to value_vectors · lanes features
  int keys;
  int first_row_keys;  ///< that the first row attends, maybe none or less; each row attends one more than the one before,
                       ///< up to all
  int value_vectors;
  T* output;          ///< rows, writable up to value_vectors · lanes features
  std::int64_t output_stride;
  T* packed;          ///< room for the packed query
  T* scores;          ///< [keys][row_stride]
  bool fetch_output;  ///< prefetched before it is written
  const T* next_query;  ///< queries that are read next, as far apart, to prefetch; else null
};

/// A panel of up to tile_rows columns of a matrix product, over `inner` of the products that each element sums up.
template <class T>
struct PanelArguments {
  const T* left;  ///< [rows][inner]
  std::int64_t left_stride;
  int rows;
  int inner;
  const T* right;  ///< [inner][right_stride], 0 beyond `columns`
  int right_stride;  ///< `columns`, rounded up to whole vectors
  const T* start;    ///< [right_stride]: what the sums start from; null: they are added to the result
  T* result;         ///< [rows][columns]
  std::int64_t result_stride;
  int columns;
  Rows<T> ahead;   ///< rows of `inner` elements that are read soon, to prefetch
  int ahead_rows;  ///< how many
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

  /// attended[word][row_stride] from mask bytes, padding and limits; rows beyond num_rows attend nothing.
  BlockCoverage (*pack_mask)(const MaskArguments<T>&, KeyBits<T>* attended);

  /// True if every bias[row][offset + key · key_stride] is −∞. Soon false where one is not.
  bool (*bias_excludes_all)(const T* const* bias, std::int64_t offset, std::int64_t key_stride, int keys, int rows);

  /// scores[key][row] = query[row]·key, adjusted, −∞ where a masked span, the attended bits or the bias
  /// exclude the pair; maximum[row] over the attended ones. Lanes outside a span's vectors are left alone.
  /// True if the bias excludes a pair.
  bool (*scores)(const BlockArguments<T, KV>&);

  /// No key so far: reference −∞, sum 0. Lanes are `row_stride`.
  void (*start)(const RowState<T>&, int row_stride);

  /// Moves the reference where the maximum grew by more than 8, replaces the scores by weights 2^(score − reference),
  /// 0 outside the spans' vectors, adds their sums, sets the factor. Lanes are `row_stride`.
  /// `mark_excluded`: excluded pairs get −0 instead of +0, for values_careful.
  void (*softmax)(const BlockArguments<T, KV>&, bool mark_excluded);

  /// inverse[row] = 1 / sum[row], 0 for a dead row.
  void (*finish)(const RowState<T>&, int row_stride);

  /// output[row] = (accumulated[row] · factor[row] + Σ_key weights[key][row] · value[key]) · inverse[row].
  void (*values)(const ValueArguments<T, KV>&);

  /// The same where a value may not be finite: keys whose weight is −0 are not touched.
  void (*values_careful)(const ValueArguments<T, KV>&);

  /// pack_query, start, scores, softmax, finish and values at once, for a tile whose keys are one block, of which each row
  /// attends the first ones.
  void (*attend_tile)(const TileArguments<T, KV>&);

  /// True if every element is finite.
  bool (*all_finite)(const KV* rows, std::int64_t row_stride, int count, int features);

  /// Writes the scores to target[row][key · key_stride]; −∞ outside the spans' vectors, which the tile gets, too.
  void (*store_scores)(const BlockArguments<T, KV>&, int keys, int rows, T* const* target, std::int64_t key_stride);

  /// Recompute pass of the mean weights: adds 2^(score − reference[row]) · inverse[row], 0 where excluded, to
  /// target[row][key · key_stride], rows in order: several may have one target.
  void (*add_weights)(const BlockArguments<T, KV>&, int keys, int rows, T* const* target, std::int64_t key_stride);

  /// Turns scores of one row that store_scores wrote into 2^(score − reference) · inverse, 0 where excluded.
  void (*weigh_row)(T* scores, std::int64_t key_stride, std::int64_t keys, T reference, T inverse);

  /// result[row] = start (or result[row]) + Σ_i left[row][i] · right[i], in the order of i, for any number of rows.
  void (*multiply_panel)(const PanelArguments<T>&);

  // Few rows against many keys (decode): lanes are features.

  /// scores[q · score_stride + j] = query[q]·key[j] for j < keys. Features padded to whole vectors: queries with 0, keys
  /// readable. Rounds the same for any number of queries.
  void (*row_scores)(const T* query, int query_stride, int queries, Rows<KV> key, int keys, int feature_vectors,
                     T* scores, int score_stride);

  /// scores[j], j < keys, adjusted, −∞ where excluded. True if the bias, the mask or the padding excluded a key.
  bool (*row_adjust)(T* scores, int keys, const RowAdjustment<T>&);

  /// Online softmax of one row: of `keys` keys those in [begin, end) whose score is not −∞ are attended. Updates
  /// reference and sum, replaces scores by weights (0 outside), returns the factor for what was accumulated before.
  /// Room for whole vectors. `mark_excluded`: excluded keys get −0.
  T (*row_softmax)(T* scores, int begin, int end, int keys, T* reference, T* sum, bool mark_excluded);

  /// Recompute pass of the weights output: scores → 2^(score − reference) · inverse for keys [begin, end) of `keys`, 0
  /// elsewhere.
  void (*row_weights)(T* scores, int begin, int end, int keys, T reference, T inverse);

  /// accumulator[q] = accumulator[q] · factor[q] + Σ_j weights[q][j] · value[j], a sum of its own for each row_sum_keys.
  void (*row_values)(const T* weights, int weight_stride, int queries, const T* factor, Rows<KV> value, int keys,
                     int feature_vectors, T* accumulator, int accumulator_stride);

  /// The same, for one key or more, where a value may not be finite: keys whose weight is −0 are not touched.
  void (*row_values_careful)(const T* weights, int weight_stride, int queries, const T* factor, Rows<KV> value, int keys,
                             int feature_vectors, T* accumulator, int accumulator_stride);

  /// accumulator[q] += Σ_j weights[q][j] · value[j], one sum that goes on from the accumulator, in the order of j.
  void (*add_rows)(const T* weights, int weight_stride, int queries, Rows<KV> value, int keys, int feature_vectors,
                   T* accumulator, int accumulator_stride);

  /// Turns `parts` partial results of one row over disjoint keys into one: part p at references[p · part_stride],
  /// sums[p · part_stride], accumulators[p · accumulator_stride]; merged into the first one, in order.
  void (*merge_parts)(T* references, T* sums, T* accumulators, int parts, std::int64_t part_stride,
                      std::int64_t accumulator_stride, int feature_vectors);
};

}  // namespace headwise::detail
