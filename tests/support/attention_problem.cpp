#include "support/attention_problem.hpp"

#include <sstream>

#include "headwise/runtime.hpp"

namespace headwise::test {

std::string describe_options(const AttentionCase& problem) {
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
  if (problem.key_storage == KeyStorage::pieces) text << ", pieces";
  if (problem.one_key_sequence) text << ", one key sequence";
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

std::string describe(const AttentionCase& problem) {
  const AttentionShape& shape = problem.shape;
  std::ostringstream text;
  text << active_isa() << ": batch " << shape.batch << ", heads " << shape.num_heads << ":" << shape.num_kv_heads
       << ", queries " << shape.query_length << ", keys " << shape.key_length << ", dim " << shape.head_dim << "/"
       << shape.value_dim << ", " << name_of(problem.layout)
       << (problem.layout_step == 0 ? "" : " and others by " + std::to_string(problem.layout_step))
       << (problem.placement == Placement::before_guard ? " before a guard page" : " after a guard page")
       << describe_options(problem);
  return text.str();
}

}  // namespace headwise::test
