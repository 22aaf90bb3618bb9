/// \file
/// One attention problem of the tests: what is asked, the tensors for it, and running it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "headwise/attention.hpp"
#include "headwise/runtime.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

/// What is asked of attention().
struct AttentionCase {
  AttentionShape shape;
  AttentionOptions options = {};
  Layout layout = Layout::bhsd;
  Placement placement = Placement::before_guard;
  bool logsumexp = false;  ///< ask for it
  bool weights = false;    ///< ask for them
  bool one_key_sequence = false;  ///< the whole batch attends the same keys: batch stride 0
  std::vector<std::int64_t> key_lengths = {}, query_offsets = {};
};

/// The case in one line, for failures.
inline std::string describe(const AttentionCase& problem) {
  const AttentionShape& shape = problem.shape;
  std::ostringstream text;
  text << active_isa() << ": batch " << shape.batch << ", heads " << shape.num_heads << ":" << shape.num_kv_heads
       << ", queries " << shape.query_length << ", keys " << shape.key_length << ", dim " << shape.head_dim << "/"
       << shape.value_dim << ", " << name_of(problem.layout)
       << (problem.placement == Placement::before_guard ? " before a guard page" : " after a guard page");
  if (problem.options.causal) text << ", causal";
  if (problem.options.query_position == QueryPosition::bottom_right) text << ", bottom right";
  for (const std::int64_t offset : problem.query_offsets) text << ", offset " << offset;
  for (const std::int64_t length : problem.key_lengths) text << ", key length " << length;
  if (problem.logsumexp) text << ", logsumexp";
  if (problem.weights) text << ", weights";
  return text.str();
}

/// Copies of what a run wrote.
template <class T>
struct Outputs {
  std::vector<T> output, logsumexp, weights;
};

template <class T>
bool same_bits(const Outputs<T>& a, const Outputs<T>& b) {
  return same_bits(a.output, b.output) && same_bits(a.logsumexp, b.logsumexp) && same_bits(a.weights, b.weights);
}

/// The tensors of a case.
template <class T>
class AttentionTensors {
 public:
  explicit AttentionTensors(const AttentionCase& problem) : problem_(problem) {
    const AttentionShape& s = problem.shape;
    const std::array query{s.batch, s.num_heads, s.query_length, s.head_dim};
    const std::int64_t key_batch = problem.one_key_sequence ? 1 : s.batch;
    const std::array key{key_batch, s.num_kv_heads, s.key_length, s.head_dim};
    const std::array value{key_batch, s.num_kv_heads, s.key_length, s.value_dim};
    const auto tensor = [&]<std::size_t Rank>(const std::array<std::int64_t, Rank>& extents) {
      return make_tensor<T, static_cast<int>(Rank)>(extents, problem.layout, problem.placement);
    };
    inputs_ = problem.layout == Layout::packed_qkv ? make_packed_inputs<T>(query, key, value, problem.placement)
                                                   : InputTensors<T>{tensor(query), tensor(key), tensor(value)};
    output_ = tensor(std::array{s.batch, s.num_heads, s.query_length, s.value_dim});
    if (problem.logsumexp) logsumexp_ = tensor(std::array{s.batch, s.num_heads, s.query_length});
    if (problem.weights) weights_ = tensor(std::array{s.batch, s.num_heads, s.query_length, s.key_length});
  }

  const AttentionCase& problem() const { return problem_; }
  TensorView<T, 4> query() const { return inputs_.query.view; }
  TensorView<T, 4> key() const { return inputs_.key.view; }
  TensorView<T, 4> value() const { return inputs_.value.view; }

  AttentionArguments<T> arguments() const {
    const auto over_batch = [&](const TensorView<T, 4>& view) {
      return view.broadcast_to({problem_.shape.batch, view.extent(1), view.extent(2), view.extent(3)});
    };
    AttentionArguments<T> arguments;
    arguments.query = query();
    arguments.key = over_batch(key());
    arguments.value = over_batch(value());
    arguments.output = output_.view;
    arguments.key_lengths = problem_.key_lengths;
    arguments.query_offsets = problem_.query_offsets;
    if (logsumexp_) arguments.logsumexp = logsumexp_->view;
    if (weights_) arguments.weights = weights_->view;
    return arguments;
  }

  /// Normal numbers, but NaN in the keys and values that key_lengths excludes.
  void fill(std::uint64_t seed) {
    Random random(seed);
    for (const auto& view : {query(), key(), value()}) fill_normal(random, view);
    for (std::size_t b = 0; b < problem_.key_lengths.size(); ++b) {
      for (const auto& view : {key(), value()}) {
        const auto batch = static_cast<std::int64_t>(b);
        fill_with(view.slice(0, batch, batch + 1).slice(2, problem_.key_lengths[b], view.extent(2)),
                  std::numeric_limits<T>::quiet_NaN());
      }
    }
  }

  /// From now on a write to an input ends the program.
  void make_inputs_read_only() {
    for (const auto* tensor : {&inputs_.query, &inputs_.key, &inputs_.value}) tensor->buffer->make_read_only();
  }

  /// Runs the case into poisoned outputs and returns copies of them.
  Outputs<T> run(int num_threads = 1) {
    output_.buffer->poison();
    if (logsumexp_) logsumexp_->buffer->poison();
    if (weights_) weights_->buffer->poison();
    AttentionOptions options = problem_.options;
    options.num_threads = num_threads;
    AttentionPlan<T>(problem_.shape, options).run(arguments());
    return {dense(output_.view), logsumexp_ ? dense(logsumexp_->view) : std::vector<T>(),
            weights_ ? dense(weights_->view) : std::vector<T>()};
  }

  /// Whether the memory between the elements of the outputs is as it was.
  bool gaps_untouched() const {
    return output_.gaps_untouched() && (!logsumexp_ || logsumexp_->gaps_untouched()) &&
           (!weights_ || weights_->gaps_untouched());
  }

 private:
  AttentionCase problem_;
  InputTensors<T> inputs_;
  Tensor<T, 4> output_;
  std::optional<Tensor<T, 3>> logsumexp_;
  std::optional<Tensor<T, 4>> weights_;
};

}  // namespace headwise::test
