#include "adapters/onnx/attention.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>

namespace headwise::onnx {
namespace {

[[noreturn]] void refuse(std::string_view name, std::string_view value, std::string_view expectation) {
  std::string text = "headwise: ";
  throw std::invalid_argument(text.append(name).append(" is ").append(value).append(", expected ").append(expectation));
}

[[noreturn]] void refuse(std::string_view name, std::int64_t value, std::string_view expectation) {
  refuse(name, std::to_string(value), expectation);
}

std::string extent_name(std::string_view tensor, std::size_t axis) {
  return std::string(tensor) + ".extent(" + std::to_string(axis) + ")";
}

/// An extent and what the operator calls it.
struct Axis {
  std::string_view name;
  std::int64_t extent;
};

template <class T>
void expect_extents(std::string_view name, const Tensor<T>& tensor, const std::vector<Axis>& axes) {
  if (tensor.extents.size() != axes.size()) {
    refuse("rank of " + std::string(name), static_cast<std::int64_t>(tensor.extents.size()),
           std::to_string(axes.size()));
  }
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    if (tensor.extents[axis] == axes[axis].extent) continue;
    refuse(extent_name(name, axis), tensor.extents[axis],
           std::to_string(axes[axis].extent) + " (" + std::string(axes[axis].name) + ")");
  }
}

/// What headwise's own checks would say in its own words, or come too late for.
template <class T>
void expect_tensor(std::string_view name, const Tensor<T>& tensor) {
  for (std::size_t axis = 0; axis < tensor.extents.size(); ++axis) {
    if (tensor.extents[axis] < 0) refuse(extent_name(name, axis), tensor.extents[axis], "at least 0");
  }
  const bool empty = std::count(tensor.extents.begin(), tensor.extents.end(), 0) > 0;
  if (tensor.data == nullptr && !empty) refuse(std::string(name) + ".data", "null", "a pointer to the elements");
}

/// A tensor whose rank is known to be four.
template <class T>
TensorView<T, 4> view_of(const Tensor<T>& tensor) {
  TensorView<T, 4> view{tensor.data, {}, {}};
  std::copy_n(tensor.extents.begin(), 4, view.extents.begin());
  std::copy_n(tensor.strides.begin(), 4, view.strides.begin());
  return view;
}

/// [batch, sequence, heads · dim] as [batch, heads, sequence, dim]; tensors of four axes as they are.
template <class T>
TensorView<T, 4> split_heads(const Tensor<T>& tensor, std::int64_t heads) {
  if (tensor.extents.size() == 4) return view_of(tensor);
  const std::int64_t dim = tensor.extents[2] / heads;
  return {tensor.data,
          {tensor.extents[0], heads, tensor.extents[1], dim},
          {tensor.strides[0], dim * tensor.strides[2], tensor.strides[1], tensor.strides[2]}};
}

/// Heads of Q, K or V. \param attribute q_num_heads or kv_num_heads
template <class T>
std::int64_t heads_of(std::string_view name, const Tensor<const T>& tensor, std::string_view attribute,
                      std::optional<std::int64_t> heads) {
  if (heads && *heads < 1) refuse(attribute, *heads, "at least 1");
  if (tensor.extents.size() == 4) {
    if (heads && *heads != tensor.extents[1]) {
      refuse(attribute, *heads, std::to_string(tensor.extents[1]) + " (" + extent_name(name, 1) + ") or none");
    }
    return tensor.extents[1];
  }
  if (!heads) refuse(attribute, "absent", "a number of heads: " + std::string(name) + " has three axes");
  if (tensor.extents[2] % *heads != 0) {
    refuse(extent_name(name, 2), tensor.extents[2],
           "a multiple of " + std::string(attribute) + " (" + std::to_string(*heads) + ")");
  }
  return *heads;
}

template <class T>
void copy_elements(const TensorView<const T, 4>& from, const TensorView<T, 4>& to) {
  for (std::int64_t b = 0; b < from.extent(0); ++b) {
    for (std::int64_t h = 0; h < from.extent(1); ++h) {
      for (std::int64_t i = 0; i < from.extent(2); ++i) {
        for (std::int64_t d = 0; d < from.extent(3); ++d) to(b, h, i, d) = from(b, h, i, d);
      }
    }
  }
}

/// A mask as [batch or 1, heads or 1, queries or 1, key_length]; `padded` receives it where keys are missing.
template <class Element>
TensorView<const Element, 4> scores_shaped(const Tensor<const Element>& mask, const AttentionShape& shape,
                                           Element excluded, std::vector<Element>& padded) {
  const std::size_t rank = mask.extents.size();
  if (rank < 1 || rank > 4) refuse("rank of attn_mask", static_cast<std::int64_t>(rank), "1 to 4");
  expect_tensor("attn_mask", mask);
  const std::size_t missing = 4 - rank;
  TensorView<const Element, 4> view{mask.data, {1, 1, 1, 1}, {0, 0, 0, 0}};
  std::copy(mask.extents.begin(), mask.extents.end(), view.extents.begin() + static_cast<std::ptrdiff_t>(missing));
  std::copy(mask.strides.begin(), mask.strides.end(), view.strides.begin() + static_cast<std::ptrdiff_t>(missing));

  const std::array<Axis, 3> axes{{{"batch_size", shape.batch},
                                  {"q_num_heads", shape.num_heads},
                                  {"q_sequence_length", shape.query_length}}};
  for (std::size_t axis = missing; axis < axes.size(); ++axis) {
    const auto& [name, extent] = axes[axis];
    if (view.extents[axis] == 1 || view.extents[axis] == extent) continue;
    refuse(extent_name("attn_mask", axis - missing), view.extents[axis],
           "1 or " + std::to_string(extent) + " (" + std::string(name) + ")");
  }
  const std::int64_t keys = view.extent(3);
  if (keys > shape.key_length) {
    refuse(extent_name("attn_mask", rank - 1), keys,
           "at most " + std::to_string(shape.key_length) + " (total_sequence_length)");
  }
  if (keys == shape.key_length) return view;

  std::array<std::int64_t, 4> extents = view.extents;
  extents[3] = shape.key_length;
  padded.assign(static_cast<std::size_t>(extents[0] * extents[1] * extents[2] * extents[3]), excluded);
  const auto wide = TensorView<Element, 4>::contiguous(padded.data(), extents);
  copy_elements<Element>(view, wide.slice(3, 0, keys));
  return wide;
}

}  // namespace

template <class T>
AttentionShape attention_shape(const AttentionAttributes& attributes, const AttentionInputs<T>& inputs) {
  const auto& [q, k, v, attn_mask, past_key, past_value, nonpad_kv_seqlen] = inputs;
  const std::size_t rank = q.extents.size();
  if (rank != 3 && rank != 4) refuse("rank of Q", static_cast<std::int64_t>(rank), "3 or 4");
  for (const auto& [name, tensor] : {std::pair("K", &k), std::pair("V", &v)}) {
    if (tensor->extents.size() == rank) continue;
    refuse("rank of " + std::string(name), static_cast<std::int64_t>(tensor->extents.size()),
           std::to_string(rank) + " (rank of Q)");
  }
  for (const auto& [name, tensor] : {std::pair("Q", &q), std::pair("K", &k), std::pair("V", &v)}) {
    expect_tensor(name, *tensor);
  }
  if (past_key) expect_tensor("past_key", *past_key);
  if (past_value) expect_tensor("past_value", *past_value);
  if (past_key && !past_value) refuse("past_value", "absent", "a tensor: past_key is given");
  if (past_value && !past_key) refuse("past_key", "absent", "a tensor: past_value is given");
  if (past_key && nonpad_kv_seqlen) refuse("nonpad_kv_seqlen", "given", "none together with past_key and past_value");

  const auto query = split_heads(q, heads_of("Q", q, "q_num_heads", attributes.q_num_heads));
  const auto key = split_heads(k, heads_of("K", k, "kv_num_heads", attributes.kv_num_heads));
  const auto value = split_heads(v, heads_of("V", v, "kv_num_heads", attributes.kv_num_heads));
  const auto as_tensor = [](const TensorView<const T, 4>& view) {
    return Tensor<const T>{view.data, {view.extents.begin(), view.extents.end()}, {}};
  };
  const Axis batch{"batch_size", query.extent(0)}, kv_heads{"kv_num_heads", key.extent(1)};
  const Axis keys{"kv_sequence_length", key.extent(2)};
  const Axis head_size{"head_size", query.extent(3)}, v_head_size{"v_head_size", value.extent(3)};
  const std::string split = rank == 3 ? " split into heads" : "";
  expect_extents("K" + split, as_tensor(key), {batch, kv_heads, keys, head_size});
  expect_extents("V" + split, as_tensor(value), {batch, kv_heads, keys, v_head_size});
  std::int64_t past_length = 0;
  if (past_key) {
    past_length = past_key->extents.size() == 4 ? past_key->extents[2] : 0;
    const Axis past{"past_sequence_length", past_length};
    expect_extents("past_key", *past_key, {batch, kv_heads, past, head_size});
    expect_extents("past_value", *past_value, {batch, kv_heads, past, v_head_size});
  }
  return {.batch = batch.extent,
          .num_heads = query.extent(1),
          .num_kv_heads = kv_heads.extent,
          .query_length = query.extent(2),
          .key_length = past_length + keys.extent,
          .head_dim = head_size.extent,
          .value_dim = v_head_size.extent};
}

template <class T>
AttentionCall<T>::AttentionCall(const AttentionAttributes& attributes, const AttentionInputs<T>& inputs,
                                const AttentionOutputs<T>& outputs)
    : shape_(attention_shape(attributes, inputs)) {
  set_options(attributes, inputs);
  arguments_.query = split_heads(inputs.q, shape_.num_heads);
  set_keys(inputs, outputs);
  set_mask(inputs);
  set_outputs(attributes, outputs);
}

/// Query 0 stands after the past keys or, where lengths are given, so that the last query stands at the last key.
template <class T>
void AttentionCall<T>::set_options(const AttentionAttributes& attributes, const AttentionInputs<T>& inputs) {
  const std::int64_t mode = attributes.qk_matmul_output_mode;
  if (mode < 0 || mode > 3) refuse("qk_matmul_output_mode", mode, "0 to 3");
  if (const std::int64_t type = attributes.softmax_precision.value_or(1);
      type != 1 && type != 10 && type != 11 && type != 16) {
    refuse("softmax_precision", type, "1 (float), 10 (float16), 11 (double) or 16 (bfloat16)");
  }
  options_.scale = attributes.scale;
  options_.softcap = attributes.softcap;
  options_.causal = attributes.is_causal;
  options_.window = {attributes.left_window_size, attributes.right_window_size};
  if (mode < 3) options_.score_stage = static_cast<ScoreStage>(mode);

  const auto batch = static_cast<std::size_t>(shape_.batch);
  if (inputs.past_key) {
    zeros_.assign(batch, 0);
    past_lengths_.assign(batch, inputs.past_key->extents[2]);
    new_lengths_.assign(batch, shape_.key_length - inputs.past_key->extents[2]);
    options_.query_position = QueryPosition::given;
    arguments_.query_offsets = past_lengths_;
  }
  if (!inputs.nonpad_kv_seqlen) return;
  const std::span<const std::int64_t> lengths = *inputs.nonpad_kv_seqlen;
  if (lengths.size() != batch) {
    refuse(extent_name("nonpad_kv_seqlen", 0), static_cast<std::int64_t>(lengths.size()),
           std::to_string(batch) + " (batch_size)");
  }
  for (std::size_t b = 0; b < batch; ++b) {
    if (lengths[b] >= 0 && lengths[b] <= shape_.key_length) continue;
    refuse("nonpad_kv_seqlen[" + std::to_string(b) + "] of batch entry " + std::to_string(b), lengths[b],
           "0 to " + std::to_string(shape_.key_length) + " (kv_sequence_length)");
  }
  options_.query_position = QueryPosition::bottom_right;
  arguments_.key_lengths = lengths;
}

template <class T>
void AttentionCall<T>::set_keys(const AttentionInputs<T>& inputs, const AttentionOutputs<T>& outputs) {
  const auto& [y, present_key, present_value, qk_matmul_output] = outputs;
  if (present_key && !present_value) refuse("present_value", "absent", "a tensor: present_key is given");
  if (present_value && !present_key) refuse("present_key", "absent", "a tensor: present_value is given");
  const auto key = split_heads(inputs.k, shape_.num_kv_heads);
  const auto value = split_heads(inputs.v, shape_.num_kv_heads);
  const std::int64_t past_length = shape_.key_length - key.extent(2);

  if (present_key) {
    const Axis batch{"batch_size", shape_.batch}, heads{"kv_num_heads", shape_.num_kv_heads};
    const Axis keys{"total_sequence_length", shape_.key_length};
    expect_extents("present_key", *present_key, {batch, heads, keys, {"head_size", shape_.head_dim}});
    expect_extents("present_value", *present_value, {batch, heads, keys, {"v_head_size", shape_.value_dim}});
    expect_tensor("present_key", *present_key);
    expect_tensor("present_value", *present_value);
    const TensorView<T, 4> keys_out = view_of(*present_key), values_out = view_of(*present_value);
    if (inputs.past_key) {
      copies_.push_back({view_of(*inputs.past_key), keys_out.slice(2, 0, past_length)});
      copies_.push_back({view_of(*inputs.past_value), values_out.slice(2, 0, past_length)});
    }
    copies_.push_back({key, keys_out.slice(2, past_length, shape_.key_length)});
    copies_.push_back({value, values_out.slice(2, past_length, shape_.key_length)});
  }
  if (inputs.past_key) {
    runs_ = {{view_of(*inputs.past_key), view_of(*inputs.past_value), zeros_, zeros_, past_lengths_},
             {key, value, zeros_, past_lengths_, new_lengths_}};
    arguments_.key_runs = runs_;
  } else {
    arguments_.key = key;
    arguments_.value = value;
  }
}

template <class T>
void AttentionCall<T>::set_mask(const AttentionInputs<T>& inputs) {
  if (const auto* bytes = std::get_if<Tensor<const std::uint8_t>>(&inputs.attn_mask)) {
    arguments_.mask = scores_shaped<std::uint8_t>(*bytes, shape_, 0, padded_mask_);
  } else if (const auto* numbers = std::get_if<Tensor<const T>>(&inputs.attn_mask)) {
    arguments_.bias = scores_shaped<T>(*numbers, shape_, -std::numeric_limits<T>::infinity(), padded_bias_);
  }
}

template <class T>
void AttentionCall<T>::set_outputs(const AttentionAttributes& attributes, const AttentionOutputs<T>& outputs) {
  const Axis batch{"batch_size", shape_.batch}, heads{"q_num_heads", shape_.num_heads};
  const Axis queries{"q_sequence_length", shape_.query_length};
  const bool four_axes = outputs.y.extents.size() == 4;
  if (four_axes) {
    expect_extents("Y", outputs.y, {batch, heads, queries, {"v_head_size", shape_.value_dim}});
  } else {
    expect_extents("Y", outputs.y, {batch, queries, {"hidden_size", shape_.num_heads * shape_.value_dim}});
  }
  arguments_.output = split_heads(outputs.y, shape_.num_heads);
  if (!outputs.qk_matmul_output) return;
  expect_extents("qk_matmul_output", *outputs.qk_matmul_output,
                 {batch, heads, queries, {"total_sequence_length", shape_.key_length}});
  (attributes.qk_matmul_output_mode == 3 ? arguments_.weights : arguments_.scores) =
      view_of(*outputs.qk_matmul_output);
}

template <class T>
void AttentionCall<T>::run(int num_threads) const {
  AttentionOptions options = options_;
  options.num_threads = num_threads;
  AttentionPlan<T>(shape_, options).run(arguments_);  // first of all: it refuses what must leave the outputs untouched
  for (const Copy& copy : copies_) copy_elements(copy.from, copy.to);
}

template AttentionShape attention_shape(const AttentionAttributes&, const AttentionInputs<float>&);
template AttentionShape attention_shape(const AttentionAttributes&, const AttentionInputs<double>&);
template class AttentionCall<float>;
template class AttentionCall<double>;

}  // namespace headwise::onnx
