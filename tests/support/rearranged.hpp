/// \file
/// The same attention problem in another form: parts of its batch, other tensors with the same or permuted elements.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "headwise/attention.hpp"
#include "reference/attention_reference.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

/// The part of an axis that a call of its own takes; an axis of extent 1 broadcasts.
template <class T>
TensorView<T, 4> broadcast_slice(const TensorView<T, 4>& view, int axis, std::int64_t begin, std::int64_t end) {
  return view.extent(axis) == 1 ? view : view.slice(axis, begin, end);
}

/// The runs that hold the keys of one sequence.
template <class T>
std::vector<KeyRun<T>> runs_of(const AttentionArguments<T>& whole, std::int64_t b) {
  std::vector<KeyRun<T>> runs(whole.key_runs.begin(), whole.key_runs.end());
  for (KeyRun<T>& run : runs) {
    run.key = run.key.slice(0, b, b + 1);
    run.value = run.value.slice(0, b, b + 1);
    for (auto* list : {&run.first_slot, &run.first_position, &run.length}) {
      *list = list->subspan(static_cast<std::size_t>(b), 1);
    }
  }
  return runs;
}

/// One sequence of a padded or ragged batch as a call of its own; its runs of keys, if any, must become runs_of() it.
template <class T>
AttentionArguments<T> sequence_of(const AttentionArguments<T>& whole, std::int64_t b) {
  const auto at = static_cast<std::size_t>(b);
  const std::int64_t queries = query_length_of(whole, b);
  const bool ragged = !whole.query_starts.empty();
  const bool in_runs = !whole.key_runs.empty();
  const auto tokens = [&](const auto& view, std::span<const std::int64_t> starts) {
    return ragged ? view.slice(2, starts[at], starts[at + 1]) : view.slice(0, b, b + 1);
  };
  // Scores-shaped tensors are as long as the longest sequence.
  const auto keys_of = [&](const auto& view, int axis) { return ragged ? key_length_of(whole, b) : view.extent(axis); };
  const auto scores_shaped = [&](auto& view) {
    if (!view) return;
    view = broadcast_slice(broadcast_slice(*view, 0, b, b + 1), 2, 0, queries);
    view = broadcast_slice(*view, 3, 0, keys_of(*view, 3));
  };
  AttentionArguments<T> result = whole;
  result.query = tokens(whole.query, whole.query_starts);
  result.output = tokens(whole.output, whole.query_starts);
  if (!in_runs) {
    result.key = tokens(whole.key, whole.key_starts);
    result.value = tokens(whole.value, whole.key_starts);
  }
  if (whole.logsumexp) result.logsumexp = tokens(*whole.logsumexp, whole.query_starts);
  for (auto* view : {&result.weights, &result.scores}) {
    if (*view) *view = (*view)->slice(0, b, b + 1).slice(2, 0, queries).slice(3, 0, keys_of(**view, 3));
  }
  if (auto& mean = result.mean_weights) {
    mean = mean->slice(0, b, b + 1).slice(1, 0, queries).slice(2, 0, keys_of(*mean, 2));
  }
  scores_shaped(result.mask);
  scores_shaped(result.bias);
  if (auto& padding = result.key_padding_mask) {
    padding = padding->slice(0, b, b + 1).slice(1, 0, keys_of(*padding, 1));
  }
  if (!whole.key_lengths.empty()) result.key_lengths = whole.key_lengths.subspan(at, 1);
  if (!whole.query_offsets.empty()) result.query_offsets = whole.query_offsets.subspan(at, 1);
  result.query_starts = result.key_starts = {};
  return result;
}

/// Queries [begin, end) of a batch that is not ragged as a call of its own, whose query_offsets tell where they stand.
template <class T>
AttentionArguments<T> queries_of(AttentionArguments<T> whole, std::int64_t begin, std::int64_t end) {
  whole.query = whole.query.slice(2, begin, end);
  whole.output = whole.output.slice(2, begin, end);
  if (whole.logsumexp) whole.logsumexp = whole.logsumexp->slice(2, begin, end);
  if (whole.weights) whole.weights = whole.weights->slice(2, begin, end);
  if (whole.mean_weights) whole.mean_weights = whole.mean_weights->slice(1, begin, end);
  if (whole.scores) whole.scores = whole.scores->slice(2, begin, end);
  if (whole.mask) whole.mask = broadcast_slice(*whole.mask, 2, begin, end);
  if (whole.bias) whole.bias = broadcast_slice(*whole.bias, 2, begin, end);
  return whole;
}

/// A dense tensor of its own.
template <class T>
struct DenseTensor {
  DenseTensor(const std::array<std::int64_t, 4>& extents)
      : elements(static_cast<std::size_t>(extents[0] * extents[1] * extents[2] * extents[3])),
        view(TensorView<T, 4>::contiguous(elements.data(), extents)) {}
  DenseTensor(const DenseTensor&) = delete;
  DenseTensor& operator=(const DenseTensor&) = delete;

  std::vector<T> elements;
  TensorView<T, 4> view;
};

/// [batch, num_heads, query_length, key_length] of a padded batch.
template <class T>
std::array<std::int64_t, 4> scores_extents(const AttentionArguments<T>& arguments) {
  return {arguments.query.extent(0), arguments.query.extent(1), arguments.query.extent(2), arguments.key.extent(2)};
}

/// Copies element by element between tensors of equal extents.
template <class T>
void copy_elements(const TensorView<const T, 4>& from, const TensorView<T, 4>& to) {
  const std::vector<T> elements = dense(from);
  std::size_t n = 0;
  visit_elements(to, [&](T& element) { element = elements[n++]; });
}

/// Calls visit(row, j, element) for every element of a scores-shaped tensor.
template <class T, class Visit>
void visit_scores(const TensorView<T, 4>& view, Visit visit) {
  for (std::int64_t b = 0; b < view.extent(0); ++b) {
    for (std::int64_t h = 0; h < view.extent(1); ++h) {
      for (std::int64_t i = 0; i < view.extent(2); ++i) {
        for (std::int64_t j = 0; j < view.extent(3); ++j) visit(RowIndex{b, h, i}, j, view(b, h, i, j));
      }
    }
  }
}

/// Keys or values with other heads and positions: element (b, h, j, d) is that of head_of(h) at position_of(j).
template <class T, class HeadOf, class PositionOf>
void copy_tokens(const TensorView<const T, 4>& from, const TensorView<T, 4>& to, HeadOf head_of,
                 PositionOf position_of) {
  for (std::int64_t b = 0; b < to.extent(0); ++b) {
    for (std::int64_t h = 0; h < to.extent(1); ++h) {
      for (std::int64_t j = 0; j < to.extent(2); ++j) {
        for (std::int64_t d = 0; d < to.extent(3); ++d) to(b, h, j, d) = from(b, head_of(h), position_of(j), d);
      }
    }
  }
}

/// What mask, key padding mask and bias do together, as one bias of full extents.
template <class T>
void join_biases(const AttentionArguments<T>& arguments, const TensorView<T, 4>& joined) {
  visit_scores(joined, [&](RowIndex row, std::int64_t j, T& element) {
    const bool excluded = (arguments.mask && broadcast_element(*arguments.mask, row, j) == 0) ||
                          (arguments.key_padding_mask && (*arguments.key_padding_mask)(row.batch, j) != 0);
    const T bias = arguments.bias ? broadcast_element(*arguments.bias, row, j) : T{0};
    element = excluded ? -std::numeric_limits<T>::infinity() : bias;
  });
}

/// The arguments with that bias instead.
template <class T>
AttentionArguments<T> with_only_bias(AttentionArguments<T> arguments, const TensorView<T, 4>& bias) {
  arguments.mask.reset();
  arguments.key_padding_mask.reset();
  arguments.bias = bias;
  return arguments;
}

}  // namespace headwise::test
