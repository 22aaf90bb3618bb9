#include <nanobind/nanobind.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "adapters/onnx/attention.hpp"
#include "array.hpp"
#include "bindings.hpp"
#include "numbers.hpp"
#include "results.hpp"

namespace headwise::python {
namespace {

/// The inputs as they came; None where absent.
struct Inputs {
  nb::handle q, k, v, attn_mask, past_key, past_value, nonpad_kv_seqlen;
};

template <class T>
onnx::Tensor<T> tensor_of(const Array& array) {
  if (array.rank() > Array::maximum_rank) array.expect_rank(Array::maximum_rank, "or fewer");
  onnx::Tensor<T> tensor{array.data<T>(), {}, {}};
  for (int axis = 0; axis < array.rank(); ++axis) {
    tensor.extents.push_back(array.extent(axis));
    tensor.strides.push_back(array.stride(axis));
  }
  return tensor;
}

onnx::AttentionAttributes attributes_of(const nb::dict& given) {
  onnx::AttentionAttributes attributes;
  const auto read = [&given](const char* name, const auto& set) {
    const nb::object value = given[name];
    if (!value.is_none()) set(value, name);
  };
  const auto integer = [&read](const char* name, auto& to) {
    read(name, [&to](nb::handle value, const char* full_name) { to = as_integer(value, full_name); });
  };
  read("is_causal", [&](nb::handle value, const char* name) {
    attributes.is_causal = PyBool_Check(value.ptr()) ? as_bool(value, name) : as_integer(value, name) != 0;
  });
  integer("q_num_heads", attributes.q_num_heads);
  integer("kv_num_heads", attributes.kv_num_heads);
  integer("qk_matmul_output_mode", attributes.qk_matmul_output_mode);
  integer("softmax_precision", attributes.softmax_precision);
  integer("left_window_size", attributes.left_window_size);
  integer("right_window_size", attributes.right_window_size);
  read("scale", [&](nb::handle value, const char* name) { attributes.scale = as_number(value, name); });
  read("softcap", [&](nb::handle value, const char* name) { attributes.softcap = as_number(value, name); });
  return attributes;
}

/// Holds what one call of the operator reads and writes.
template <class T>
class Call {
 public:
  Call(const Array& q, const Inputs& given, const onnx::AttentionAttributes& attributes)
      : attributes_(attributes), shape_(read(q, given)) {}

  nb::object run(nb::handle query, bool four_axes, std::int64_t num_outputs, int num_threads) {
    const auto& [batch, heads, kv_heads, queries, keys, head_size, v_head_size] = shape_;
    using Extents = std::initializer_list<std::int64_t>;
    constexpr ElementType type = element_type_of<T>();
    std::optional<Result> y, present_key, present_value, qk_matmul_output;
    if (four_axes) {
      y.emplace(type, Extents{batch, heads, queries, v_head_size});
    } else {
      y.emplace(type, Extents{batch, queries, heads * v_head_size});
    }
    onnx::AttentionOutputs<T> outputs{.y = tensor_of<T>(y->array())};
    if (num_outputs > 1) {
      present_key.emplace(type, Extents{batch, kv_heads, keys, head_size});
      present_value.emplace(type, Extents{batch, kv_heads, keys, v_head_size});
      outputs.present_key = tensor_of<T>(present_key->array());
      outputs.present_value = tensor_of<T>(present_value->array());
    }
    if (num_outputs > 3) {
      qk_matmul_output.emplace(type, Extents{batch, heads, queries, keys});
      outputs.qk_matmul_output = tensor_of<T>(qk_matmul_output->array());
    }
    {
      const nb::gil_scoped_release without_lock;
      onnx::AttentionCall<T>(attributes_, inputs_, outputs).run(num_threads);
    }
    const bool torch = is_torch_tensor(query);
    const auto object = [torch](const std::optional<Result>& result) {
      return result ? result->object(torch) : nb::object(nb::none());
    };
    return nb::make_tuple(object(y), object(present_key), num_outputs > 2 ? object(present_value) : nb::none(),
                          object(qk_matmul_output));
  }

 private:
  AttentionShape read(const Array& q, const Inputs& given) {
    const auto tensor = [](OptionalArray& array, nb::handle object, const char* name) {
      array.emplace(object, name);
      array->expect_type(element_type_of<T>(), " (the type of Q)");
      return tensor_of<const T>(*array);
    };
    inputs_.q = tensor_of<const T>(q);
    inputs_.k = tensor(k_, given.k, "K");
    inputs_.v = tensor(v_, given.v, "V");
    if (!given.past_key.is_none()) inputs_.past_key = tensor(past_key_, given.past_key, "past_key");
    if (!given.past_value.is_none()) inputs_.past_value = tensor(past_value_, given.past_value, "past_value");
    if (!given.attn_mask.is_none()) {
      attn_mask_.emplace(given.attn_mask, "attn_mask");
      if (attn_mask_->type() == ElementType::boolean) {
        inputs_.attn_mask = tensor_of<const std::uint8_t>(*attn_mask_);
      } else {
        attn_mask_->expect_type(element_type_of<T>(), " (the type of Q) or bool");
        inputs_.attn_mask = tensor_of<const T>(*attn_mask_);
      }
    }
    if (!given.nonpad_kv_seqlen.is_none()) {
      inputs_.nonpad_kv_seqlen = nonpad_kv_seqlen_.emplace(given.nonpad_kv_seqlen, "nonpad_kv_seqlen").span();
    }
    return onnx::attention_shape(attributes_, inputs_);
  }

  onnx::AttentionAttributes attributes_;
  OptionalArray k_, v_, past_key_, past_value_, attn_mask_;
  std::optional<Numbers<std::int64_t>> nonpad_kv_seqlen_;
  onnx::AttentionInputs<T> inputs_;
  AttentionShape shape_;
};

nb::object onnx_attention(nb::handle q, nb::handle k, nb::handle v, nb::handle attn_mask, nb::handle past_key,
                          nb::handle past_value, nb::handle nonpad_kv_seqlen, const nb::dict& attributes,
                          nb::handle num_outputs, nb::handle num_threads) {
  const Array query(q, "Q");
  const Inputs inputs{q, k, v, attn_mask, past_key, past_value, nonpad_kv_seqlen};
  const std::int64_t outputs = as_integer(num_outputs, "num_outputs");
  if (outputs < 1 || outputs > 4) refuse_value("num_outputs", std::to_string(outputs), "1 to 4");
  const int threads = as_thread_count(num_threads);
  const auto compute = [&]<class T>() {
    return Call<T>(query, inputs, attributes_of(attributes)).run(q, query.rank() == 4, outputs, threads);
  };
  return floating_type(query) == ElementType::float32 ? compute.operator()<float>() : compute.operator()<double>();
}

}  // namespace

void bind_onnx(nb::module_& module) {
  using namespace nb::literals;
  module.def("onnx_attention", &onnx_attention, "Q"_a, "K"_a, "V"_a, "attn_mask"_a.none(), "past_key"_a.none(),
             "past_value"_a.none(), "nonpad_kv_seqlen"_a.none(), "attributes"_a, "num_outputs"_a, "num_threads"_a,
             nb::sig("def onnx_attention(Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen, attributes, "
                     "num_outputs, num_threads)"),
             "headwise.onnx.attention(); attributes are a dict of all of the operator's, None where absent.");
}

}  // namespace headwise::python
