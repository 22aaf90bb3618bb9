/// \file
/// The attention layer: x → query, key, value projections → heads → attention → concatenation → output projection.
///
///     Q = x·Wq + bq,  K = y·Wk + bk,  V = y·Wv + bv          (y = x for self-attention)
///     head_h = softmax(scale · Q_h·K_hᵀ) · V_h                 Q_h: columns h·head_dim … of Q
///     output = [head_0 | head_1 | …]·Wo + bo                   (or the concatenation itself without Wo)
///
/// Source: Vaswani et al. (2017), section 3.2.2. Projections are one product per weight matrix, by BLAS or by a
/// kernel of headwise's own, whichever is faster; heads are read and written in place by stride, so splitting and joining
/// them copies nothing.
///
/// The steps are callable alone: project(), split_heads(), attention() over the heads, and for the way back
/// attention() writing into split_heads() of a [batch, tokens, num_heads·value_dim] tensor, then project() of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "headwise/attention.hpp"
#include "headwise/tensor.hpp"

namespace headwise {

namespace detail {
template <class T>
class PackedWeight;
}  // namespace detail

inline namespace v0 {

/// How a weight matrix is stored.
enum class WeightOrder {
  in_out,  ///< [inputs, outputs]: y = x·W
  out_in   ///< [outputs, inputs], as torch.nn.Linear: y = x·Wᵀ
};

/// A linear map y = x·W + bias. Views only: weight and bias must outlive it, unless it is packed.
template <class T>
struct Projection {
  TensorView<const T, 2> weight = {};  ///< [inputs, outputs] or [outputs, inputs]; one stride is 1, the other positive
  WeightOrder order = WeightOrder::in_out;  ///< of the weight's axes
  std::span<const T> bias = {};             ///< one value per output, or empty
  /// The map's own copy of the weight, from pack_weight(); then `weight` is nothing but its extents.
  std::shared_ptr<const detail::PackedWeight<T>> packed = {};

  /// Features of x.
  std::int64_t inputs() const { return weight.extent(order == WeightOrder::in_out ? 0 : 1); }
  /// Features of y.
  std::int64_t outputs() const { return weight.extent(order == WeightOrder::in_out ? 1 : 0); }
};

/// Step: output[b, t, :] = input[b, t, :]·W + bias. One product where the rows of input and output have one stride over
/// batch and tokens, else one per batch entry. Makes at most one allocation.
/// \param input  [batch, tokens, inputs]: feature stride 1, token stride ≥ inputs, any batch stride
/// \param projection W and bias
/// \param output [batch, tokens, outputs]: feature stride 1, token stride ≥ outputs; shares no element with an input
/// \param num_threads 0 = what OpenMP would use
/// \throws std::invalid_argument naming the argument, its value and what was expected; std::bad_alloc. The output is
///         untouched then.
template <class T>
void project(std::type_identity_t<TensorView<const T, 3>> input, const Projection<T>& projection,
             TensorView<T, 3> output, int num_threads = 0);

/// The same linear map over a copy of weight and bias, the weight in the order in which headwise's kernel reads it.
/// project() and layers otherwise bring it into that order in every call, which weighs the more the fewer tokens there
/// are, but for up to eight, whose product reads the weight where it lies. Every product with the result is computed by
/// that kernel: sums may be in another order than unpacked. Worth its memory where a layer runs more than once with
/// five to some thousand tokens.
/// \return owns its copies, which its own copies share: the given weight and bias may change or end
/// \throws std::invalid_argument as project() for the projection; std::bad_alloc
template <class T>
Projection<T> pack_weight(const Projection<T>& projection);

/// Step, a view: [batch, tokens, num_heads·dim] → [batch, num_heads, tokens, dim]. Nothing is copied.
/// \throws std::invalid_argument if num_heads does not divide the feature extent.
template <class T>
TensorView<T, 4> split_heads(const TensorView<T, 3>& tokens, std::int64_t num_heads);

/// Sizes of a layer.
struct MultiHeadAttentionShape {
  std::int64_t batch = 0;         ///< independent sequences
  std::int64_t query_length = 0;  ///< queries per sequence
  std::int64_t key_length = 0;    ///< keys per sequence: the largest that will be passed; self: query_length
  std::int64_t num_heads = 0;     ///< query heads, a multiple of num_kv_heads
  std::int64_t num_kv_heads = 0;  ///< key/value heads
  std::int64_t head_dim = 0;      ///< features per query and key head
  std::int64_t value_dim = 0;     ///< features per value head
};

/// The weights of a layer: either query, key and value, or packed for all three, whose outputs are [all query heads |
/// all key heads | all value heads]. Packed serves self-attention, in one product; for cross-attention give slices of
/// it as query, key and value.
template <class T>
struct MultiHeadAttentionWeights {
  std::optional<Projection<T>> packed = {};  ///< all three at once
  std::optional<Projection<T>> query = {};   ///< outputs: num_heads · head_dim
  std::optional<Projection<T>> key = {};     ///< outputs: num_kv_heads · head_dim
  std::optional<Projection<T>> value = {};   ///< outputs: num_kv_heads · value_dim
  std::optional<Projection<T>> output = {};  ///< without it the concatenated heads are the output
};

/// pack_weight() of every projection of a layer.
template <class T>
MultiHeadAttentionWeights<T> pack_weights(const MultiHeadAttentionWeights<T>& weights);

/// The data of one run.
template <class T>
struct MultiHeadAttentionArguments {
  TensorView<const T, 3> query_input = {};                 ///< [batch, query_length, inputs], strides as in project()
  std::optional<TensorView<const T, 3>> key_input = {};    ///< [batch, key length, inputs]; absent: query_input
  std::optional<TensorView<const T, 3>> value_input = {};  ///< [batch, key length, inputs]; absent: the key input
  TensorView<T, 3> output = {};                            ///< [batch, query_length, outputs of the last step]
  std::span<const std::int64_t> key_lengths = {};          ///< as in AttentionArguments
  std::span<const std::int64_t> query_offsets = {};        ///< as in AttentionArguments
  std::optional<TensorView<T, 3>> logsumexp = {};          ///< [batch, num_heads, query_length]
  std::optional<TensorView<T, 4>> weights = {};            ///< [batch, num_heads, query_length, key length]
};

/// The layer prepared for a shape: validates weights once, then runs often. Holds views of the weights, which must
/// outlive it unless they are packed. Immutable: may run in many threads at once.
template <class T>
class MultiHeadAttention {
 public:
  /// \throws std::invalid_argument naming the field, its value and what was expected.
  MultiHeadAttention(const MultiHeadAttentionShape& shape, const MultiHeadAttentionWeights<T>& weights,
                     const AttentionOptions& options = {});

  /// Bytes that run() needs beside its arguments: the projected queries, keys, values and heads, and the attention's.
  std::size_t workspace_bytes() const;

  /// Computes the layer. Re-entrant; equal calls give equal bits.
  /// \param arguments the views of this run, of the layer's shape
  /// \param workspace at least workspace_bytes() bytes aligned to 64, used by one run at a time; without it run()
  ///        makes one allocation.
  /// \throws std::invalid_argument naming the argument, its value and what was expected; std::bad_alloc. Outputs are
  ///         untouched then.
  void run(const MultiHeadAttentionArguments<T>& arguments, std::span<std::byte> workspace = {}) const;

  /// What the layer was made for.
  const MultiHeadAttentionShape& shape() const { return shape_; }

 private:
  MultiHeadAttentionShape shape_;
  MultiHeadAttentionWeights<T> weights_;
  AttentionPlan<T> plan_;
};

/// One call: makes a layer for the extents of the views and weights and runs it. head_dim is the query projection's
/// outputs / num_heads, the number of key/value heads the key projection's outputs / head_dim; packed weights count
/// as three equal parts (grouped heads with packed weights: use the class).
/// \throws std::invalid_argument if num_heads does not divide the outputs, and as MultiHeadAttention.
template <class T>
void multi_head_attention(const MultiHeadAttentionArguments<T>& arguments, const MultiHeadAttentionWeights<T>& weights,
                          std::int64_t num_heads, const AttentionOptions& options = {});

extern template void project<float>(TensorView<const float, 3>, const Projection<float>&, TensorView<float, 3>, int);
extern template void project<double>(TensorView<const double, 3>, const Projection<double>&, TensorView<double, 3>,
                                     int);
extern template Projection<float> pack_weight(const Projection<float>&);
extern template Projection<double> pack_weight(const Projection<double>&);
extern template MultiHeadAttentionWeights<float> pack_weights(const MultiHeadAttentionWeights<float>&);
extern template MultiHeadAttentionWeights<double> pack_weights(const MultiHeadAttentionWeights<double>&);
extern template TensorView<float, 4> split_heads(const TensorView<float, 3>&, std::int64_t);
extern template TensorView<double, 4> split_heads(const TensorView<double, 3>&, std::int64_t);
extern template TensorView<const float, 4> split_heads(const TensorView<const float, 3>&, std::int64_t);
extern template TensorView<const double, 4> split_heads(const TensorView<const double, 3>&, std::int64_t);
extern template class MultiHeadAttention<float>;
extern template class MultiHeadAttention<double>;
extern template void multi_head_attention(const MultiHeadAttentionArguments<float>&,
                                          const MultiHeadAttentionWeights<float>&, std::int64_t,
                                          const AttentionOptions&);
extern template void multi_head_attention(const MultiHeadAttentionArguments<double>&,
                                          const MultiHeadAttentionWeights<double>&, std::int64_t,
                                          const AttentionOptions&);

}  // namespace v0
}  // namespace headwise
