#include "plan/key_blocks.hpp"

namespace headwise::detail {

std::int64_t block_end(std::int64_t begin, std::int64_t end, int block_keys, int max_block_keys) {
  if (end - begin <= max_block_keys) return end;
  const std::int64_t next = (begin / block_keys + 1) * block_keys;
  const int most_rest = max_block_keys - block_keys;
  const bool short_block = next - begin < most_rest && end - next > max_block_keys;
  return short_block ? next + block_keys : next;
}

namespace {

/// One step of keys: the vectors whose rows attend some of them.
KeySpan step_span(const RowLimits& limits, int lanes, int begin, int end) {
  const auto vectors = static_cast<int>(vectors_for(limits.rows, lanes));
  const auto attends = [&](int vector) {
    // The last row of a vector ends last, the first one begins first.
    return limits.last_key[std::min((vector + 1) * lanes, limits.rows) - 1] > begin &&
           limits.first_key[vector * lanes] < end;
  };
  int first = 0, last = vectors;
  while (first < vectors - 1 && !attends(first)) ++first;
  while (last > first + 1 && !attends(last - 1)) --last;
  KeySpan span{.first_key = begin, .keys = end - begin, .first_vector = first, .vectors = last - first};
  const auto last_row = [&](int vector) { return std::min((vector + 1) * lanes, limits.rows) - 1; };
  for (int vector = first; vector < last && limits.last_key[vector * lanes] < end; ++vector) ++span.end_vectors;
  for (int vector = last; vector > first && limits.first_key[last_row(vector - 1)] > begin; --vector) ++span.begin_vectors;
  return span;
}

}  // namespace

int make_limited_spans(const RowLimits& limits, int lanes, int keys, KeySpan* spans) {
  const int step = edge_step(lanes), vectors = static_cast<int>(vectors_for(limits.rows, lanes));
  int count = 0;
  const auto add_steps = [&](int key, int last) {
    for (; key < last; key += step) spans[count++] = step_span(limits, lanes, key, std::min(key + step, last));
  };
  // The keys between the steps.
  const auto whole_steps = [step](int n) { return static_cast<int>(padded(n, step)); };
  int begin = whole_steps(limits.first_key[limits.rows - 1]);
  int end = keys - whole_steps(keys - limits.last_key[0]);
  if (end <= begin) begin = end = keys;
  add_steps(0, begin);
  if (begin < end) {
    spans[count++] = {.first_key = begin, .keys = end - begin, .first_vector = 0, .vectors = vectors};
  }
  add_steps(end, keys);
  return count;
}

}  // namespace headwise::detail
