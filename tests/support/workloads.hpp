/// \file
/// The problems that the data families are judged on, for both kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "support/attention_problem.hpp"
#include "support/environment.hpp"

namespace headwise::test {

/// Problems of one kind, and the rows of each to compare: 10,000 output elements a family, or more.
struct Workload {
  const char* name;
  KernelPath path;  ///< of every row
  std::vector<AttentionCase> problems;
  std::int64_t rows;
};

/// A problem that asks for all outputs.
inline AttentionCase case_of(const AttentionShape& shape, bool causal) {
  AttentionCase problem{.shape = shape};
  problem.options.causal = causal;
  problem.options.query_position = QueryPosition::bottom_right;
  problem.logsumexp = problem.weights = true;
  return problem;
}

/// Few queries against long keys: a batch of questions to one text.
inline AttentionCase few_queries(std::int64_t batch, std::int64_t query_length, std::int64_t dim) {
  const std::int64_t sequences = reduced_grid() ? 3 : batch;
  AttentionCase problem = case_of({sequences, 1, 1, query_length, 2000, dim, dim}, query_length > 1);
  problem.one_key_sequence = true;
  return problem;
}

/// One workload for each kernel.
inline std::vector<Workload> workloads() {
  const std::vector<AttentionCase> many_rows =
      reduced_grid()
          ? std::vector{case_of({1, 1, 1, 20, 330, 64, 64}, false), case_of({1, 2, 1, 20, 150, 64, 64}, true),
                        case_of({1, 1, 1, 20, 150, 128, 128}, true)}
          : std::vector{case_of({1, 1, 1, 300, 1030, 64, 64}, false), case_of({1, 2, 1, 300, 300, 64, 64}, true),
                        case_of({1, 1, 1, 257, 300, 128, 128}, true)};
  return {
      {"many rows", KernelPath::query_tile, many_rows, 50},
      {"few rows", KernelPath::row_dot, {few_queries(60, 1, 64), few_queries(15, 4, 64), few_queries(20, 1, 128)}, 60}};
}

}  // namespace headwise::test
