#include <nanobind/nanobind.h>

#include <utility>
#include <variant>

#include "attention_call.hpp"
#include "bindings.hpp"

namespace headwise::python {
namespace {

/// AttentionPlan of the type that `dtype` names.
class Plan {
 public:
  Plan(const AttentionShape& shape, const Keywords& keywords, nb::handle dtype)
      : plan_(element_type_named(dtype) == ElementType::float32
                  ? Variant(AttentionPlan<float>(shape, options_of(keywords)))
                  : Variant(AttentionPlan<double>(shape, options_of(keywords)))),
        return_scores_(keywords.return_scores.is_valid()) {}

  nb::object run(nb::handle query, nb::handle key, nb::handle value, const nb::kwargs& keywords) const {
    const Keywords read = read_keywords("AttentionPlan.run", keywords, run_keywords);
    const Array queries(query, "query");
    return std::visit(
        [&]<class T>(const AttentionPlan<T>& plan) {
          queries.expect_type(element_type_of<T>(), " (the plan's dtype)");
          AttentionCall<T> call(queries, read, return_scores_);
          call.set_keys(key, value);
          return call.run(plan);
        },
        plan_);
  }

  const char* path(nb::handle query_length, nb::handle row) const {
    const std::int64_t length = as_integer(query_length, "query_length"), index = as_integer(row, "row");
    const KernelPath path = std::visit([&](const auto& plan) { return plan.path(length, index); }, plan_);
    return path == KernelPath::query_tile ? "query_tile" : "row_dot";
  }

 private:
  using Variant = std::variant<AttentionPlan<float>, AttentionPlan<double>>;
  Variant plan_;
  bool return_scores_;
};

void make_plan(Plan* plan, nb::handle batch, nb::handle num_heads, nb::handle query_length, nb::handle key_length,
               nb::handle head_dim, nb::handle num_kv_heads, nb::handle value_dim, nb::handle dtype,
               const nb::kwargs& keywords) {
  AttentionShape shape{.batch = as_integer(batch, "batch"),
                       .num_heads = as_integer(num_heads, "num_heads"),
                       .query_length = as_integer(query_length, "query_length"),
                       .key_length = as_integer(key_length, "key_length"),
                       .head_dim = as_integer(head_dim, "head_dim")};
  shape.num_kv_heads = num_kv_heads.is_none() ? shape.num_heads : as_integer(num_kv_heads, "num_kv_heads");
  shape.value_dim = value_dim.is_none() ? shape.head_dim : as_integer(value_dim, "value_dim");
  new (plan) Plan(shape, read_keywords("AttentionPlan", keywords, plan_keywords), dtype);
}

}  // namespace

void bind_plan(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<Plan>(module, "AttentionPlan",
                   R"(Attention prepared for a shape and options: validated once, then run often.

A plan is immutable and may run in many threads at once.

Args:
    batch, num_heads, query_length, head_dim: extents of the query (batch, num_heads, query_length, head_dim).
    key_length: the largest number of keys that will be passed.
    num_kv_heads: default num_heads.
    value_dim: default head_dim.
    dtype: float32 or float64.

The keywords are those options of attention() that are no arrays: causal, window, scale, softcap, query_position,
return_scores, num_threads.
)")
      .def("__init__", &make_plan, nb::kw_only(), "batch"_a, "num_heads"_a, "query_length"_a, "key_length"_a,
           "head_dim"_a, "num_kv_heads"_a = nb::none(), "value_dim"_a = nb::none(), "dtype"_a = "float32", "keywords"_a,
           nb::sig("def __init__(self, *, batch, num_heads, query_length, key_length, head_dim, num_kv_heads=None, "
                   "value_dim=None, dtype='float32', causal=False, window=None, scale=None, softcap=0.0, "
                   "query_position='top_left', return_scores=None, num_threads=0)"))
      .def("run", &Plan::run, "query"_a, "key"_a, "value"_a, "keywords"_a,
           nb::sig("def run(self, query, key, value, *, mask=None, bias=None, key_padding_mask=None, "
                   "query_offsets=None, key_lengths=None, alibi_slopes=None, sinks=None, return_logsumexp=False, "
                   "return_weights=False, out=None)"),
           "Computes attention() of arrays of the plan's extents; key and value may have fewer keys.\n\n"
           "Arguments and what is returned are attention()'s.")
      .def("path", &Plan::path, "query_length"_a, "row"_a = 0, nb::sig("def path(self, query_length, row=0)"),
           "The kernel of a query row in a sequence of query_length queries: \"query_tile\" or \"row_dot\".\n\n"
           "Rows of one kernel agree bit for bit, of different ones within the accuracy bound.");
}

}  // namespace headwise::python
