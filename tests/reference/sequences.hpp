/// \file
/// Where the tokens of a sequence lie among the arguments of a call: padded batches, ragged ones, keys in runs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "headwise/attention.hpp"

namespace headwise::test {

/// A token of a view: its indices on the axes batch and position.
struct Token {
  std::int64_t batch = 0, position = 0;
};

inline std::int64_t entry(std::span<const std::int64_t> values, std::int64_t index) {
  return values[static_cast<std::size_t>(index)];
}

template <class T>
std::int64_t batch_of(const AttentionArguments<T>& arguments) {
  return arguments.query_starts.empty() ? arguments.query.extent(0)
                                        : static_cast<std::int64_t>(arguments.query_starts.size()) - 1;
}

/// Queries of a sequence.
template <class T>
std::int64_t query_length_of(const AttentionArguments<T>& arguments, std::int64_t batch) {
  if (arguments.query_starts.empty()) return arguments.query.extent(2);
  return entry(arguments.query_starts, batch + 1) - entry(arguments.query_starts, batch);
}

/// Keys of a sequence that count.
template <class T>
std::int64_t key_length_of(const AttentionArguments<T>& arguments, std::int64_t batch) {
  if (!arguments.key_lengths.empty()) return entry(arguments.key_lengths, batch);
  if (!arguments.key_starts.empty()) {
    return entry(arguments.key_starts, batch + 1) - entry(arguments.key_starts, batch);
  }
  if (arguments.key_runs.empty()) return arguments.key.extent(2);
  std::int64_t end_of_last = 0;
  for (const KeyRun<T>& run : arguments.key_runs) {
    if (entry(run.length, batch) > 0) end_of_last = entry(run.first_position, batch) + entry(run.length, batch);
  }
  return end_of_last;
}

/// Keys of the longest sequence, or those that a padded batch has room for.
template <class T>
std::int64_t largest_key_length(const AttentionArguments<T>& arguments) {
  if (arguments.key_starts.empty() && arguments.key_runs.empty()) return arguments.key.extent(2);
  std::int64_t largest = 0;
  for (std::int64_t b = 0; b < batch_of(arguments); ++b) largest = std::max(largest, key_length_of(arguments, b));
  return largest;
}

template <class T>
std::int64_t num_kv_heads_of(const AttentionArguments<T>& arguments) {
  return arguments.key_runs.empty() ? arguments.key.extent(1) : arguments.key_runs.front().key.extent(1);
}

template <class T>
std::int64_t value_dim_of(const AttentionArguments<T>& arguments) {
  return arguments.key_runs.empty() ? arguments.value.extent(3) : arguments.key_runs.front().value.extent(3);
}

/// Query i of a sequence; its rows of output and logsumexp lie likewise.
template <class T>
Token query_token(const AttentionArguments<T>& arguments, std::int64_t batch, std::int64_t i) {
  if (arguments.query_starts.empty()) return {batch, i};
  return {0, entry(arguments.query_starts, batch) + i};
}

/// A key and its value: the views that hold them, and where.
template <class T>
struct KeyToken {
  const TensorView<const T, 4>& key;
  const TensorView<const T, 4>& value;
  Token token;
};

/// Key j of a sequence, where it has one: not beyond a ragged sequence, nor between runs.
template <class T>
std::optional<KeyToken<T>> key_token(const AttentionArguments<T>& arguments, std::int64_t batch, std::int64_t j) {
  for (const KeyRun<T>& run : arguments.key_runs) {
    const std::int64_t from_first = j - entry(run.first_position, batch);
    if (from_first < 0 || from_first >= entry(run.length, batch)) continue;
    return KeyToken<T>{run.key, run.value, {batch, entry(run.first_slot, batch) + from_first}};
  }
  if (!arguments.key_runs.empty()) return {};
  if (arguments.key_starts.empty()) return KeyToken<T>{arguments.key, arguments.value, {batch, j}};
  if (j >= key_length_of(arguments, batch)) return {};
  return KeyToken<T>{arguments.key, arguments.value, {0, entry(arguments.key_starts, batch) + j}};
}

}  // namespace headwise::test
