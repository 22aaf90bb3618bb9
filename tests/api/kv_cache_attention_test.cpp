// Attention over a cache against attention over the plain tensors: prefill, decode, speculative decode, rings.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "headwise/kv_cache.hpp"
#include "support/attention_check.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

using Counts = std::vector<std::int64_t>;

constexpr std::int64_t batch = 2, num_heads = 4, num_kv_heads = 2, head_dim = 32, value_dim = 24;

template <class T>
Tensor<T, 4> tensor_of(std::int64_t heads, std::int64_t tokens, std::int64_t dim) {
  return make_tensor<T, 4>({batch, heads, tokens, dim}, Layout::bshd, Placement::before_guard);
}

/// `count` tokens of each sequence from its own position on.
template <class T>
Tensor<T, 4> tokens_at(const Tensor<T, 4>& all, std::span<const std::int64_t> positions, std::int64_t count) {
  auto tokens = tensor_of<T>(all.view.extent(1), count, all.view.extent(3));
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t first = positions[static_cast<std::size_t>(b)];
    const auto source = dense(all.view.slice(0, b, b + 1).slice(2, first, first + count));
    auto next = source.begin();
    visit_elements(tokens.view.slice(0, b, b + 1), [&next](T& element) { element = *next++; });
  }
  return tokens;
}

/// Two sequences that grow in a cache, and all their tokens in plain tensors.
template <class T>
class Decoding {
 public:
  /// \param tokens that there are \param queries per step
  Decoding(std::int64_t tokens, std::int64_t capacity, std::int64_t queries, const Window& window = {})
      : query_(tensor_of<T>(num_heads, tokens, head_dim)),
        key_(tensor_of<T>(num_kv_heads, tokens, head_dim)),
        value_(tensor_of<T>(num_kv_heads, tokens, value_dim)),
        options_{.causal = true, .window = window, .query_position = QueryPosition::bottom_right},
        cache_({.batch = batch,
                .num_kv_heads = num_kv_heads,
                .capacity = capacity,
                .head_dim = head_dim,
                .value_dim = value_dim,
                .ring = window.left >= 0}),
        plan_({batch, num_heads, num_kv_heads, queries, tokens, head_dim, value_dim}, options_) {
    Random random(5);
    for (const auto* tensor : {&query_, &key_, &value_}) fill_normal(random, tensor->view);
  }

  KvCache<T>& cache() { return cache_; }

  /// Appends the next tokens of every sequence without attending them.
  void append(std::int64_t tokens, const Counts& counts = {}) {
    const Counts before(cache_.lengths().begin(), cache_.lengths().end());
    cache_.append(tokens_at(key_, before, tokens).view, tokens_at(value_, before, tokens).view, counts);
  }

  /// Appends drafts that will be rejected: they must leave no trace.
  void append_nan(std::int64_t tokens) {
    const auto key = tensor_of<T>(num_kv_heads, tokens, head_dim),
               value = tensor_of<T>(num_kv_heads, tokens, value_dim);
    for (const auto* tensor : {&key, &value}) fill_with(tensor->view, std::numeric_limits<T>::quiet_NaN());
    cache_.append(key.view, value.view);
  }

  /// The last queries of every sequence over the cache by the one plan; within the bound of the plain tensors.
  std::vector<T> attend_runs() {
    run_plan([this](AttentionArguments<T>& arguments) { arguments.key_runs = cache_.runs(); });
    AttentionArguments<T> plain = plain_arguments();
    const Report report = check_rows(plain, options_, choose_rows(plan_.shape(), 24));
    CHECK_MESSAGE(report.violations == 0, "length ", cache_.lengths()[0], ": ", report.first_violation);
    return dense(output_.view);
  }

  /// The same through key, value and key_lengths; for a cache that is no ring.
  std::vector<T> attend_slots() {
    run_plan([this](AttentionArguments<T>& arguments) {
      arguments.key = cache_.keys();
      arguments.value = cache_.values();
      arguments.key_lengths = cache_.lengths();
    });
    return dense(output_.view);
  }

  /// The same without a cache, by a plan for the present lengths.
  std::vector<T> attend_plain() {
    attention(plain_arguments(), options_);
    return dense(output_.view);
  }

 private:
  /// \post query_ and output_ of the step are ready
  template <class SetKeys>
  void run_plan(const SetKeys& set_keys) {
    Counts positions(cache_.lengths().begin(), cache_.lengths().end());
    for (std::int64_t& position : positions) position -= plan_.shape().query_length;
    step_query_ = tokens_at(query_, positions, plan_.shape().query_length);
    output_ = tensor_of<T>(num_heads, plan_.shape().query_length, value_dim);
    AttentionArguments<T> arguments;
    arguments.query = step_query_.view;
    arguments.output = output_.view;
    set_keys(arguments);
    plan_.run(arguments);
  }

  AttentionArguments<T> plain_arguments() const {
    const std::int64_t longest = *std::max_element(cache_.lengths().begin(), cache_.lengths().end());
    AttentionArguments<T> arguments;
    arguments.query = step_query_.view;
    arguments.key = key_.view.slice(2, 0, longest);
    arguments.value = value_.view.slice(2, 0, longest);
    arguments.output = output_.view;
    arguments.key_lengths = cache_.lengths();
    return arguments;
  }

  Tensor<T, 4> query_, key_, value_, step_query_, output_;
  AttentionOptions options_;
  KvCache<T> cache_;
  AttentionPlan<T> plan_;
};

TEST_CASE_TEMPLATE("cache: one plan decodes token by token, with the bits of the plain tensors", T, float, double) {
  Decoding<T> decoding(160, 160, 1);
  decoding.append(90, {90, 61});
  while (decoding.cache().lengths()[0] < 140) {
    decoding.append(1);
    const std::vector<T> output = decoding.attend_runs();
    CHECK(same_bits(decoding.attend_slots(), output));
    CHECK(same_bits(decoding.attend_plain(), output));
  }
}

TEST_CASE_TEMPLATE("cache: speculative decode, rejected drafts leave no trace", T, float, double) {
  for (const std::int64_t drafts : {2, 4, 16}) {
    Decoding<T> decoding(300, 300, drafts);
    decoding.append(150, {150, 3});
    for (int step = 0; step < 6; ++step) {
      decoding.append_nan(drafts);
      const std::span<const std::int64_t> lengths = decoding.cache().lengths();
      decoding.cache().truncate(Counts{lengths[0] - drafts, lengths[1] - drafts});
      decoding.append(drafts);
      const std::vector<T> output = decoding.attend_runs();
      CHECK(same_bits(decoding.attend_slots(), output));
      CHECK(same_bits(decoding.attend_plain(), output));
      decoding.cache().truncate(Counts{lengths[0] - step % drafts, lengths[1]});
    }
  }
}

TEST_CASE_TEMPLATE("cache: chunks of a prompt have the bits of the whole prompt", T, float, double) {
  const std::int64_t chunk = 192, tokens = 3 * chunk;
  Decoding<T> whole(tokens, tokens, tokens), chunked(tokens, tokens, chunk);
  whole.append(tokens);
  const auto expected = whole.attend_slots();
  const auto expected_view = TensorView<const T, 4>::contiguous(expected.data(), {batch, num_heads, tokens, value_dim});
  for (std::int64_t begin = 0; begin < tokens; begin += chunk) {
    chunked.append(chunk);
    CHECK(same_bits(chunked.attend_runs(), dense(expected_view.slice(2, begin, begin + chunk))));
  }
}

TEST_CASE_TEMPLATE("cache: a ring with a window forgets, with the result of the plain tensors", T, float, double) {
  const std::int64_t left = 40;
  for (const std::int64_t queries : {1, 3, 24}) {
    Decoding<T> decoding(330, left + queries, queries, {.left = left});
    decoding.append(24 + 7, {24, 31});
    while (decoding.cache().lengths()[1] + queries < 320) {
      decoding.append(queries);
      decoding.attend_runs();
    }
    CHECK(decoding.cache().first_positions()[0] > 200);
  }
}

}  // namespace
}  // namespace headwise::test
