#include "support/random_check.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/random.hpp"
#include "support/random_case.hpp"
#include "support/rearranged.hpp"
#include "support/special_values.hpp"

namespace headwise::test {
namespace {

/// Whether a head of the group attends a key.
template <class T>
bool is_attended(const AttentionCase& problem, const AttentionArguments<T>& arguments, std::int64_t b,
                 std::int64_t kv_head, std::int64_t j) {
  const std::int64_t group = problem.shape.num_heads / problem.shape.num_kv_heads;
  for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (std::int64_t i = 0; i < query_length_of(arguments, b); ++i) {
      if (attends(arguments, problem.options, {b, head, i}, j)) return true;
    }
  }
  return false;
}

/// Some of the keys and values that no row attends become NaN, an infinity or the largest number.
template <class T>
void add_intruders(AttentionTensors<T>& tensors, Random& random) {
  using Limits = std::numeric_limits<T>;
  constexpr std::array intruders{Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(), Limits::max()};
  const AttentionCase& problem = tensors.problem();
  const AttentionArguments<T> arguments = tensors.arguments();
  // Scores before the mask are of excluded keys, too.
  const bool keys_count = problem.scores && problem.options.score_stage != ScoreStage::biased;
  if (problem.one_key_sequence) return;  // another sequence may attend them
  for (int n = 0; n < 40 && problem.shape.key_length > 0; ++n) {
    const std::int64_t b = random.below(problem.shape.batch), kv_head = random.below(problem.shape.num_kv_heads);
    const std::int64_t j = random.below(problem.shape.key_length);
    const T intruder = random.among(intruders);
    const auto key = key_token(arguments, b, j);
    if (!key || is_attended(problem, arguments, b, kv_head, j)) continue;
    const Token token = key->token;
    const auto row = [&](const TensorView<T, 4>& view) {
      const auto of_head = view.slice(0, token.batch, token.batch + 1).slice(1, kv_head, kv_head + 1);
      return of_head.slice(2, token.position, token.position + 1);
    };
    if (!keys_count) fill_with(row(tensors.key()), intruder);
    fill_with(row(tensors.value()), intruder);
  }
}

/// The tensors of a problem with the numbers of a seed.
template <class T>
std::unique_ptr<AttentionTensors<T>> filled(const AttentionCase& problem, std::uint64_t seed, bool intruders) {
  auto tensors = std::make_unique<AttentionTensors<T>>(problem);
  tensors->fill(seed);
  Random random(seed);
  if (random.below(4) == 0) add_special_values(*tensors, random);
  if (intruders) add_intruders(*tensors, random);
  tensors->make_inputs_read_only();
  return tensors;
}

/// Queries [begin, end).
struct QueryRange {
  std::int64_t begin, end;
};

/// The queries of a sequence that have the same bits alone: by the kernel of few queries each of them; of many some or,
/// where bits may depend on the other queries of a tile, all.
template <class T>
std::vector<QueryRange> independent_queries(const AttentionCase& problem, std::int64_t queries, Random& random) {
  const AttentionPlan<T> plan(problem.shape, problem.options);
  std::vector<QueryRange> ranges;
  if (plan.path(queries, 0) == KernelPath::row_dot) {
    for (std::int64_t i = 0; i < queries; ++i) ranges.push_back({i, i + 1});
    return ranges;
  }
  const AttentionOptions& options = problem.options;
  const bool limited = options.causal || options.window.left >= 0 || options.window.right >= 0;
  const std::int64_t begin = random.below(queries), end = begin + 1 + random.below(queries - begin);
  if (limited || plan.path(end - begin, 0) == KernelPath::row_dot) return {{0, queries}};
  return {{begin, end}};
}

/// Whether a sequence, or some of its queries, as a call of its own has the bits that the last run gave it.
template <class T>
bool has_same_bits_alone(AttentionTensors<T>& tensors, Random& random) {
  const AttentionCase& problem = tensors.problem();
  const AttentionArguments<T> whole = tensors.arguments();
  const std::int64_t b = random.below(problem.shape.batch), queries = query_length_of(whole, b);
  if (queries == 0) return true;
  AttentionArguments<T> sequence = sequence_of(whole, b);
  const std::vector<KeyRun<T>> runs = runs_of(whole, b);
  sequence.key_runs = runs;
  AttentionShape shape = problem.shape;
  shape.batch = 1;
  if (problem.is_ragged()) shape.key_length = sequence.key.extent(2);
  AttentionOptions options = problem.options;
  options.query_position = QueryPosition::given;

  const std::vector<QueryRange> ranges = independent_queries<T>(problem, queries, random);
  std::vector<Outputs<T>> together;
  for (const auto [begin, end] : ranges) together.push_back(copy_outputs(queries_of(sequence, begin, end)));
  tensors.poison_outputs();
  bool same = true;
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    const auto [begin, end] = ranges[n];
    AttentionArguments<T> alone = queries_of(sequence, begin, end);
    const std::array offset{position_of(sequence, problem.options, {0, 0, begin})};
    alone.query_offsets = offset;
    shape.query_length = end - begin;
    AttentionPlan<T>(shape, options).run(alone);
    same = same && same_bits(copy_outputs(alone), together[n]);
  }
  return same;
}

/// Outputs in which one NaN is as good as another: which of two a sum of them becomes, the compiler decides.
template <class T>
Outputs<T> with_equal_nans(Outputs<T> outputs) {
  for (auto* list : {&outputs.output, &outputs.logsumexp, &outputs.weights, &outputs.mean_weights, &outputs.scores}) {
    for (T& element : *list) {
      const bool written = std::bit_cast<BitsOf<T>>(element) != poison_bits<T>;
      if (std::isnan(element) && written) element = std::numeric_limits<T>::quiet_NaN();
    }
  }
  return outputs;
}

template <class T>
std::string first_broken(const AttentionCase& problem, std::uint64_t seed, Random& random) {
  const auto tensors = filled<T>(problem, seed, true);
  const Outputs<T> expected = tensors->run();
  const Report report = check_rows(tensors->arguments(), problem.options, choose_rows(problem.shape, 8));
  if (report.violations > 0) return report.first_violation;
  if (!has_same_bits_alone(*tensors, random)) return "other bits of a sequence or some of its queries alone";

  const int num_threads = 2 + static_cast<int>(random.below(3));
  const bool has_lengths = problem.is_ragged() || problem.key_storage != KeyStorage::tensor;
  const std::int64_t spare_keys = has_lengths ? 0 : random.below(600);
  for (int n = 0; n < 2; ++n) {  // once with a workspace
    if (!same_bits(tensors->run(num_threads, spare_keys), expected)) return "other bits with threads or a larger plan";
  }
  if (!tensors->gaps_untouched()) return "wrote between the elements of an output";

  AttentionCase packed = problem;
  packed.layout = Layout::bhsd;
  packed.layout_step = 0;
  const Outputs<T> got = filled<T>(packed, seed, false)->run();
  const bool same = same_bits(with_equal_nans(got), with_equal_nans(expected));
  return same ? "" : "other bits in packed tensors or with other numbers in excluded keys";
}

}  // namespace

template <class T>
std::string broken_promise(std::uint64_t seed) {
  Random random(seed);
  const AttentionCase problem = any_case(random);
  const std::string broken = first_broken<T>(problem, seed, random);
  return broken.empty() ? broken : describe(problem) + ": " + broken;
}

template std::string broken_promise<float>(std::uint64_t);
template std::string broken_promise<double>(std::uint64_t);

}  // namespace headwise::test
