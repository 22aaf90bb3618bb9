/// \file
/// Scaled dot-product attention over strided views, fused: scores, bias, mask, softmax and the weighted sum of values in
/// one pass.
///
/// For batch entry b, query head h and query i at position p = i + offset, with the key/value head
/// h·num_kv_heads/num_heads:
///
///     s_j      = scale · Σ_d query[b, h, i, d] · key[b, h', j, d]
///     s_j      ← softcap · tanh(s_j / softcap)                 if softcap > 0
///     s_j      ← s_j + bias[b, h, i, j] + slope_h · (j − p)
///     p_j      = exp(s_j) / (Σ_k exp(s_k) + exp(sink_h))       over the attended keys j, k
///     output   = Σ_j p_j · value[b, h', j, :]
///
/// A key is attended unless the mask, a bias of −∞, causality, the window or the sequence's length excludes it; what an
/// excluded key holds has no effect. A row without attended keys gives 0. Values are summed with weights of up to 2^8 and
/// divided at the end: where Σ_j |value_j| exceeds (largest number)/2^8, the output may be infinite.
///
/// Source: Vaswani et al., "Attention Is All You Need" (2017); values, masks and edges as in the ONNX operator
/// `Attention` (opsets 23–25). The softmax is the online one of Milakov and Gimelshein (2018), tiled as in
/// FlashAttention (Dao et al., 2022): nothing of size query_length × key_length is ever stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "headwise/tensor.hpp"

namespace headwise::detail {
template <class T, class KV>
struct KernelTable;
}

namespace headwise {
inline namespace v0 {

/// Sizes of one attention call. Every extent is a count of elements, ≥ 0.
struct AttentionShape {
  std::int64_t batch = 0;         ///< independent sequences
  std::int64_t num_heads = 0;     ///< query heads, a multiple of num_kv_heads
  std::int64_t num_kv_heads = 0;  ///< key/value heads; query head h uses key/value head h / (num_heads / num_kv_heads)
  std::int64_t query_length = 0;  ///< queries per sequence
  std::int64_t key_length = 0;    ///< keys per sequence: the largest that will be passed
  std::int64_t head_dim = 0;      ///< features of a query and of a key, 1 to 2^24
  std::int64_t value_dim = 0;     ///< features of a value and of an output row, up to 2^24
};

/// Where query 0 stands among the keys: query i has position i + offset.
enum class QueryPosition {
  top_left,      ///< offset 0
  bottom_right,  ///< offset key_length − query_length of the sequence: the last query stands at the last key
  given          ///< offset query_offsets[b], e.g. the number of keys already in a cache
};

/// Keys around the query's position p: p − left ≤ j ≤ p + right; −1 = unbounded on that side.
struct Window {
  std::int64_t left = -1;   ///< keys before the query's position that it attends
  std::int64_t right = -1;  ///< keys after it
};

/// Which scores the `scores` output holds (the qk_matmul_output_mode 0 to 2 of ONNX; mode 3 is `weights`).
enum class ScoreStage {
  scaled,      ///< scale · q·k, of excluded keys too
  softcapped,  ///< after softcap, of excluded keys too
  biased       ///< after bias, ALiBi and mask: −∞ for excluded keys
};

/// What is computed; plain values, fixed for a plan.
struct AttentionOptions {
  /// Factor of the scores; default 1/√head_dim. Any value, negative and 0 too, up to ±(largest number)/log2(e).
  std::optional<double> scale = {};
  double softcap = 0;           ///< scores become softcap · tanh(score / softcap); 0 = off
  bool causal = false;          ///< query i attends key j only if j ≤ its position
  Window window = {};           ///< sliding window; both sides unbounded by default
  QueryPosition query_position = QueryPosition::top_left;  ///< what causal, window and ALiBi count from
  ScoreStage score_stage = ScoreStage::scaled;  ///< what arguments.scores receives
  int num_threads = 0;  ///< 0 = what OpenMP would use when the plan is made; a call uses at most that many
};

/// A stretch of a sequence's keys and values in memory, for keys that do not lie in one piece (a ring buffer, a cache
/// and new tokens). For batch entry b, slots [first_slot[b], first_slot[b] + length[b]) of the views hold positions
/// first_position[b], first_position[b] + 1, … A length of 0 is no run: its slot and position mean nothing.
template <class KV>
struct KeyRun {
  TensorView<const KV, 4> key;    ///< [batch, num_kv_heads, slots, head_dim]
  TensorView<const KV, 4> value;  ///< [batch, num_kv_heads, slots, value_dim]
  std::span<const std::int64_t> first_slot;      ///< one value per batch entry
  std::span<const std::int64_t> first_position;  ///< one value per batch entry
  std::span<const std::int64_t> length;          ///< one value per batch entry
};

/// The data of one run; the views may differ in every run. Inputs may alias each other, outputs may share an element
/// with nothing else (interleaved views of one buffer are fine). "Scores-shaped" is [batch, num_heads, query_length,
/// key_length]; inputs of that shape broadcast along axes of extent 1 or stride 0.
template <class T, class KV = T>
struct AttentionArguments {
  TensorView<const T, 4> query = {};   ///< [batch, num_heads, query_length, head_dim]
  TensorView<const KV, 4> key = {};    ///< [batch, num_kv_heads, key length ≤ shape.key_length, head_dim]
  TensorView<const KV, 4> value = {};  ///< [batch, num_kv_heads, key length, value_dim]
  TensorView<T, 4> output = {};        ///< [batch, num_heads, query_length, value_dim]

  /// Keys that count in each batch entry, or empty: all do. Later keys are excluded at no cost and may hold anything.
  std::span<const std::int64_t> key_lengths = {};
  /// Position of query 0 in each batch entry, within ±2^62; required by QueryPosition::given, else empty.
  std::span<const std::int64_t> query_offsets = {};

  /// Ragged batches: sequences of different lengths one after the other, without padding. batch + 1 rising offsets each:
  /// sequence b has queries [query_starts[b], query_starts[b+1]) and keys [key_starts[b], key_starts[b+1]) of the tokens.
  /// query, key, value, output and logsumexp then have batch extent 1 and all tokens along the position axis (see
  /// ragged_view); shape.query_length and shape.key_length are the longest sequences.
  std::span<const std::int64_t> query_starts = {};
  std::span<const std::int64_t> key_starts = {};  ///< as query_starts, for the keys

  /// Instead of key and value: the runs that hold the keys, in rising position. Positions between runs count as excluded
  /// keys; the sequence's key length is the end of its last run.
  std::span<const KeyRun<KV>> key_runs = {};

  std::optional<TensorView<const std::uint8_t, 4>> mask = {};  ///< scores-shaped: non-zero = attend
  /// Scores-shaped: added to the score; −∞ excludes. Scores are computed in base 2, so a finite bias beyond
  /// ±(largest number)/log2(e) counts as that.
  std::optional<TensorView<const T, 4>> bias = {};
  /// [batch, key_length]: non-zero = exclude, as torch.nn.MultiheadAttention's key_padding_mask (the opposite sense of
  /// `mask`). Mask, bias and this may be given together.
  std::optional<TensorView<const std::uint8_t, 2>> key_padding_mask = {};
  std::span<const T> alibi_slopes = {};  ///< per query head, or empty: adds slope · (j − p) (Press et al., 2022)
  /// Per query head, or empty: an extra logit that only joins the denominator. A finite one beyond ±(largest
  /// number)/log2(e) counts as that.
  std::span<const T> sinks = {};

  std::optional<TensorView<T, 3>> logsumexp = {};     ///< [batch, num_heads, query_length]: ln of the denominator
  std::optional<TensorView<T, 4>> weights = {};       ///< scores-shaped: p_j; 0 for excluded keys
  std::optional<TensorView<T, 3>> mean_weights = {};  ///< [batch, query_length, key_length]: weights averaged over heads
  std::optional<TensorView<T, 4>> scores = {};        ///< scores-shaped, at options.score_stage
};

/// [tokens, heads, dim] of a ragged batch as the [1, heads, tokens, dim] view that AttentionArguments takes.
template <class T>
constexpr TensorView<T, 4> ragged_view(const TensorView<T, 3>& tokens) {
  return {tokens.data,
          {1, tokens.extent(1), tokens.extent(0), tokens.extent(2)},
          {0, tokens.stride(1), tokens.stride(0), tokens.stride(2)}};
}

/// T5-like relative bias without a score-shaped tensor: bias[b, h, i, j] = table[h, j − i + query_length − 1], a view
/// with strides (−1, +1) over a [heads, query_length + key_length − 1] table (of no column without any token).
/// \throws std::invalid_argument if a length is negative or the table's second extent is not as above.
template <class T>
TensorView<const T, 4> relative_bias_view(const TensorView<const T, 2>& table, std::int64_t query_length,
                                          std::int64_t key_length) {
  const auto refuse = [](const char* name, std::int64_t value, const std::string& expected) {
    throw std::invalid_argument(std::string("headwise: ") + name + " is " + std::to_string(value) + ", expected " +
                                expected);
  };
  if (query_length < 0) refuse("query_length", query_length, "at least 0");
  if (key_length < 0) refuse("key_length", key_length, "at least 0");
  const std::int64_t distances = query_length + key_length == 0 ? 0 : query_length + key_length - 1;
  if (table.extent(1) != distances) {
    refuse("table.extent(1)", table.extent(1), std::to_string(distances) + " (query_length + key_length - 1)");
  }
  const std::int64_t step = table.stride(1);
  return {table.empty() || query_length == 0 ? table.data : table.data + (query_length - 1) * step,
          {1, table.extent(0), query_length, key_length},
          {0, table.stride(0), -step, step}};
}

/// The kernel that computes a row. Rows of different kernels agree within the accuracy bound, not bit for bit.
enum class KernelPath {
  query_tile,  ///< many rows at once, lanes are query rows
  row_dot      ///< few rows against long keys, lanes are features
};

/// Attention prepared for a shape and options: validates once, chooses kernels and tile sizes, then runs often.
///
/// A plan is immutable: one plan may run in many threads at once. Results have the same bits for every thread count,
/// every split of the batch and every repeat. T is float or double (query, output), KV the type of keys and values.
template <class T, class KV = T>
class AttentionPlan {
 public:
  /// \throws std::invalid_argument naming the field, its value and what was expected.
  explicit AttentionPlan(const AttentionShape& shape, const AttentionOptions& options = {});

  /// Bytes that run() needs beside its arguments, for every key length ≤ shape.key_length and any strides.
  std::size_t workspace_bytes() const { return workspace_bytes_; }

  /// The kernel of query `row` in a sequence of `query_length` queries.
  KernelPath path(std::int64_t query_length, std::int64_t row) const;

  /// Computes output, and logsumexp and weights where given. Re-entrant.
  /// \param arguments the views of this run, of the plan's shape
  /// \param workspace at least workspace_bytes() bytes aligned to 64, used by one run at a time; without it run()
  ///        makes one allocation.
  /// \throws std::invalid_argument naming the argument, its value and what was expected; std::bad_alloc. Outputs are
  ///         untouched then.
  void run(const AttentionArguments<T, KV>& arguments, std::span<std::byte> workspace = {}) const;

  /// What the plan was made for.
  const AttentionShape& shape() const { return shape_; }
  /// What the plan was made for, with num_threads resolved.
  const AttentionOptions& options() const { return options_; }

 private:
  AttentionShape shape_;
  AttentionOptions options_;
  const detail::KernelTable<T, KV>* kernels_;
  std::size_t workspace_bytes_;
};

/// One call: plans for the extents of the views and runs. See AttentionPlan and AttentionArguments.
/// \throws std::invalid_argument, std::bad_alloc as AttentionPlan::run.
template <class T, class KV = T>
void attention(std::type_identity_t<TensorView<const T, 4>> query, std::type_identity_t<TensorView<const KV, 4>> key,
               std::type_identity_t<TensorView<const KV, 4>> value, TensorView<T, 4> output,
               const AttentionOptions& options = {});

/// One call with all arguments: plans for the extents of the views and runs.
/// \throws std::invalid_argument, std::bad_alloc as AttentionPlan::run.
template <class T, class KV = T>
void attention(const AttentionArguments<T, KV>& arguments, const AttentionOptions& options = {});

extern template class AttentionPlan<float>;
extern template class AttentionPlan<double>;
extern template void attention<float>(TensorView<const float, 4>, TensorView<const float, 4>,
                                      TensorView<const float, 4>, TensorView<float, 4>, const AttentionOptions&);
extern template void attention<double>(TensorView<const double, 4>, TensorView<const double, 4>,
                                       TensorView<const double, 4>, TensorView<double, 4>, const AttentionOptions&);
extern template void attention<float>(const AttentionArguments<float>&, const AttentionOptions&);
extern template void attention<double>(const AttentionArguments<double>&, const AttentionOptions&);

}  // namespace v0
}  // namespace headwise
