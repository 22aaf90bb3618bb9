/// \file
/// One attention problem of the tests: what is asked. attention_case.hpp holds the tensors for it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "headwise/attention.hpp"
#include "headwise/runtime.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

/// The axes along which a scores-shaped input has its full extent; along the others it has 1 and broadcasts.
struct Varies {
  bool batch = true, head = true, query = true, key = true;

  std::array<std::int64_t, 4> extents(const AttentionShape& shape) const {
    return {batch ? shape.batch : 1, head ? shape.num_heads : 1, query ? shape.query_length : 1,
            key ? shape.key_length : 1};
  }
};

/// Where the keys of a sequence lie.
enum class KeyStorage {
  tensor,  ///< in the order of their positions
  ring     ///< from a slot of its own on, around the end of the tensor to the slot before: two runs
};

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

  bool mean_weights = false, scores = false;  ///< ask for them
  std::vector<std::int64_t> query_starts = {}, key_starts = {};
  KeyStorage key_storage = KeyStorage::tensor;
  std::optional<Varies> mask = {}, bias = {};
  bool relative_bias = false;  ///< the bias is a relative_bias_view
  bool key_padding_mask = false, alibi = false, sinks = false;

  bool is_ragged() const { return !query_starts.empty(); }
};

/// The options of a case in a few words.
inline std::string describe_options(const AttentionCase& problem) {
  const AttentionOptions& options = problem.options;
  std::ostringstream text;
  const auto list = [&](const char* name, const std::vector<std::int64_t>& values) {
    for (const std::int64_t value : values) text << ", " << name << " " << value;
  };
  const auto axes = [&](const char* name, const std::optional<Varies>& varies) {
    if (!varies) return;
    text << ", " << name << " by" << (varies->batch ? " batch" : "") << (varies->head ? " head" : "")
         << (varies->query ? " query" : "") << (varies->key ? " key" : "");
  };
  if (options.scale) text << ", scale " << *options.scale;
  if (options.softcap > 0) text << ", softcap " << options.softcap;
  if (options.causal) text << ", causal";
  if (options.window.left >= 0) text << ", window left " << options.window.left;
  if (options.window.right >= 0) text << ", window right " << options.window.right;
  if (options.query_position == QueryPosition::bottom_right) text << ", bottom right";
  list("offset", problem.query_offsets);
  list("key length", problem.key_lengths);
  list("queries from", problem.query_starts);
  list("keys from", problem.key_starts);
  if (problem.key_storage == KeyStorage::ring) text << ", ring";
  axes("mask", problem.mask);
  axes("bias", problem.bias);
  if (problem.relative_bias) text << ", relative bias";
  if (problem.key_padding_mask) text << ", key padding mask";
  if (problem.alibi) text << ", ALiBi";
  if (problem.sinks) text << ", sinks";
  if (problem.logsumexp) text << ", logsumexp";
  if (problem.weights) text << ", weights";
  if (problem.mean_weights) text << ", mean weights";
  if (problem.scores) text << ", scores " << static_cast<int>(options.score_stage);
  return text.str();
}

/// The case in one line, for failures.
inline std::string describe(const AttentionCase& problem) {
  const AttentionShape& shape = problem.shape;
  std::ostringstream text;
  text << active_isa() << ": batch " << shape.batch << ", heads " << shape.num_heads << ":" << shape.num_kv_heads
       << ", queries " << shape.query_length << ", keys " << shape.key_length << ", dim " << shape.head_dim << "/"
       << shape.value_dim << ", " << name_of(problem.layout)
       << (problem.placement == Placement::before_guard ? " before a guard page" : " after a guard page")
       << describe_options(problem);
  return text.str();
}

}  // namespace headwise::test
