#include "headwise/merge.hpp"

#include <nanobind/nanobind.h>

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "numbers.hpp"
#include "results.hpp"

namespace headwise::python {
namespace {

/// An array of a part under its own name, e.g. "parts[1][0]".
struct NamedArray {
  NamedArray(nb::handle object, std::string full_name) : name(std::move(full_name)), array(object, name.c_str()) {}

  std::string name;
  Array array;
};

nb::object merge(nb::handle parts, nb::handle return_logsumexp, nb::handle out) {
  std::deque<NamedArray> arrays;  // names and arrays stay where they are
  const auto read = [&](nb::handle object, const std::string& name) -> const Array& {
    return arrays.emplace_back(object, name).array;
  };
  const char* const expected = "a list of pairs (output, logsumexp)";
  if (!PyList_Check(parts.ptr()) && !PyTuple_Check(parts.ptr())) refuse_type("parts", kind_of(parts), expected);
  if (nb::len(parts) == 0) refuse_value("number of parts", "0", "at least 1");
  for (nb::handle part : parts) {
    const std::string name = "parts[" + std::to_string(arrays.size() / 2) + "]";
    if ((!PyList_Check(part.ptr()) && !PyTuple_Check(part.ptr())) || nb::len(part) != 2) {
      refuse_type(name.c_str(), kind_of(part), "a pair (output, logsumexp)");
    }
    read(part[0], name + "[0]").expect_rank(4, "(batch, heads, query_length, value_dim)");
    read(part[1], name + "[1]").expect_rank(3, "(batch, heads, query_length)");
  }
  const Array& first = arrays.front().array;
  const auto compute = [&]<class T>() {
    std::vector<PartialAttention<T>> views;
    for (const auto& [name, array] : arrays) array.expect_type(element_type_of<T>(), " (the type of parts[0][0])");
    for (std::size_t i = 0; i < arrays.size(); i += 2) {
      views.push_back({arrays[i].array.template view<const T, 4>(), arrays[i + 1].array.template view<const T, 3>()});
    }
    const auto extents = first.view<const T, 4>().extents;
    std::optional<Result> output, logsumexp;
    if (out.is_none()) {
      output.emplace(first.type(), std::initializer_list<std::int64_t>{extents[0], extents[1], extents[2], extents[3]});
    } else {
      output.emplace(out, "out", first.type());
      output->array().expect_rank(4, "(batch, heads, query_length, value_dim)");
    }
    std::optional<TensorView<T, 3>> logsumexp_view;
    if (as_bool(return_logsumexp, "return_logsumexp")) {
      logsumexp.emplace(first.type(), std::initializer_list<std::int64_t>{extents[0], extents[1], extents[2]});
      logsumexp_view = logsumexp->array().template view<T, 3>();
    }
    {
      const nb::gil_scoped_release without_lock;
      merge_attention<T>(views, output->array().template view<T, 4>(), logsumexp_view);
    }
    const bool torch = is_torch_tensor(first.object());
    const nb::object merged = output->object(torch);
    return logsumexp ? nb::object(nb::make_tuple(merged, logsumexp->object(torch))) : merged;
  };
  return floating_type(first) == ElementType::float32 ? compute.operator()<float>() : compute.operator()<double>();
}

}  // namespace

void bind_merge(nb::module_& module) {
  using namespace nb::literals;
  module.def("merge_attention", &merge, "parts"_a, nb::kw_only(), "return_logsumexp"_a = false, "out"_a = nb::none(),
             nb::sig("def merge_attention(parts, *, return_logsumexp=False, out=None)"),
             R"(The result over the union of keys from results over disjoint sets of them.

Args:
    parts: at least one pair (output, logsumexp) of attention(..., return_logsumexp=True): (batch, heads, query_length,
        value_dim) and (batch, heads, query_length). Give sinks to one of the calls only.
    return_logsumexp: also return the logsumexp over all keys.
    out: where to write the output.

Returns:
    The output, or (output, logsumexp).
)");
}

}  // namespace headwise::python
