/// \file
/// Attention problems from the bytes of a fuzzer.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>

#include "fuzz/bytes.hpp"
#include "support/attention_problem.hpp"
#include "support/option_grid.hpp"

namespace headwise::test {

/// Any shape, layout and options, of at most some 100,000 products.
inline AttentionCase problem_from(Bytes& bytes) {
  constexpr std::array<std::int64_t, 12> query_lengths{1, 2, 3, 4, 5, 8, 13, 17, 33, 66, 130, 0};
  constexpr std::array<std::int64_t, 10> dims{1, 2, 3, 7, 8, 16, 17, 33, 64, 129};
  constexpr std::array<std::int64_t, 6> bounds{-1, 0, 3, 20, 150, std::numeric_limits<std::int64_t>::max()};
  AttentionCase problem;
  const std::int64_t kv_heads = 1 + bytes.below(2);
  problem.shape = {.batch = 1 + bytes.below(3),
                   .num_heads = kv_heads * (1 + bytes.below(3)),
                   .num_kv_heads = kv_heads,
                   .query_length = bytes.among(query_lengths),
                   .key_length = bytes.below(600),
                   .head_dim = bytes.among(dims),
                   .value_dim = bytes.yes() ? bytes.below(70) : bytes.among(dims)};
  AttentionShape& shape = problem.shape;
  while (shape.batch * shape.num_heads * shape.query_length * shape.key_length * (shape.head_dim + shape.value_dim) >
         300'000) {
    (shape.batch > 2                         ? shape.batch
     : shape.query_length > shape.key_length ? shape.query_length
                                             : shape.key_length) /= 2;
  }
  problem.layout = all_layouts[bytes.index(7)];  // those that the seeds were found with
  problem.placement = bytes.yes() ? Placement::before_guard : Placement::after_guard;
  problem.logsumexp = bytes.yes();
  problem.weights = bytes.yes();
  problem.mean_weights = bytes.yes();
  set_scores(problem, static_cast<OptionLevels::Scores>(bytes.below(4)));
  problem.options.scale = bytes.among(OptionLevels::scales);
  problem.options.softcap = bytes.among(OptionLevels::softcaps);
  problem.options.causal = bytes.yes();
  if (bytes.yes()) problem.options.window = {bytes.among(bounds), bytes.among(bounds)};
  problem.options.query_position = bytes.among(OptionLevels::positions);
  const auto varies = [&] { return Varies{bytes.yes(), bytes.yes(), bytes.yes(), bytes.yes()}; };
  if (bytes.yes()) problem.mask = varies();
  set_bias(problem, static_cast<OptionLevels::Bias>(bytes.below(5)));
  if (shape.query_length + shape.key_length == 0) problem.relative_bias = false;
  if (problem.bias) problem.bias = varies();
  problem.key_padding_mask = bytes.yes();
  problem.alibi = bytes.yes();
  problem.sinks = bytes.yes();
  for (std::int64_t b = 0; b < shape.batch && problem.options.query_position == QueryPosition::given; ++b) {
    problem.query_offsets.push_back(bytes.below(700) - 100);
  }
  return problem;
}

}  // namespace headwise::test
