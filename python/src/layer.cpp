#include <nanobind/nanobind.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention_call.hpp"
#include "bindings.hpp"
#include "headwise/multi_head_attention.hpp"
#include "layer_weights.hpp"

namespace headwise::python {
namespace {

/// Memory for intermediate results: fresh pages for every call cost 7 % of a layer of 8 × 512 × 768.
class Scratch {
 public:
  /// Aligned memory that holds anything, until the next call of this.
  template <class T>
  T* take(std::size_t count) {
    const std::size_t bytes = count * sizeof(T) + alignment;
    if (bytes > bytes_) memory_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    bytes_ = std::max(bytes, bytes_);
    void* aligned = memory_.get();
    std::size_t space = bytes_;
    return static_cast<T*>(std::align(alignment, count * sizeof(T), aligned, space));
  }

 private:
  static constexpr std::size_t alignment = 64;
  std::unique_ptr<std::byte[]> memory_;
  std::size_t bytes_ = 0;
};

/// Gives each call a Scratch of its own, and keeps one of them. Used with the GIL held.
class ScratchPool {
 public:
  class Loan {
   public:
    explicit Loan(ScratchPool& pool)
        : pool_(pool), scratch_(pool.idle_ ? std::move(pool.idle_) : std::make_unique<Scratch>()) {}
    ~Loan() { pool_.idle_ = std::move(scratch_); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    Scratch* operator->() { return scratch_.get(); }

   private:
    ScratchPool& pool_;
    std::unique_ptr<Scratch> scratch_;
  };

 private:
  std::unique_ptr<Scratch> idle_;
};

std::string shape_text(std::span<const std::int64_t> extents) {
  std::string text = "(";
  for (const std::int64_t extent : extents) text.append(text.size() > 1 ? ", " : "").append(std::to_string(extent));
  return text.append(extents.size() == 1 ? ",)" : ")");
}

/// Elements of [batch, tokens, features] in memory of the layer's own.
/// \param name of the argument that they are computed from
/// \throws nb::value_error
std::size_t count_elements(const char* name, const std::array<std::int64_t, 3>& extents, const char* what = "") {
  constexpr std::int64_t most = std::int64_t{1} << 58;  // all intermediate results together stay below 2^63 bytes
  std::int64_t count = 1;
  for (const std::int64_t extent : extents) {
    if (!__builtin_mul_overflow(count, extent, &count) && count <= most) continue;
    refuse_value((std::string("shape of ") + what + name).c_str(), shape_text(extents), "at most 2^58 elements");
  }
  return static_cast<std::size_t>(count);
}

/// Whether project() can walk the tokens.
template <class T>
bool has_dense_rows(const TensorView<T, 3>& view) {
  const bool dense_features = view.extent(2) <= 1 || view.stride(2) == 1;
  return dense_features && (view.extent(1) <= 1 || view.stride(1) >= view.extent(2));
}

template <class T>
void copy_elements(const TensorView<const T, 3>& from, const TensorView<T, 3>& to) {
  for (std::int64_t i = 0; i < from.extent(0); ++i) {
    for (std::int64_t j = 0; j < from.extent(1); ++j) {
      for (std::int64_t k = 0; k < from.extent(2); ++k) to(i, j, k) = from(i, j, k);
    }
  }
}

/// Query, key or value tokens with their axes as they lie in memory: [batch, tokens, features] or [tokens, batch,
/// features].
template <class T>
struct Tokens {
  Tokens(nb::handle object, const char* name, const LayerWeights& weights, bool tokens_come_first) : array(object, name) {
    floating_type(array);
    array.expect_type(weights.type(), weights.type_reason());
    if (array.rank() != 2) array.expect_rank(3, "(batch, tokens, features) or 2");
    tokens_first = tokens_come_first && array.rank() == 3;
    view = array.view<const T, 3>();
    if (has_dense_rows(view)) return;
    dense.resize(count_elements(name, view.extents));
    const auto copy = TensorView<T, 3>::contiguous(dense.data(), view.extents);
    copy_elements(view, copy);
    view = copy;
  }

  void expect_features(std::int64_t inputs) const {
    if (view.extent(2) == inputs) return;
    refuse_value(("features of " + std::string(array.name())).c_str(), std::to_string(view.extent(2)),
                 std::to_string(inputs) + " (inputs of its weight)");
  }

  Array array;
  bool tokens_first;
  std::vector<T> dense;  // a copy, where one is needed
  TensorView<const T, 3> view;
};

/// [batch, heads, tokens, dim]
template <class T>
TensorView<T, 4> heads_of(const TensorView<T, 3>& tokens, std::int64_t heads, bool tokens_first) {
  const TensorView<T, 4> split = split_heads(tokens, heads);
  return tokens_first ? split.transposed(0, 2) : split;
}

/// The computing half of headwise.MultiHeadAttention, which has checked the weights.
class Layer {
 public:
  Layer(const nb::dict& arrays, std::int64_t num_heads, std::int64_t num_kv_heads, nb::handle weight_order,
        bool batch_first, bool pack)
      : weights_(arrays, num_heads, num_kv_heads, weight_order_of(weight_order), pack),
        num_heads_(num_heads),
        num_kv_heads_(num_kv_heads),
        tokens_first_(!batch_first) {}

  nb::object run(nb::handle query, nb::handle key, nb::handle value, const nb::kwargs& keywords) {
    const Keywords read = read_keywords("MultiHeadAttention", keywords, plan_keywords | run_keywords);
    return weights_.type() == ElementType::float32 ? run_as<float>(query, key, value, read)
                                                   : run_as<double>(query, key, value, read);
  }

 private:
  template <class T>
  nb::object run_as(nb::handle query, nb::handle key, nb::handle value, const Keywords& keywords) {
    const LayerWeights::Projections<T> projections(weights_);
    const Tokens<T> queries(query, "query", weights_, tokens_first_);
    std::optional<Tokens<T>> given_keys, given_values;
    if (!key.is_none()) given_keys.emplace(key, "key", weights_, tokens_first_);
    if (!value.is_none()) given_values.emplace(value, "value", weights_, tokens_first_);
    const Tokens<T>& keys = given_keys ? *given_keys : queries;
    const Tokens<T>& values = given_values ? *given_values : keys;
    queries.expect_features(projections->query->inputs());
    keys.expect_features(projections->key->inputs());
    values.expect_features(projections->value->inputs());
    const bool together = projections->packed && !given_keys && !given_values;

    // Query, key and value side by side where one product makes them; then the heads, unless those are the output.
    const std::int64_t query_width = projections->query->outputs(), key_width = projections->key->outputs();
    const std::int64_t value_width = projections->value->outputs();
    const std::int64_t heads_width = value_width / num_kv_heads_ * num_heads_;
    const auto size = [](const Tokens<T>& tokens, std::int64_t width) {
      return count_elements(tokens.array.name(), {tokens.view.extent(0), tokens.view.extent(1), width}, "projected ");
    };
    ScratchPool::Loan scratch(pool_);
    T* next = scratch->template take<T>(size(queries, query_width + heads_width) + size(keys, key_width) +
                                        size(values, value_width));
    const auto take = [&](const Tokens<T>& tokens, std::int64_t width) {
      T* const first = next;
      next += size(tokens, width);
      return TensorView<T, 3>::contiguous(first, {tokens.view.extent(0), tokens.view.extent(1), width});
    };
    TensorView<T, 3> all, q, k, v;
    if (together) {
      const std::int64_t value_begin = query_width + key_width;
      all = take(queries, value_begin + value_width);
      q = all.slice(2, 0, query_width);
      k = all.slice(2, query_width, value_begin);
      v = all.slice(2, value_begin, value_begin + value_width);
    } else {
      q = take(queries, query_width);
      k = take(keys, key_width);
      v = take(values, value_width);
    }

    const std::int64_t width = projections->output ? projections->output->outputs() : heads_width;
    const Result output = make_output(queries.array, width, keywords);
    expect_fit(output.array(), queries.array, width);
    const auto result = output.array().template view<T, 3>();
    // Attention writes where it may read, so the caller's array only gets what a projection or a copy gives it.
    const bool in_place = !output.is_given() || (projections->output && has_dense_rows(result));
    std::optional<Result> dense;
    if (!in_place) {
      dense.emplace(queries.array.type(),
                    std::initializer_list<std::int64_t>{result.extent(0), result.extent(1), result.extent(2)});
    }
    const TensorView<T, 3> target = in_place ? result : dense->array().template view<T, 3>();
    const TensorView<T, 3> joined = projections->output ? take(queries, heads_width) : target;

    Keywords rest = keywords;
    rest.out = {};
    const AttentionOptions options = options_of(rest);
    AttentionCall<T> call(queries.array, rest, rest.return_scores.is_valid());
    call.set_heads(heads_of(q, num_heads_, queries.tokens_first), heads_of(k, num_kv_heads_, keys.tokens_first),
                   heads_of(v, num_kv_heads_, values.tokens_first), heads_of(joined, num_heads_, queries.tokens_first));
    call.run_with([&](const AttentionArguments<T>& arguments) {
      if (together) {
        project<T>(queries.view, *projections->packed, all, options.num_threads);
      } else {
        project<T>(queries.view, *projections->query, q, options.num_threads);
        project<T>(keys.view, *projections->key, k, options.num_threads);
        project<T>(values.view, *projections->value, v, options.num_threads);
      }
      attention<T>(arguments, options);
      if (projections->output) project<T>(joined, *projections->output, target, options.num_threads);
      if (!in_place) copy_elements<T>(target, result);
    });
    return call.results(output.object(is_torch_tensor(query)), queries.array.rank() == 3);
  }

  /// The caller's array, or a new one with the axes of the query.
  static Result make_output(const Array& query, std::int64_t width, const Keywords& keywords) {
    if (keywords.out) return Result(keywords.out, "out", query.type());
    if (query.rank() == 2) return Result(query.type(), {query.extent(0), width});
    return Result(query.type(), {query.extent(0), query.extent(1), width});
  }

  static void expect_fit(const Array& out, const Array& query, std::int64_t width) {
    const int last = query.rank() - 1;
    bool fits = out.rank() == query.rank() && out.extent(last) == width;
    for (int axis = 0; fits && axis < last; ++axis) fits = out.extent(axis) == query.extent(axis);
    if (fits) return;
    std::string expected = "(";
    for (int axis = 0; axis < last; ++axis) expected.append(std::to_string(query.extent(axis))).append(", ");
    refuse_value("shape of out", shape_text(out.extents()), expected.append(std::to_string(width)).append(")"));
  }

  LayerWeights weights_;
  std::int64_t num_heads_, num_kv_heads_;
  bool tokens_first_;
  ScratchPool pool_;
};

}  // namespace

void bind_layer(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<Layer>(module, "_Layer", "The computing half of headwise.MultiHeadAttention.")
      .def(nb::init<const nb::dict&, std::int64_t, std::int64_t, nb::handle, bool, bool>(), "arrays"_a, "num_heads"_a,
           "num_kv_heads"_a, "weight_order"_a, "batch_first"_a, "pack"_a)
      .def("run", &Layer::run, "query"_a.none(), "key"_a.none(), "value"_a.none(), "keywords"_a);
}

}  // namespace headwise::python
