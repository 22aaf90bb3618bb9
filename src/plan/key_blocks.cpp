#include "plan/key_blocks.hpp"

namespace headwise::detail {

std::int64_t block_end(std::int64_t begin, std::int64_t end, int block_keys, int max_block_keys) {
  if (end - begin <= max_block_keys) return end;
  return (begin / block_keys + 1) * block_keys;
}

namespace {

/// One step of keys: the vectors whose rows attend some of them.
KeySpan step_span(const KeyRange* range, int rows, int lanes, KeyRange step, std::int64_t origin) {
  const int vectors = (rows + lanes - 1) / lanes;
  const auto attends = [&](int vector) {
    const int first = vector * lanes, last = std::min(first + lanes, rows) - 1;
    // Ranges do not decrease: the last row ends last, the first one begins first.
    return range[last].end > step.begin && range[first].begin < step.end;
  };
  int first = 0, last = vectors;
  while (first < vectors - 1 && !attends(first)) ++first;
  while (last > first + 1 && !attends(last - 1)) --last;
  return {.first_key = static_cast<int>(step.begin - origin),
          .keys = static_cast<int>(step.end - step.begin),
          .first_vector = first,
          .vectors = last - first,
          .masked = true};
}

}  // namespace

int make_spans(const KeyRange* range, int rows, int lanes, KeyRange block, KeyRange interior, KeySpan* spans) {
  const int vectors = (rows + lanes - 1) / lanes;
  const KeyRange inside{std::clamp(interior.begin, block.begin, block.end),
                        std::clamp(interior.end, block.begin, block.end)};
  int count = 0;
  const auto add_steps = [&](std::int64_t begin, std::int64_t end) {
    const int step = edge_step(lanes);
    for (std::int64_t key = begin; key < end; key += step) {
      spans[count++] = step_span(range, rows, lanes, {key, std::min(key + step, end)}, block.begin);
    }
  };
  if (inside.empty()) {
    add_steps(block.begin, block.end);
    return count;
  }
  add_steps(block.begin, inside.begin);
  spans[count++] = {.first_key = static_cast<int>(inside.begin - block.begin),
                    .keys = static_cast<int>(inside.end - inside.begin),
                    .first_vector = 0,
                    .vectors = vectors,
                    .masked = false};
  add_steps(inside.end, block.end);
  return count;
}

}  // namespace headwise::detail
