#include "layer_weights.hpp"

#include <string>
#include <string_view>

namespace headwise::python {
namespace {

constexpr std::array<const char*, parameter_count> names{
    "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight",   "in_proj_bias",
    "q_proj_bias",    "k_proj_bias",   "v_proj_bias",   "out_proj_weight", "out_proj_bias"};

constexpr bool is_weight(std::size_t parameter) {
  return parameter <= v_proj_weight || parameter == out_proj_weight;
}

std::array<std::int64_t, 2> extents_of(const Array& array) {
  return {array.extent(0), array.rank() > 1 ? array.extent(1) : 1};
}

std::string text_of(const std::array<std::int64_t, 2>& extents, bool is_matrix) {
  std::string text = "(";
  text.append(std::to_string(extents[0])).append(",");
  if (is_matrix) text.append(" ").append(std::to_string(extents[1]));
  return text.append(")");
}

}  // namespace

WeightOrder weight_order_of(nb::handle name) {
  const std::string_view given = PyUnicode_Check(name.ptr()) ? as_text(name, "weight_order") : "";
  if (given == "out_in") return WeightOrder::out_in;
  if (given == "in_out") return WeightOrder::in_out;
  refuse_value("weight_order", nb::cast<std::string>(nb::repr(name)), "\"out_in\" or \"in_out\"");
}

LayerWeights::LayerWeights(const nb::dict& arrays, std::int64_t num_heads, std::int64_t num_kv_heads, WeightOrder order,
                           bool pack)
    : order_(order) {
  for (std::size_t i = 0; i < parameter_count; ++i) {
    if (!arrays.contains(names[i])) continue;
    objects_[i] = arrays[names[i]];
    const Array array(objects_[i], names[i]);
    extents_[i] = extents_of(array);
    if (type_ != ElementType::other) continue;
    type_ = floating_type(array);
    type_reason_ = std::string(" (the type of ") + names[i] + ")";
  }
  const int outputs_axis = order == WeightOrder::in_out ? 1 : 0;
  const auto outputs_of = [&](Parameter weight) { return extents_[weight][static_cast<std::size_t>(outputs_axis)]; };
  if (objects_[in_proj_weight].is_valid()) {
    const std::int64_t head_dim = outputs_of(in_proj_weight) / (num_heads + 2 * num_kv_heads);
    outputs_ = {num_heads * head_dim, num_kv_heads * head_dim, num_kv_heads * head_dim};
  } else {
    outputs_ = {outputs_of(q_proj_weight), outputs_of(k_proj_weight), outputs_of(v_proj_weight)};
  }
  if (!pack) return;
  const auto pack_as = [&]<class T>() {
    const Projections<T> projections(*this);  // owns copies of strided biases, which the weights refer to
    MultiHeadAttentionWeights<T> weights = *projections;
    weights.packed.reset();
    packed_ = pack_weights(weights);
  };
  type_ == ElementType::float32 ? pack_as.operator()<float>() : pack_as.operator()<double>();
}

template <class T>
LayerWeights::Projections<T>::Projections(const LayerWeights& weights) {
  if (const auto* packed = std::get_if<MultiHeadAttentionWeights<T>>(&weights.packed_)) {
    projections_ = packed;
    return;
  }
  read(weights);
  const auto weight_at = [&](std::size_t parameter) { return arrays_[parameter]->template view<const T, 2>(); };
  const auto bias_at = [&](std::size_t parameter) {
    return biases_[parameter] ? biases_[parameter]->span() : std::span<const T>();
  };
  const bool whole = arrays_[in_proj_weight].has_value(), whole_bias = biases_[in_proj_bias].has_value();
  const int outputs_axis = weights.order_ == WeightOrder::in_out ? 1 : 0;
  const std::array parts{&own_.query, &own_.key, &own_.value};
  bool own_biases = false;
  for (std::size_t i = 0, begin = 0; i < parts.size(); ++i) {
    const std::size_t outputs = static_cast<std::size_t>(weights.outputs_[i]), end = begin + outputs;
    const auto first = static_cast<std::int64_t>(begin), last = static_cast<std::int64_t>(end);
    *parts[i] = Projection<T>{
        .weight = whole ? weight_at(in_proj_weight).slice(outputs_axis, first, last) : weight_at(q_proj_weight + i),
        .order = weights.order_,
        .bias = whole_bias ? bias_at(in_proj_bias).subspan(begin, outputs) : bias_at(q_proj_bias + i)};
    own_biases |= biases_[q_proj_bias + i].has_value();
    begin = end;
  }
  if (whole && !own_biases) {
    own_.packed =
        Projection<T>{.weight = weight_at(in_proj_weight), .order = weights.order_, .bias = bias_at(in_proj_bias)};
  }
  if (arrays_[out_proj_weight]) {
    own_.output =
        Projection<T>{.weight = weight_at(out_proj_weight), .order = weights.order_, .bias = bias_at(out_proj_bias)};
  }
}

/// The caller owns the arrays, and NumPy lets him resize them.
template <class T>
void LayerWeights::Projections<T>::read(const LayerWeights& weights) {
  for (std::size_t i = 0; i < parameter_count; ++i) {
    const nb::object& object = weights.objects_[i];
    if (!object.is_valid()) continue;
    std::array<std::int64_t, 2> extents;
    if (is_weight(i)) {
      arrays_[i].emplace(object, names[i]);
      arrays_[i]->expect_type(weights.type_, weights.type_reason());
      arrays_[i]->expect_rank(2, "(a matrix)");
      extents = extents_of(*arrays_[i]);
    } else {
      biases_[i].emplace(object, names[i]);
      extents = {static_cast<std::int64_t>(biases_[i]->span().size()), 1};
    }
    if (extents == weights.extents_[i]) continue;
    refuse_value((std::string("shape of ") + names[i]).c_str(), text_of(extents, is_weight(i)),
                 text_of(weights.extents_[i], is_weight(i)) + ", as when the layer was made");
  }
}

template class LayerWeights::Projections<float>;
template class LayerWeights::Projections<double>;

}  // namespace headwise::python
