/// \file
/// The ONNX operator Attention, opsets 23 to 25, in terms of headwise's public API.
///
/// What the operator adds to attention() lives here: three-dimensional inputs (heads side by side in a token), a cache
/// of past keys and values joined with the new ones, masks of rank 1 to 4 and masks shorter than the keys. Nothing is
/// copied but the present outputs and masks that are too short. Names are the operator's: errors name its inputs and
/// attributes.
///
/// Source: https://onnx.ai/onnx/operators/onnx__Attention.html
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "headwise/headwise.hpp"

namespace headwise::onnx {

/// A strided view of any rank; strides count elements.
template <class T>
struct Tensor {
  T* data = nullptr;
  std::vector<std::int64_t> extents, strides;

  /// Dense data in the order of its axes.
  static Tensor contiguous(T* first, std::vector<std::int64_t> extents) {
    std::vector<std::int64_t> strides(extents.size(), 1);
    for (std::size_t axis = extents.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * extents[axis];
    return {first, std::move(extents), std::move(strides)};
  }
};

struct AttentionAttributes {
  bool is_causal = false;
  std::optional<std::int64_t> q_num_heads = {}, kv_num_heads = {};  ///< required by inputs of three axes
  std::int64_t qk_matmul_output_mode = 0;  ///< 0: scaled product, 1: after softcap, 2: after mask, 3: after softmax
  std::optional<double> scale = {};        ///< default 1/√head_size
  double softcap = 0;                      ///< 0 = off
  std::int64_t left_window_size = -1, right_window_size = -1;  ///< −1 = unbounded
  /// Type of the softmax as onnx.TensorProto.DataType: 1, 10, 11 or 16. Without effect: the softmax is computed in T,
  /// within the bound of T.
  std::optional<std::int64_t> softmax_precision = {};
};

template <class T>
struct AttentionInputs {
  /// [batch, num_heads, sequence, head_size] or [batch, sequence, num_heads · head_size], all three of the same rank.
  Tensor<const T> q, k, v;
  /// Broadcast from the right to [batch, q_num_heads, q_sequence, total_sequence]: bytes (non-zero = attend) or numbers
  /// to add. A last axis that is shorter than total_sequence, also one of extent 1, excludes the keys that it lacks.
  std::variant<std::monostate, Tensor<const std::uint8_t>, Tensor<const T>> attn_mask = {};
  std::optional<Tensor<const T>> past_key = {}, past_value = {};  ///< [batch, kv_num_heads, past_sequence, head_size]
  std::optional<std::span<const std::int64_t>> nonpad_kv_seqlen = {};  ///< [batch]: keys that count
};

/// Outputs that are not given are not computed; past keys and values need no present ones.
template <class T>
struct AttentionOutputs {
  Tensor<T> y;  ///< [batch, q_num_heads, q_sequence, v_head_size] or [batch, q_sequence, q_num_heads · v_head_size]
  std::optional<Tensor<T>> present_key = {}, present_value = {};  ///< both or neither: past and new joined
  std::optional<Tensor<T>> qk_matmul_output = {};  ///< [batch, q_num_heads, q_sequence, total_sequence]
};

/// The extents of a call, e.g. to allocate its outputs; key_length is past and new together.
/// \throws std::invalid_argument naming the input or attribute, its value and what was expected.
template <class T>
AttentionShape attention_shape(const AttentionAttributes& attributes, const AttentionInputs<T>& inputs);

/// One call of the operator, checked; it may run often. The tensors must outlive it. T is float or double.
template <class T>
class AttentionCall {
 public:
  /// \throws std::invalid_argument naming the input, output or attribute, its value and what was expected.
  AttentionCall(const AttentionAttributes& attributes, const AttentionInputs<T>& inputs,
                const AttentionOutputs<T>& outputs);
  AttentionCall(const AttentionCall&) = delete;  // the arguments point into the members
  AttentionCall& operator=(const AttentionCall&) = delete;

  /// Attends to the keys and values where they lie, then writes the present ones, where asked for. Those may be the past
  /// ones grown in place, and must share no other memory with each other or anything of the call, which is not checked.
  /// \throws std::invalid_argument, std::bad_alloc as AttentionPlan; outputs are untouched then.
  void run(int num_threads = 0) const;

  /// The call in headwise's terms.
  const AttentionShape& shape() const { return shape_; }
  const AttentionOptions& options() const { return options_; }
  const AttentionArguments<T>& arguments() const { return arguments_; }

 private:
  struct Copy {
    TensorView<const T, 4> from;
    TensorView<T, 4> to;
  };

  void set_options(const AttentionAttributes& attributes, const AttentionInputs<T>& inputs);
  void set_keys(const AttentionInputs<T>& inputs, const AttentionOutputs<T>& outputs);
  void set_mask(const AttentionInputs<T>& inputs);
  void set_outputs(const AttentionAttributes& attributes, const AttentionOutputs<T>& outputs);

  AttentionShape shape_;
  AttentionOptions options_;
  AttentionArguments<T> arguments_;
  std::vector<Copy> copies_;  // past and new into present
  std::vector<KeyRun<T>> runs_;  // past and new where they lie
  std::vector<std::int64_t> zeros_, past_lengths_, new_lengths_;
  std::vector<std::uint8_t> padded_mask_;
  std::vector<T> padded_bias_;
};

extern template AttentionShape attention_shape(const AttentionAttributes&, const AttentionInputs<float>&);
extern template AttentionShape attention_shape(const AttentionAttributes&, const AttentionInputs<double>&);
extern template class AttentionCall<float>;
extern template class AttentionCall<double>;

}  // namespace headwise::onnx
