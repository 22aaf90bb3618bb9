#include "attention_call.hpp"

#include <algorithm>
#include <string>
#include <string_view>

namespace headwise::python {
namespace {

constexpr const char* head_axes = "(batch, heads, length, dim)";
constexpr const char* token_axes = "(tokens, heads, dim)";
constexpr const char* same_type = " (the type of query)";

/// An input that broadcasts to [batch, heads, query length, key length] from the right.
template <class T>
TensorView<const T, 4> scores_shaped(OptionalArray& array, nb::handle object, const char* name, const char* reason) {
  array.emplace(object, name);
  array->expect_type(element_type_of<T>(), reason);
  if (array->rank() > 4) array->expect_rank(4, "or fewer, broadcast to (batch, heads, query length, key length)");
  return array->template view<const T, 4>();
}

/// Length of the longest sequence, to allocate outputs. The library refuses starts that make no sense, once it has found
/// outputs of the length that it takes such starts for: this one.
std::int64_t longest(std::span<const std::int64_t> starts, std::int64_t tokens) {
  std::int64_t longest = 0;
  for (std::size_t i = 1; i < starts.size(); ++i) {
    std::int64_t length;
    if (__builtin_sub_overflow(starts[i], starts[i - 1], &length)) length = tokens;
    longest = std::max(longest, std::min(length, tokens));
  }
  return longest;
}

}  // namespace

template <class T>
AttentionCall<T>::AttentionCall(const Array& query, const Keywords& keywords, bool return_scores)
    : query_(query), keywords_(keywords), return_scores_(return_scores) {}

template <class T>
TensorView<const T, 4> AttentionCall<T>::read_keys(OptionalArray& array, nb::handle object, const char* name) {
  array.emplace(object, name);
  array->expect_type(element_type_of<T>(), same_type);
  if (ragged_) {
    array->expect_rank(3, token_axes);
    return ragged_view(array->template view<const T, 3>());
  }
  array->expect_rank(4, head_axes);
  return array->template view<const T, 4>();
}

template <class T>
void AttentionCall<T>::set_keys(nb::handle key, nb::handle value) {
  query_.expect_rank(4, head_axes);
  arguments_.query = query_.view<const T, 4>();
  arguments_.key = read_keys(key_, key, "key");
  arguments_.value = read_keys(value_, value, "value");
  shape_.key_length = arguments_.key.extent(2);
  shape_.value_dim = arguments_.value.extent(3);
}

template <class T>
void AttentionCall<T>::set_keys(std::span<const KeyRun<T>> runs, std::int64_t key_length) {
  query_.expect_rank(4, head_axes);
  arguments_.query = query_.view<const T, 4>();
  arguments_.key_runs = runs;
  shape_.key_length = key_length;
  shape_.value_dim = runs.front().value.extent(3);
}

template <class T>
void AttentionCall<T>::set_ragged(nb::handle key, nb::handle value, nb::handle query_starts, nb::handle key_starts) {
  ragged_ = true;
  query_.expect_rank(3, token_axes);
  arguments_.query = ragged_view(query_.view<const T, 3>());
  arguments_.key = read_keys(key_, key, "key");
  arguments_.value = read_keys(value_, value, "value");
  arguments_.query_starts = query_starts_.emplace(query_starts, "query_starts").span();
  arguments_.key_starts = key_starts_.emplace(key_starts, "key_starts").span();
  if (arguments_.query_starts.empty()) refuse_value("number of query_starts", "0", "batch + 1");
  key_starts_->expect_count(static_cast<std::int64_t>(arguments_.query_starts.size()), "the number of query_starts");
  shape_.value_dim = arguments_.value.extent(3);
  shape_.query_length = longest(arguments_.query_starts, query_.extent(0));
  shape_.key_length = longest(arguments_.key_starts, key_->extent(0));
}

template <class T>
void AttentionCall<T>::set_heads(const TensorView<const T, 4>& query, const TensorView<const T, 4>& key,
                                 const TensorView<const T, 4>& value, const TensorView<T, 4>& output) {
  arguments_.query = query;
  arguments_.key = key;
  arguments_.value = value;
  arguments_.output = output;
  output_in_place_ = true;
  shape_.key_length = key.extent(2);
  shape_.value_dim = value.extent(3);
}

template <class T>
void AttentionCall<T>::read_inputs() {
  const TensorView<const T, 4>& query = arguments_.query;
  shape_.batch = ragged_ ? static_cast<std::int64_t>(arguments_.query_starts.size()) - 1 : query.extent(0);
  shape_.num_heads = query.extent(1);
  if (!ragged_) shape_.query_length = query.extent(2);
  if (keywords_.mask) {
    constexpr const char* reason = ": non-zero = attend (bias takes numbers to add)";
    arguments_.mask = scores_shaped<std::uint8_t>(mask_, keywords_.mask, "mask", reason);
  }
  if (keywords_.bias) arguments_.bias = scores_shaped<T>(bias_, keywords_.bias, "bias", same_type);
  if (keywords_.key_padding_mask) {
    key_padding_mask_.emplace(keywords_.key_padding_mask, "key_padding_mask");
    key_padding_mask_->expect_type(ElementType::uint8, ": non-zero = exclude");
    key_padding_mask_->expect_rank(2, "(batch, key length)");
    arguments_.key_padding_mask = key_padding_mask_->template view<const std::uint8_t, 2>();
  }
  const auto read = [](auto& numbers, nb::handle object, const char* name, std::int64_t count, const char* of,
                       auto& to) {
    if (!object) return;
    numbers.emplace(object, name).expect_count(count, of);
    to = numbers->span();
  };
  constexpr const char *batch = "the batch", *heads = "the heads of query";
  read(key_lengths_, keywords_.key_lengths, "key_lengths", shape_.batch, batch, arguments_.key_lengths);
  read(query_offsets_, keywords_.query_offsets, "query_offsets", shape_.batch, batch, arguments_.query_offsets);
  read(alibi_slopes_, keywords_.alibi_slopes, "alibi_slopes", shape_.num_heads, heads, arguments_.alibi_slopes);
  read(sinks_, keywords_.sinks, "sinks", shape_.num_heads, heads, arguments_.sinks);
}

template <class T>
void AttentionCall<T>::allocate_output() {
  constexpr ElementType type = element_type_of<T>();
  const std::int64_t heads = shape_.num_heads, features = shape_.value_dim;
  if (keywords_.out) {
    output_.emplace(keywords_.out, "out", type);
    output_->array().expect_rank(ragged_ ? 3 : 4, ragged_ ? token_axes : head_axes);
  } else if (ragged_) {
    output_.emplace(type, std::initializer_list<std::int64_t>{query_.extent(0), heads, features});
  } else {
    output_.emplace(type, std::initializer_list<std::int64_t>{shape_.batch, heads, shape_.query_length, features});
  }
  const Array& output = output_->array();
  arguments_.output = ragged_ ? ragged_view(output.view<T, 3>()) : output.view<T, 4>();
}

template <class T>
void AttentionCall<T>::allocate_outputs() {
  constexpr ElementType type = element_type_of<T>();
  const auto& [batch, heads, kv_heads, queries, keys, head_dim, value_dim] = shape_;
  if (!output_in_place_) allocate_output();
  if (keywords_.return_logsumexp && as_bool(keywords_.return_logsumexp, "return_logsumexp")) {
    // Ragged: [tokens, heads] in memory, so that it goes with the output.
    if (ragged_) {
      logsumexp_.emplace(type, std::initializer_list<std::int64_t>{query_.extent(0), heads});
      arguments_.logsumexp = logsumexp_->array().template view<T, 3>().transposed(1, 2);
    } else {
      logsumexp_.emplace(type, std::initializer_list<std::int64_t>{batch, heads, queries});
      arguments_.logsumexp = logsumexp_->array().template view<T, 3>();
    }
  }
  // Of a ragged batch, only the rows of each sequence's own queries are written.
  if (keywords_.return_weights) {
    if (PyUnicode_Check(keywords_.return_weights.ptr())) {
      const std::string given(as_text(keywords_.return_weights, "return_weights"));
      if (given != "mean") refuse_value("return_weights", "\"" + given + "\"", "True, False or \"mean\"");
      weights_.emplace(type, std::initializer_list<std::int64_t>{batch, queries, keys}, ragged_);
      arguments_.mean_weights = weights_->array().template view<T, 3>();
    } else if (as_bool(keywords_.return_weights, "return_weights")) {
      weights_.emplace(type, std::initializer_list<std::int64_t>{batch, heads, queries, keys}, ragged_);
      arguments_.weights = weights_->array().template view<T, 4>();
    }
  }
  if (return_scores_) {
    scores_.emplace(type, std::initializer_list<std::int64_t>{batch, heads, queries, keys}, ragged_);
    arguments_.scores = scores_->array().template view<T, 4>();
  }
}

template <class T>
nb::object AttentionCall<T>::results(const nb::object& output, bool batched) const {
  if (!logsumexp_ && !weights_ && !scores_) return output;
  const bool torch = is_torch_tensor(query_.object());
  nb::list all;
  all.append(output);
  for (const auto* result : {&logsumexp_, &weights_, &scores_}) {
    if (!*result) continue;
    const nb::object array = (*result)->object(torch);
    all.append(batched ? array : nb::object(array[nb::int_(0)]));  // torch tensors are no sequences
  }
  return nb::tuple(all);
}

template <class T>
nb::object AttentionCall<T>::run(const AttentionOptions& options) {
  run_with([&](const AttentionArguments<T>& arguments) { attention<T>(arguments, options); });
  return results(output_->object(is_torch_tensor(query_.object())));
}

template <class T>
nb::object AttentionCall<T>::run(const AttentionPlan<T>& plan) {
  run_with([&](const AttentionArguments<T>& arguments) { plan.run(arguments); });
  return results(output_->object(is_torch_tensor(query_.object())));
}

template class AttentionCall<float>;
template class AttentionCall<double>;

}  // namespace headwise::python
