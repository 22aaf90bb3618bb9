/// \file
/// Scaled dot-product attention over strided views, fused: scores, softmax and the weighted sum of values in one pass.
///
/// For batch entry b, query head h and query i, with the key/value head h·num_kv_heads/num_heads:
///
///     s_j      = scale · Σ_d query[b, h, i, d] · key[b, h', j, d]
///     p_j      = exp(s_j) / Σ_k exp(s_k)                  over the attended keys j, k
///     output   = Σ_j p_j · value[b, h', j, :]
///
/// Source: Vaswani et al., "Attention Is All You Need" (2017); values, masks and edges as in the ONNX operator
/// `Attention` (opsets 23–25). The softmax is the online one of Milakov and Gimelshein (2018), tiled as in
/// FlashAttention (Dao et al., 2022): nothing of size query_length × key_length is ever stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
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
  std::int64_t head_dim = 0;      ///< features of a query and of a key, ≥ 1
  std::int64_t value_dim = 0;     ///< features of a value and of an output row
};

/// Where query 0 stands among the keys: query i has position i + offset.
enum class QueryPosition {
  top_left,      ///< offset 0
  bottom_right,  ///< offset key_length − query_length of the sequence: the last query stands at the last key
  given          ///< offset query_offsets[b], e.g. the number of keys already in a cache
};

/// What is computed; plain values, fixed for a plan.
struct AttentionOptions {
  std::optional<double> scale = {};  ///< factor of the scores; default 1/√head_dim. Any finite value
  bool causal = false;          ///< query i attends key j only if j ≤ its position
  QueryPosition query_position = QueryPosition::top_left;
  int num_threads = 0;  ///< 0 = what OpenMP would use when the plan is made; a call uses at most that many
};

/// The data of one run; the views may differ in every run. Inputs may alias each other, outputs may share an element
/// with nothing else (interleaved views of one buffer are fine).
template <class T, class KV = T>
struct AttentionArguments {
  TensorView<const T, 4> query = {};   ///< [batch, num_heads, query_length, head_dim]
  TensorView<const KV, 4> key = {};    ///< [batch, num_kv_heads, key length ≤ shape.key_length, head_dim]
  TensorView<const KV, 4> value = {};  ///< [batch, num_kv_heads, key length, value_dim]
  TensorView<T, 4> output = {};        ///< [batch, num_heads, query_length, value_dim]

  /// Keys that count in each batch entry, or empty: all do. Later keys are excluded at no cost and may hold anything.
  std::span<const std::int64_t> key_lengths = {};
  /// Position of query 0 in each batch entry; required by QueryPosition::given, else empty. May be negative.
  std::span<const std::int64_t> query_offsets = {};

  /// [batch, num_heads, query_length]: natural logarithm of Σ_j exp(s_j); −∞ for a row without attended keys.
  std::optional<TensorView<T, 3>> logsumexp = {};
  /// [batch, num_heads, query_length, key length]: p_j; 0 for excluded keys. The only memory of that size.
  std::optional<TensorView<T, 4>> weights = {};
};

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
  std::size_t workspace_bytes() const;

  /// The kernel of query `row` in a sequence of `query_length` queries.
  KernelPath path(std::int64_t query_length, std::int64_t row) const;

  /// Computes output, and logsumexp and weights where given. Re-entrant.
  /// \param workspace at least workspace_bytes() bytes aligned to 64, used by one run at a time; without it run()
  ///        makes one allocation.
  /// \throws std::invalid_argument naming the argument, its value and what was expected; std::bad_alloc. Outputs are
  ///         untouched then.
  void run(const AttentionArguments<T, KV>& arguments, std::span<std::byte> workspace = {}) const;

  const AttentionShape& shape() const { return shape_; }
  const AttentionOptions& options() const { return options_; }

 private:
  AttentionShape shape_;
  AttentionOptions options_;
  const detail::KernelTable<T, KV>* kernels_;
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
