// Every tensor, list of values and workspace between unreadable pages, once against the page behind it and once against
// the one before it; the gaps between elements hold signalling NaN. The rows' values are tested elsewhere: here the
// bits must be those of the same call elsewhere in memory.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/attention_case.hpp"
#include "support/environment.hpp"
#include "support/option_grid.hpp"
#include "support/random.hpp"

namespace headwise::test {
namespace {

constexpr std::array both_placements{Placement::before_guard, Placement::after_guard};

/// Copies of lists, each in guarded memory that may not be written to.
class GuardedLists {
 public:
  explicit GuardedLists(Placement placement) : placement_(placement) {}

  template <class T>
  std::span<const T> copy(std::span<const T> values) {
    if (values.empty()) return values;
    auto buffer = std::make_shared<GuardedBuffer<T>>(static_cast<std::int64_t>(values.size()), placement_);
    std::copy(values.begin(), values.end(), buffer->data());
    buffer->make_read_only();
    kept_.push_back(buffer);
    return {buffer->data(), values.size()};
  }

 private:
  Placement placement_;
  std::vector<std::shared_ptr<void>> kept_;
};

/// Exactly the workspace that is asked for. An error of one byte ends the program.
class GuardedWorkspace {
 public:
  GuardedWorkspace(std::size_t bytes, Placement placement) : buffer_(static_cast<std::int64_t>(bytes), placement) {}
  std::span<std::byte> bytes() const {
    return {reinterpret_cast<std::byte*>(buffer_.data()), static_cast<std::size_t>(buffer_.size())};
  }

 private:
  GuardedBuffer<std::uint8_t> buffer_;
};

/// The outputs of a case, all of its memory guarded.
template <class T>
Outputs<T> run_guarded(AttentionCase problem, Placement placement, int num_threads) {
  problem.placement = placement;
  problem.options.num_threads = num_threads;
  AttentionTensors<T> tensors(problem);
  tensors.fill(7);
  tensors.make_inputs_read_only();
  GuardedLists lists(placement);
  AttentionArguments<T> arguments = tensors.arguments();
  for (auto* values :
       {&arguments.key_lengths, &arguments.query_offsets, &arguments.query_starts, &arguments.key_starts}) {
    *values = lists.copy(*values);
  }
  arguments.alibi_slopes = lists.copy(arguments.alibi_slopes);
  arguments.sinks = lists.copy(arguments.sinks);
  std::vector<KeyRun<T>> runs(arguments.key_runs.begin(), arguments.key_runs.end());
  for (KeyRun<T>& run : runs) {
    for (auto* values : {&run.first_slot, &run.first_position, &run.length}) *values = lists.copy(*values);
  }
  arguments.key_runs = runs;

  const AttentionPlan<T> plan(problem.shape, problem.options);
  const GuardedWorkspace workspace(plan.workspace_bytes(), placement);
  plan.run(arguments, workspace.bytes());
  CHECK_MESSAGE(tensors.gaps_untouched(), describe(problem));
  return copy_outputs(arguments);
}

TEST_CASE_TEMPLATE("guard pages: attention with all options pairwise", T, float, double) {
  for (const AttentionCase& problem : option_grid()) {
    const Outputs<T> expected = run_guarded<T>(problem, Placement::before_guard, 1);
    CHECK_MESSAGE(same_bits(run_guarded<T>(problem, Placement::after_guard, 2), expected), describe(problem));
  }
}

TEST_CASE_TEMPLATE("guard pages: all of the workspace in use", T, float, double) {
  // Rows that are far are copied, 16 tiles share the copies, every row of the mean is saved, mask and bias are of each
  // head, and rows of all kinds are prefetched.
  AttentionCase problem{.shape = {.batch = 1, .num_heads = 8, .num_kv_heads = 8, .query_length = 520, .key_length = 520,
                                  .head_dim = 64, .value_dim = 64},
                        .layout = Layout::bshd};
  problem.weights = problem.mean_weights = true;
  problem.mask = problem.bias = Varies{};
  const Outputs<T> expected = run_guarded<T>(problem, Placement::before_guard, 1);
  CHECK(same_bits(run_guarded<T>(problem, Placement::after_guard, 2), expected));
}

/// A list of numbers of its own.
template <class T>
std::vector<T> list_of_numbers(Random& random, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = static_cast<T>(random.normal());
  return values;
}

/// A read-only tensor of normal numbers.
template <class T, int Rank>
Tensor<T, Rank> input_tensor(Random& random, const std::array<std::int64_t, Rank>& extents, Layout layout,
                             Placement placement) {
  Tensor<T, Rank> tensor = make_tensor<T, Rank>(extents, layout, placement);
  visit_elements(tensor.view, [&](T& element) { element = static_cast<T>(random.normal()); });
  tensor.buffer->make_read_only();
  return tensor;
}

/// A cross-attention layer of odd sizes whose rows have gaps: output and attention weights.
template <class T>
std::vector<T> run_guarded_layer(Layout layout, Placement placement, int num_threads) {
  constexpr std::int64_t batch = 2, queries = 37, keys = 53, inputs = 29, heads = 3, dim = 11, outputs = 31;
  Random random(11);
  GuardedLists lists(placement);
  const auto tensor = [&]<std::size_t Rank>(const std::array<std::int64_t, Rank>& extents) {
    return input_tensor<T, static_cast<int>(Rank)>(random, extents, layout, placement);
  };
  const auto x = tensor(std::array<std::int64_t, 3>{batch, queries, inputs});
  const auto y = tensor(std::array<std::int64_t, 3>{batch, keys, inputs});
  const auto query = tensor(std::array<std::int64_t, 2>{inputs, heads * dim});
  const auto key = tensor(std::array<std::int64_t, 2>{heads * dim, inputs});
  const auto value = tensor(std::array<std::int64_t, 2>{inputs, heads * dim});
  const auto last = tensor(std::array<std::int64_t, 2>{outputs, heads * dim});
  const auto bias = [&](std::int64_t count) {
    return lists.copy(std::span<const T>(list_of_numbers<T>(random, count)));
  };
  const auto output = make_tensor<T, 3>({batch, queries, outputs}, layout, placement);
  const auto weights = make_tensor<T, 4>({batch, heads, queries, keys}, layout, placement);
  const std::array<std::int64_t, 2> lengths{53, 20};
  const MultiHeadAttention<T> layer({.batch = batch,
                                     .query_length = queries,
                                     .key_length = keys,
                                     .num_heads = heads,
                                     .num_kv_heads = heads,
                                     .head_dim = dim,
                                     .value_dim = dim},
                                    {.query = Projection<T>{query.view, WeightOrder::in_out, bias(heads * dim)},
                                     .key = Projection<T>{key.view, WeightOrder::out_in, bias(heads * dim)},
                                     .value = Projection<T>{value.view, WeightOrder::in_out, bias(heads * dim)},
                                     .output = Projection<T>{last.view, WeightOrder::out_in, bias(outputs)}},
                                    {.num_threads = num_threads});
  const GuardedWorkspace workspace(layer.workspace_bytes(), placement);
  layer.run({.query_input = x.view,
             .key_input = y.view,
             .output = output.view,
             .key_lengths = lists.copy(std::span<const std::int64_t>(lengths)),
             .weights = weights.view},
            workspace.bytes());
  CHECK(output.gaps_untouched());
  CHECK(weights.gaps_untouched());
  std::vector<T> results = dense(output.view), more = dense(weights.view);
  results.insert(results.end(), more.begin(), more.end());
  return results;
}

TEST_CASE_TEMPLATE("guard pages: the layer", T, float, double) {
  const std::vector<T> expected = run_guarded_layer<T>(Layout::bhsd, Placement::before_guard, 1);
  for (const Layout layout : {Layout::bhsd, Layout::row_gaps, Layout::off_by_one}) {
    for (const Placement placement : both_placements) {
      CAPTURE(name_of(layout));
      CHECK(same_bits(run_guarded_layer<T>(layout, placement, 2), expected));
    }
  }
}

/// The rotary embedding with a table, the cache and the merge.
template <class T>
std::vector<T> run_guarded_others(Layout layout, Placement placement) {
  constexpr std::int64_t batch = 2, heads = 3, tokens = 19, dim = 10, capacity = 24;
  Random random(12);
  GuardedLists lists(placement);
  std::vector<T> results;
  const auto keep = [&results](const auto& view) {
    const std::vector<T> elements = dense(view);
    results.insert(results.end(), elements.begin(), elements.end());
  };
  const auto input = [&] { return input_tensor<T, 4>(random, {batch, heads, tokens, dim}, layout, placement); };

  const auto x = make_tensor<T, 4>({batch, heads, tokens, dim}, layout, placement);
  fill_normal(random, x.view);
  const auto cosine = input_tensor<T, 2>(random, {tokens, dim / 2}, Layout::row_gaps, placement);
  const auto sine = input_tensor<T, 2>(random, {tokens, dim / 2}, Layout::row_gaps, placement);
  const RotaryTable<T> table{cosine.view, sine.view};
  GuardedBuffer<std::int64_t> positions(tokens, placement);
  for (std::int64_t t = 0; t < tokens; ++t) positions.data()[t] = tokens - 1 - t;
  rotary_embedding<T>(x.view, TensorView<const std::int64_t, 2>::contiguous(positions.data(), {1, tokens}), {}, table);
  CHECK(x.gaps_untouched());
  keep(x.view);

  const auto key = input(), value = input();
  const std::array<std::int64_t, 2> counts{tokens, 5};
  KvCache<T> cache({batch, heads, capacity, dim, dim, true});
  cache.append(key.view, value.view, lists.copy(std::span<const std::int64_t>(counts)), RotaryOptions{}, table);
  keep(cache.keys().slice(2, 0, 5));
  keep(cache.values().slice(2, 0, 5));

  const auto lse = [&] { return input_tensor<T, 3>(random, {batch, heads, tokens}, Layout::row_gaps, placement); };
  const auto first_lse = lse(), second_lse = lse();
  const std::array<PartialAttention<T>, 2> parts{PartialAttention<T>{key.view, first_lse.view},
                                                 PartialAttention<T>{value.view, second_lse.view}};
  const auto merged = make_tensor<T, 4>({batch, heads, tokens, dim}, layout, placement);
  const auto merged_lse = make_tensor<T, 3>({batch, heads, tokens}, layout, placement);
  merge_attention<T>(parts, merged.view, merged_lse.view);
  CHECK(merged.gaps_untouched());
  CHECK(merged_lse.gaps_untouched());
  keep(merged.view);
  keep(merged_lse.view);
  return results;
}

TEST_CASE_TEMPLATE("guard pages: rotary embedding, cache and merge", T, float, double) {
  const std::vector<T> expected = run_guarded_others<T>(Layout::bhsd, Placement::before_guard);
  for (const Layout layout : all_layouts) {
    if (layout == Layout::packed_qkv) continue;  // as bshd
    for (const Placement placement : both_placements) {
      CAPTURE(name_of(layout));
      CHECK(same_bits(run_guarded_others<T>(layout, placement), expected));
    }
  }
}

}  // namespace
}  // namespace headwise::test
