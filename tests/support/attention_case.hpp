/// \file
/// The tensors of an attention problem, and running it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "headwise/attention.hpp"
#include "support/attention_problem.hpp"
#include "support/option_tensors.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

/// Copies of what a run wrote.
template <class T>
struct Outputs {
  std::vector<T> output, logsumexp, weights, mean_weights = {}, scores = {};
};

template <class T>
bool same_bits(const Outputs<T>& a, const Outputs<T>& b) {
  return same_bits(a.output, b.output) && same_bits(a.logsumexp, b.logsumexp) && same_bits(a.weights, b.weights) &&
         same_bits(a.mean_weights, b.mean_weights) && same_bits(a.scores, b.scores);
}

/// The elements of outputs as they are now.
template <class T>
Outputs<T> copy_outputs(const AttentionArguments<T>& arguments);

/// The runs of keys that do not lie in the order of their positions: from the last slot of a tensor backwards, cut at
/// other positions in every sequence.
class KeyRunPlaces {
 public:
  KeyRunPlaces() = default;
  explicit KeyRunPlaces(const AttentionCase& problem);

  /// Whether a run holds the slot of sequence b.
  bool holds(std::size_t b, std::int64_t slot) const {
    for (std::size_t n = 0; n < length_.size(); ++n) {
      if (slot >= first_slot_[n][b] && slot < first_slot_[n][b] + length_[n][b]) return true;
    }
    return false;
  }

  template <class T>
  std::vector<KeyRun<T>> runs(const TensorView<const T, 4>& key, const TensorView<const T, 4>& value) const {
    std::vector<KeyRun<T>> runs;
    for (std::size_t n = 0; n < length_.size(); ++n) {
      runs.push_back({key, value, first_slot_[n], first_position_[n], length_[n]});
    }
    return runs;
  }

 private:
  std::vector<std::vector<std::int64_t>> first_slot_, first_position_, length_;
};

/// The tensors of a case.
template <class T>
class AttentionTensors {
 public:
  explicit AttentionTensors(const AttentionCase& problem);
  AttentionTensors(const AttentionTensors&) = delete;
  AttentionTensors& operator=(const AttentionTensors&) = delete;

  const AttentionCase& problem() const { return problem_; }
  TensorView<T, 4> query() const { return inputs_.query.view; }
  TensorView<T, 4> key() const { return inputs_.key.view; }
  TensorView<T, 4> value() const { return inputs_.value.view; }
  OptionTensors<T>& options() { return options_; }
  const OptionTensors<T>& options() const { return options_; }

  AttentionArguments<T> arguments() const;

  /// Normal numbers, but NaN in the keys and values that key_lengths excludes or no run holds; the options at random.
  void fill(std::uint64_t seed);

  /// From now on a write to an input ends the program.
  void make_inputs_read_only();

  /// Everything that a run writes holds poison again.
  void poison_outputs();

  /// Runs the case into poisoned outputs and returns copies of them. The first run and every other one has exactly the
  /// workspace that it asks for, in front of an unreadable page; the others allocate theirs. The plan has room for some
  /// keys more than there are.
  Outputs<T> run(int num_threads = 1, std::int64_t spare_keys = 0);

  /// Whether the memory between the elements of the outputs is as it was.
  bool gaps_untouched() const;

 private:
  TensorView<T, 4> over_batch(const TensorView<T, 4>& view) const;

  AttentionCase problem_;
  OptionTensors<T> options_;
  InputTensors<T> inputs_;
  Tensor<T, 4> output_;
  std::optional<Tensor<T, 3>> logsumexp_, mean_weights_;
  std::optional<Tensor<T, 4>> weights_, scores_;
  KeyRunPlaces places_;
  std::vector<KeyRun<T>> runs_;
  int num_runs_ = 0;
};

}  // namespace headwise::test
