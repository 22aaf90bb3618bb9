/// \file
/// One attention problem of the tests: what is asked. attention_case.hpp holds the tensors for it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headwise/attention.hpp"
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
  ring,    ///< from a slot of its own on, around the end of the tensor to the slot before: two runs
  pieces   ///< up to four runs, the first at the end of the tensor, and positions that no run holds
};

/// What is asked of attention().
struct AttentionCase {
  AttentionShape shape;
  AttentionOptions options = {};
  Layout layout = Layout::bhsd;
  int layout_step = 0;  ///< each tensor has the layout that far behind the one before in all_layouts
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

  /// The layout of a tensor, counted from 0.
  Layout layout_of(int tensor) const {
    return all_layouts[(static_cast<std::size_t>(layout) + static_cast<std::size_t>(tensor * layout_step)) %
                       all_layouts.size()];
  }
};

/// The options of a case in a few words.
std::string describe_options(const AttentionCase& problem);

/// The case in one line, for failures.
std::string describe(const AttentionCase& problem);

}  // namespace headwise::test
