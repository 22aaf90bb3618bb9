#include "api/call_shape.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "api/validate_sequences.hpp"

namespace headwise::detail {
namespace {

/// Longest of the sequences, at most `tokens`.
std::int64_t longest_sequence(std::span<const std::int64_t> starts, std::int64_t tokens) {
  std::int64_t longest = 0;
  for (std::size_t i = 1; i < starts.size() && starts.data() != nullptr; ++i) {
    std::int64_t length;
    if (__builtin_sub_overflow(starts[i], starts[i - 1], &length)) length = tokens;
    longest = std::max(longest, std::min(length, tokens));
  }
  return longest;
}

/// One more than the highest position in a run.
template <class KV>
std::int64_t end_of_runs(std::span<const KeyRun<KV>> runs) {
  std::int64_t highest_end = 0;
  for (const KeyRun<KV>& run : runs) {
    const std::span positions = run.first_position, lengths = run.length;
    if (positions.data() == nullptr || lengths.data() == nullptr) continue;
    for (std::size_t b = 0; b < std::min(positions.size(), lengths.size()); ++b) {
      std::int64_t end;
      if (lengths[b] <= 0 || __builtin_add_overflow(positions[b], lengths[b], &end)) continue;
      highest_end = std::max(highest_end, end);
    }
  }
  return highest_end;
}

}  // namespace

template <class T, class KV>
AttentionShape shape_of(const AttentionArguments<T, KV>& arguments) {
  const bool in_runs = !arguments.key_runs.empty() && arguments.key_runs.data() != nullptr;
  const auto& key = in_runs ? arguments.key_runs.front().key : arguments.key;
  const auto& value = in_runs ? arguments.key_runs.front().value : arguments.value;
  AttentionShape shape{.batch = arguments.query.extent(0),
                       .num_heads = arguments.query.extent(1),
                       .num_kv_heads = key.extent(1),
                       .query_length = arguments.query.extent(2),
                       .key_length = key.extent(2),
                       .head_dim = arguments.query.extent(3),
                       .value_dim = value.extent(3)};
  if (in_runs) shape.key_length = end_of_runs(arguments.key_runs);
  if (is_ragged(arguments)) {
    shape.batch = static_cast<std::int64_t>(std::max(arguments.query_starts.size(), arguments.key_starts.size())) - 1;
    shape.query_length = longest_sequence(arguments.query_starts, arguments.query.extent(2));
    shape.key_length = longest_sequence(arguments.key_starts, key.extent(2));
  }
  return shape;
}

template AttentionShape shape_of(const AttentionArguments<float>&);
template AttentionShape shape_of(const AttentionArguments<double>&);

}  // namespace headwise::detail
