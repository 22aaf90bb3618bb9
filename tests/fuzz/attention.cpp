// attention() with any options against the reference, within the error bound; NaN and infinities where they may be; bad
// arguments refused with the outputs untouched.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fuzz/bytes.hpp"
#include "fuzz/problem.hpp"
#include "headwise/attention.hpp"
#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/refusal.hpp"
#include "support/special_values.hpp"

namespace headwise::test {
namespace {

void choose_keys(AttentionCase& problem, Bytes& bytes) {
  const AttentionShape& shape = problem.shape;
  switch (bytes.below(4)) {
    case 0:
      for (std::int64_t b = 0; b < shape.batch; ++b) problem.key_lengths.push_back(bytes.below(shape.key_length + 1));
      break;
    case 1: problem.key_storage = KeyStorage::ring; break;
    case 2: problem.one_key_sequence = problem.layout != Layout::packed_qkv; break;
    default: break;
  }
}

/// Something that a call must refuse.
template <class T>
void spoil(AttentionArguments<T>& arguments, AttentionOptions& options, std::vector<std::int64_t>& lengths,
           std::vector<T>& numbers, Bytes& bytes) {
  const std::int64_t batch = arguments.query.extent(0), heads = arguments.query.extent(1);
  switch (bytes.below(9)) {
    case 0: options.scale = std::numeric_limits<double>::quiet_NaN(); break;
    case 1: options.softcap = -0.5; break;
    case 2: options.window.left = -2 - bytes.below(100); break;
    case 3: options.window.right = std::numeric_limits<std::int64_t>::min(); break;
    case 4: options.num_threads = -1; break;
    case 5:
      numbers.assign(static_cast<std::size_t>(heads) + 1, T(1));
      arguments.alibi_slopes = numbers;
      break;
    case 6:
      numbers.assign(static_cast<std::size_t>(heads) + 1, T(1));
      arguments.sinks = numbers;
      break;
    case 7:
      lengths.assign(static_cast<std::size_t>(batch), 0);
      lengths.back() = bytes.yes() ? -1 : std::numeric_limits<std::int64_t>::max();
      arguments.key_lengths = lengths;
      break;
    default:
      lengths.assign(static_cast<std::size_t>(batch) + 1, 0);
      options.query_position = QueryPosition::given;
      arguments.query_offsets = lengths;
      break;
  }
}

template <class T>
void expect_refusal(AttentionTensors<T>& tensors, Bytes& bytes) {
  tensors.poison_outputs();
  const Outputs<T> before = copy_outputs(tensors.arguments());
  AttentionArguments<T> arguments = tensors.arguments();
  AttentionOptions options = tensors.problem().options;
  std::vector<std::int64_t> lengths;
  std::vector<T> numbers;
  spoil(arguments, options, lengths, numbers, bytes);
  const std::string text = refusal([&] { AttentionPlan<T>(tensors.problem().shape, options).run(arguments); });
  require(text.starts_with("headwise: "), describe(tensors.problem()) + ": not refused: " + text);
  require(same_bits(copy_outputs(tensors.arguments()), before), describe(tensors.problem()) + ": outputs touched");
}

template <class T>
void run(const AttentionCase& problem, Bytes& bytes) {
  AttentionTensors<T> tensors(problem);
  tensors.fill(bytes.next());
  if (bytes.yes()) add_special_values(tensors, bytes);
  tensors.make_inputs_read_only();
  if (bytes.below(8) == 7) return expect_refusal(tensors, bytes);
  tensors.run();
  const Report report = check_rows(tensors.arguments(), problem.options, choose_rows(problem.shape, 6));
  require(report.violations == 0, describe(problem) + ": " + report.first_violation);
  require(tensors.gaps_untouched(), describe(problem) + ": wrote between the elements of an output");
}

}  // namespace
}  // namespace headwise::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace headwise::test;
  Bytes bytes(data, size);
  const bool in_double = bytes.yes();
  AttentionCase problem = problem_from(bytes);
  choose_keys(problem, bytes);
  in_double ? run<double>(problem, bytes) : run<float>(problem, bytes);
  return 0;
}
