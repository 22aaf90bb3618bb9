/// \file
/// The named attention cases whose share of the machine's limit is followed from change to change.
#pragma once

#include <string>
#include <vector>

#include "support/workload.hpp"

namespace headwise::bench {

/// What limits a case.
enum class Limit {
  arithmetic,  ///< many queries: the peak of multiply-adds
  memory,      ///< few queries, keys and values out of cache: the bandwidth of reading them
  cache        ///< the same with keys and values left in cache by the call before
};

struct Case {
  std::string name;  ///< e.g. prefill-f32-d64-n1024
  AttentionShape shape;
  bool causal = false;
  bool is_double = false;
  Layout layout = Layout::heads_apart;
  Limit limit = Limit::arithmetic;
};

std::vector<Case> prefill_cases();    ///< a sequence attending to itself
std::vector<Case> causal_cases();     ///< the same, causal
std::vector<Case> head_size_cases();  ///< less usual head sizes
std::vector<Case> shape_cases();      ///< cross-attention, grouped heads, many small sequences
std::vector<Case> layout_cases();     ///< rows of a head far apart, beside the same shapes with heads stored apart
std::vector<Case> decode_cases();     ///< one or few queries, long keys

/// All of the above.
std::vector<Case> all_cases();

}  // namespace headwise::bench
