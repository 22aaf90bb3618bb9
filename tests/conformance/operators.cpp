#include "conformance/operators.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace headwise::test {
namespace {

using Names = std::vector<std::string_view>;

/// What is known of an operator's cases.
struct Operator {
  std::string_view name;
  Names attributes, inputs, outputs;
};

const Operator* find_operator(std::string_view name) {
  static const std::array operators{
      Operator{"Attention",
               {"is_causal", "kv_num_heads", "left_window_size", "q_num_heads", "qk_matmul_output_mode",
                "right_window_size", "scale", "softcap", "softmax_precision"},
               {"Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen"},
               {"Y", "present_key", "present_value", "qk_matmul_output"}},
      Operator{"FlexAttention",
               {"prob_mod", "scale", "score_mod", "softmax_precision"},
               {"Q", "K", "V"},
               {"Y"}}};
  const auto* found = std::find_if(operators.begin(), operators.end(),
                                   [name](const Operator& candidate) { return candidate.name == name; });
  return found == operators.end() ? nullptr : found;
}

/// FlexAttention's sub-graphs that are options of headwise. They are known by the name of their case: the files hold
/// the nodes, not their constants.
struct FlexModification {
  std::string_view case_name;
  bool causal;
  std::optional<double> alibi_slope;
};
constexpr std::array flex_modifications{
    FlexModification{"test_flexattention_causal_mask", true, {}},
    FlexModification{"test_flexattention_relative_positional", false, -1},  // score + query − key
};

const FlexModification* find_flex_modification(std::string_view case_name) {
  const auto* found =
      std::find_if(flex_modifications.begin(), flex_modifications.end(),
                   [case_name](const FlexModification& candidate) { return candidate.case_name == case_name; });
  return found == flex_modifications.end() ? nullptr : found;
}

bool contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool has_attribute(const Case& conformance_case, const char* name) {
  const auto found = conformance_case.attributes.find(name);
  return found != conformance_case.attributes.end() && !found->is_null();
}

template <class T>
std::optional<T> attribute(const Case& conformance_case, const char* name) {
  if (!has_attribute(conformance_case, name)) return {};
  return conformance_case.attributes.at(name).get<T>();
}

}  // namespace

std::string inexpressible_reason(const Case& conformance_case) {
  const Operator* known = find_operator(conformance_case.operator_name);
  if (known == nullptr) return "the operator " + conformance_case.operator_name + " is unknown";
  for (const auto& item : conformance_case.attributes.items()) {
    if (!item.value().is_null() && !contains(known->attributes, item.key())) {
      return "the attribute " + item.key() + " is unknown";
    }
  }
  for (const TensorFile& input : conformance_case.inputs) {
    if (!contains(known->inputs, input.role)) return "the input " + input.role + " is unknown";
    if (find_element_type(input.type) == nullptr) return input.role + " has the unknown type " + input.type;
  }
  for (const ExpectedOutput& output : conformance_case.outputs) {
    if (!contains(known->outputs, output.values.role)) return "the output " + output.values.role + " is unknown";
    if (find_element_type(output.type) == nullptr) return output.values.role + " has the unknown type " + output.type;
  }
  for (const char* modification : {"score_mod", "prob_mod"}) {
    if (has_attribute(conformance_case, modification) && find_flex_modification(conformance_case.name) == nullptr) {
      return std::string(modification) + " is a sub-graph whose constants are not in the files";
    }
  }
  return {};
}

Request request_of(const Case& conformance_case) {
  Request request;
  onnx::AttentionAttributes& attributes = request.attributes;
  attributes.is_causal = attribute<int>(conformance_case, "is_causal").value_or(0) != 0;
  attributes.q_num_heads = attribute<std::int64_t>(conformance_case, "q_num_heads");
  attributes.kv_num_heads = attribute<std::int64_t>(conformance_case, "kv_num_heads");
  attributes.qk_matmul_output_mode = attribute<std::int64_t>(conformance_case, "qk_matmul_output_mode").value_or(0);
  attributes.scale = attribute<double>(conformance_case, "scale");
  attributes.softcap = attribute<double>(conformance_case, "softcap").value_or(0);
  attributes.left_window_size = attribute<std::int64_t>(conformance_case, "left_window_size").value_or(-1);
  attributes.right_window_size = attribute<std::int64_t>(conformance_case, "right_window_size").value_or(-1);
  attributes.softmax_precision = attribute<std::int64_t>(conformance_case, "softmax_precision");
  if (!has_attribute(conformance_case, "score_mod")) return request;
  if (const FlexModification* modification = find_flex_modification(conformance_case.name)) {
    attributes.is_causal = modification->causal;
    request.alibi_slope = modification->alibi_slope;
  }
  return request;
}

template <class T>
CaseInputs<T>::CaseInputs(const Case& conformance_case) {
  const auto read = [&conformance_case]<class Element>(const char* role, std::vector<Element>& elements) {
    const TensorFile* tensor = conformance_case.input(role);
    if (tensor == nullptr) return std::optional<onnx::Tensor<const Element>>();
    elements = read_elements<Element>(*tensor);
    return std::optional(onnx::Tensor<const Element>::contiguous(elements.data(), tensor->shape));
  };
  views_.q = read("Q", query_).value_or(onnx::Tensor<const T>());
  views_.k = read("K", key_).value_or(onnx::Tensor<const T>());
  views_.v = read("V", value_).value_or(onnx::Tensor<const T>());
  views_.past_key = read("past_key", past_key_);
  views_.past_value = read("past_value", past_value_);
  if (read("nonpad_kv_seqlen", key_lengths_)) views_.nonpad_kv_seqlen = key_lengths_;
  const TensorFile* mask = conformance_case.input("attn_mask");
  if (mask == nullptr) return;
  if (mask->type == "bool") {
    views_.attn_mask = *read("attn_mask", mask_);
  } else {
    views_.attn_mask = *read("attn_mask", bias_);
  }
}

template class CaseInputs<float>;
template class CaseInputs<double>;

}  // namespace headwise::test
