#include <nanobind/nanobind.h>

#include <optional>
#include <string>

#include "array.hpp"
#include "bindings.hpp"
#include "headwise/multi_head_attention.hpp"
#include "layer_weights.hpp"
#include "numbers.hpp"
#include "results.hpp"

namespace headwise::python {
namespace {

constexpr const char* token_axes = "(batch, tokens, features)";

nb::object project_tokens(nb::handle input, nb::handle weight, nb::handle bias, nb::handle weight_order, nb::handle out,
                          nb::handle num_threads) {
  const Array tokens(input, "input"), matrix(weight, "weight");
  const auto compute = [&]<class T>() {
    tokens.expect_rank(3, token_axes);
    matrix.expect_type(element_type_of<T>(), " (the type of input)");
    matrix.expect_rank(2, "(outputs, inputs), or (inputs, outputs) with weight_order=\"in_out\"");
    Projection<T> projection{.weight = matrix.view<const T, 2>(), .order = weight_order_of(weight_order)};
    std::optional<Numbers<T>> biases;
    if (!bias.is_none()) {
      biases.emplace(bias, "bias").expect_count(projection.outputs(), "outputs of weight");
      projection.bias = biases->span();
    }
    std::optional<Result> result;
    if (out.is_none()) {
      result.emplace(tokens.type(),
                     std::initializer_list<std::int64_t>{tokens.extent(0), tokens.extent(1), projection.outputs()});
    } else {
      result.emplace(out, "out", tokens.type());
      result->array().expect_rank(3, token_axes);
    }
    const int threads = as_thread_count(num_threads);
    {
      const nb::gil_scoped_release without_lock;
      project<T>(tokens.view<const T, 3>(), projection, result->array().template view<T, 3>(), threads);
    }
    return result->object(is_torch_tensor(input));
  };
  return floating_type(tokens) == ElementType::float32 ? compute.operator()<float>() : compute.operator()<double>();
}

}  // namespace

void bind_projection(nb::module_& module) {
  using namespace nb::literals;
  module.def("project", &project_tokens, "input"_a, "weight"_a, "bias"_a = nb::none(), nb::kw_only(),
             "weight_order"_a = "out_in", "out"_a = nb::none(), "num_threads"_a = 0,
             nb::sig("def project(input, weight, bias=None, *, weight_order='out_in', out=None, num_threads=0)"),
             R"(A linear map of every token: output[b, t] = input[b, t] @ W + bias.

Args:
    input: (batch, tokens, inputs); features dense, tokens in rising order.
    weight: (outputs, inputs) as torch.nn.Linear, or (inputs, outputs) with weight_order="in_out"; rows or columns
        dense.
    bias: (outputs,).
    out: (batch, tokens, outputs): where to write the output; features dense.
    num_threads: at most that many; 0 = what OpenMP would use.

Returns:
    The output (batch, tokens, outputs).
)");
}

}  // namespace headwise::python
