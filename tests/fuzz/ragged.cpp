// Ragged batches: every sequence has the bits it has alone, and is within the error bound; starts that do not rise or
// leave the tokens are refused with the outputs untouched.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fuzz/bytes.hpp"
#include "fuzz/problem.hpp"
#include "headwise/attention.hpp"
#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/rearranged.hpp"
#include "support/refusal.hpp"

namespace headwise::test {
namespace {

std::vector<std::int64_t> lengths_from(Bytes& bytes, std::int64_t batch, std::int64_t longest) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t b = 0; b < batch; ++b) lengths.push_back(bytes.below(longest + 1));
  return lengths;
}

template <class T>
void expect_refusal(AttentionTensors<T>& tensors, Bytes& bytes) {
  AttentionArguments<T> arguments = tensors.arguments();
  auto& starts = bytes.yes() ? arguments.query_starts : arguments.key_starts;
  std::vector<std::int64_t> bad(starts.begin(), starts.end());
  const auto at = static_cast<std::size_t>(bytes.below(static_cast<std::int64_t>(bad.size())));
  bad[at] = bytes.yes() ? -1 - bytes.below(5) : bad.back() + 1 + bytes.below(700);
  starts = bad;
  const Outputs<T> before = copy_outputs(tensors.arguments());
  const std::string text =
      refusal([&] { AttentionPlan<T>(tensors.problem().shape, tensors.problem().options).run(arguments); });
  require(text.starts_with("headwise: "), describe(tensors.problem()) + ": not refused: " + text);
  require(same_bits(copy_outputs(tensors.arguments()), before), describe(tensors.problem()) + ": outputs touched");
}

/// A sequence as a call of its own has the same bits.
template <class T>
void expect_same_alone(AttentionTensors<T>& tensors, std::int64_t b) {
  const AttentionCase& problem = tensors.problem();
  const AttentionArguments<T> alone = sequence_of(tensors.arguments(), b);
  const Outputs<T> together = copy_outputs(alone);
  tensors.poison_outputs();
  attention(alone, problem.options);
  require(same_bits(copy_outputs(alone), together),
          describe(problem) + ": sequence " + std::to_string(b) + " has other bits alone");
}

template <class T>
void run(const AttentionCase& problem, Bytes& bytes) {
  AttentionTensors<T> tensors(problem);
  tensors.fill(bytes.next());
  tensors.make_inputs_read_only();
  if (bytes.below(8) == 7) return expect_refusal(tensors, bytes);
  tensors.run();
  const Report report = check_rows(tensors.arguments(), problem.options, choose_rows(problem.shape, 6));
  require(report.violations == 0, describe(problem) + ": " + report.first_violation);
  require(tensors.gaps_untouched(), describe(problem) + ": wrote between the elements of an output");
  expect_same_alone(tensors, bytes.below(problem.shape.batch));
}

}  // namespace
}  // namespace headwise::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace headwise::test;
  Bytes bytes(data, size);
  const bool in_double = bytes.yes();
  AttentionCase problem = problem_from(bytes);
  problem.query_starts = starts_of(lengths_from(bytes, problem.shape.batch, problem.shape.query_length));
  problem.key_starts = starts_of(lengths_from(bytes, problem.shape.batch, problem.shape.key_length));
  in_double ? run<double>(problem, bytes) : run<float>(problem, bytes);
  return 0;
}
