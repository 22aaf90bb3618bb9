// Merging partial results: against the formula in wide precision, the promises to the last bit, bad input, and keys in
// shards against all of them at once.
#include "headwise/merge.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "headwise/attention.hpp"
#include "support/attention_check.hpp"
#include "support/merge_reference.hpp"
#include "support/random.hpp"
#include "support/refusal.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Parts to merge and where the result goes.
template <class T>
struct Merge {
  std::array<std::int64_t, 4> extents;
  std::vector<Tensor<T, 4>> outputs;
  std::vector<Tensor<T, 3>> logsumexps;
  Tensor<T, 4> output;
  Tensor<T, 3> logsumexp;

  Merge(std::size_t parts, const std::array<std::int64_t, 4>& shape, Layout layout = Layout::bhsd) : extents(shape) {
    const auto rows = [&] {
      return make_tensor<T, 3>({shape[0], shape[1], shape[2]}, layout, Placement::before_guard);
    };
    const auto elements = [&] { return make_tensor<T, 4>(shape, layout, Placement::before_guard); };
    for (std::size_t part = 0; part < parts; ++part) {
      outputs.push_back(elements());
      logsumexps.push_back(rows());
    }
    output = elements();
    logsumexp = rows();
  }

  /// Normal numbers; the logsumexps with a spread that makes some weights tiny.
  void fill(std::uint64_t seed) {
    Random random(seed);
    for (const auto& part : outputs) fill_normal(random, part.view);
    for (const auto& part : logsumexps) {
      visit_elements(part.view, [&](T& element) { element = static_cast<T>(5 * random.normal() + 3); });
    }
  }

  /// Logsumexp of part p in every row.
  void set_logsumexp(std::size_t part, double value) { fill_with(logsumexps[part].view, static_cast<T>(value)); }

  std::vector<PartialAttention<T>> parts() const {
    std::vector<PartialAttention<T>> result;
    for (std::size_t p = 0; p < outputs.size(); ++p) result.push_back({outputs[p].view, logsumexps[p].view});
    return result;
  }

  void run() { merge_attention(parts(), output.view, logsumexp.view); }
};

/// Compares one row with the formula.
template <class T>
void check_row(Report& report, const Merge<T>& merge, RowIndex row) {
  const auto expected = reference_merge<ReferenceTypeOf<T>, T>(merge.parts(), row);
  RowCheck<T> check(report, row);
  check.compare("logsumexp", -1, merge.logsumexp.view(row.batch, row.head, row.query), expected.logsumexp,
                expected.logsumexp_error);
  for (std::size_t c = 0; c < expected.output.size(); ++c) {
    const auto feature = static_cast<std::int64_t>(c);
    check.compare("output", feature, merge.output.view(row.batch, row.head, row.query, feature), expected.output[c],
                  expected.output_error[c]);
  }
}

TEST_CASE_TEMPLATE("merge: the formula, in every layout", T, float, double) {
  for (const Layout layout : all_layouts) {
    for (const std::size_t parts : {1U, 2U, 3U, 7U}) {
      for (const std::int64_t dim : {1, 5, 64, 131}) {
        Merge<T> merge(parts, {2, 3, 4, dim}, layout);
        merge.fill(parts);
        merge.run();
        Report report;
        for (const RowIndex& row : choose_rows({.batch = 2, .num_heads = 3, .query_length = 4}, 24)) {
          check_row(report, merge, row);
        }
        CHECK_MESSAGE(report.violations == 0, name_of(layout), ", ", parts, " parts: ", report.first_violation);
        CHECK(merge.output.gaps_untouched());
        CHECK(merge.logsumexp.gaps_untouched());
      }
    }
  }
}

TEST_CASE_TEMPLATE("merge: a part without keys may hold anything", T, float, double) {
  Merge<T> merge(3, {1, 2, 3, 70}), of_two(2, {1, 2, 3, 70});
  merge.fill(1);
  fill_with(merge.outputs[1].view, static_cast<T>(kNan));
  merge.set_logsumexp(1, -kInfinity);
  merge.run();
  const std::vector<PartialAttention<T>> parts{merge.parts()[0], merge.parts()[2]};
  merge_attention(parts, of_two.output.view, of_two.logsumexp.view);
  CHECK(same_bits(dense(merge.output.view), dense(of_two.output.view)));
  CHECK(same_bits(dense(merge.logsumexp.view), dense(of_two.logsumexp.view)));
}

TEST_CASE_TEMPLATE("merge: a row without keys in any part is +0 and −∞", T, float, double) {
  Merge<T> merge(2, {1, 1, 2, 65});
  merge.fill(1);
  for (std::size_t part = 0; part < 2; ++part) merge.logsumexps[part].view(0, 0, 1) = static_cast<T>(-kInfinity);
  merge.run();
  CHECK(same_bits(dense(merge.output.view.slice(2, 1, 2)), std::vector<T>(65, T(0))));
  CHECK(merge.logsumexp.view(0, 0, 1) == -kInfinity);
  CHECK(std::isfinite(merge.logsumexp.view(0, 0, 0)));
}

TEST_CASE_TEMPLATE("merge: the only part with keys comes out bit for bit", T, float, double) {
  for (const std::size_t live : {0U, 1U, 2U}) {
    Merge<T> merge(3, {2, 2, 3, 67});
    merge.fill(2);
    merge.outputs[live].view(0, 0, 0, 0) = T(-0.0);
    merge.outputs[live].view(0, 0, 0, 1) = static_cast<T>(kInfinity);
    merge.logsumexps[live].view(0, 0, 0) = T(-0.0);
    for (std::size_t part = 0; part < 3; ++part) {
      if (part != live) merge.set_logsumexp(part, -kInfinity);
    }
    merge.run();
    CHECK(same_bits(dense(merge.output.view), dense(merge.outputs[live].view)));
    CHECK(same_bits(dense(merge.logsumexp.view), dense(merge.logsumexps[live].view)));
  }
}

TEST_CASE_TEMPLATE("merge: logsumexps further apart than exp reaches", T, float, double) {
  for (const std::size_t largest : {0U, 1U, 2U}) {
    Merge<T> merge(3, {1, 1, 3, 67});
    merge.fill(2);
    for (std::size_t part = 0; part < 3; ++part) merge.set_logsumexp(part, part == largest ? 900 : -900);
    merge.run();
    CHECK(same_bits(dense(merge.output.view), dense(merge.outputs[largest].view)));
    CHECK(same_bits(dense(merge.logsumexp.view), dense(merge.logsumexps[largest].view)));
  }
}

TEST_CASE_TEMPLATE("merge: NaN and +∞ spoil their own rows", T, float, double) {
  for (const double bad : {kNan, kInfinity}) {
    for (const std::size_t part : {0U, 1U}) {
      Merge<T> merge(2, {1, 1, 3, 3}), good(2, {1, 1, 3, 3});
      merge.fill(3);
      good.fill(3);
      good.run();
      merge.logsumexps[part].view(0, 0, 1) = static_cast<T>(bad);
      merge.logsumexps[1 - part].view(0, 0, 1) = static_cast<T>(-kInfinity);
      merge.outputs[1].view(0, 0, 2, 0) = static_cast<T>(kNan);
      merge.run();
      for (std::int64_t c = 0; c < 3; ++c) {
        CHECK(merge.output.view(0, 0, 0, c) == good.output.view(0, 0, 0, c));
        CHECK(std::isnan(merge.output.view(0, 0, 1, c)));
        CHECK(std::isnan(merge.output.view(0, 0, 2, c)) == (c == 0));
      }
    }
  }
}

TEST_CASE_TEMPLATE("merge: without features, queries or a logsumexp", T, float, double) {
  Merge<T> merge(2, {1, 2, 3, 0});
  merge.fill(4);
  merge_attention<T>(std::vector<PartialAttention<T>>{{TensorView<T, 4>{nullptr, {1, 2, 3, 0}, {7, 5, 3, 1}},
                                                       merge.logsumexps[0].view}},
                     TensorView<T, 4>{nullptr, {1, 2, 3, 0}, {7, 5, 3, 1}}, merge.logsumexp.view);
  CHECK(same_bits(dense(merge.logsumexp.view), dense(merge.logsumexps[0].view)));

  const std::vector<PartialAttention<T>> nothing{
      {TensorView<T, 4>::contiguous(nullptr, {1, 0, 3, 4}), TensorView<T, 3>::contiguous(nullptr, {1, 0, 3})}};
  CHECK(refusal([&] { merge_attention(nothing, TensorView<T, 4>::contiguous(nullptr, {1, 0, 3, 4})); }) == "");

  Merge<T> with(2, {1, 2, 3, 9}), without(2, {1, 2, 3, 9});
  with.fill(5);
  without.fill(5);
  with.run();
  merge_attention(without.parts(), without.output.view);
  CHECK(same_bits(dense(with.output.view), dense(without.output.view)));
}

TEST_CASE_TEMPLATE("merge: bad input", T, float, double) {
  struct Refusal {
    std::string expected;
    void (*edit)(std::vector<PartialAttention<T>>& parts, TensorView<T, 4>& output, TensorView<T, 3>& logsumexp);
  };
  using Parts = std::vector<PartialAttention<T>>&;
  using Output = TensorView<T, 4>&;
  using Rows = TensorView<T, 3>&;
  const std::vector<Refusal> refusals{
      {"parts.size() is 0, expected at least 1", [](Parts parts, Output, Rows) { parts.clear(); }},
      {"output.extent(2) is -3, expected at least 0", [](Parts, Output output, Rows) { output.extents[2] = -3; }},
      {"logsumexp.extent(1) is 3, expected 2 (num_heads)", [](Parts, Output, Rows rows) { rows.extents[1] = 3; }},
      {"parts[1].output.extent(3) is 4, expected 5 (value_dim)",
       [](Parts parts, Output, Rows) { parts[1].output.extents[3] = 4; }},
      {"parts[0].logsumexp.extent(0) is 2, expected 1 (batch)",
       [](Parts parts, Output, Rows) { parts[0].logsumexp.extents[0] = 2; }},
      {"parts[1].logsumexp.extent(2) is 1, expected 3 (query_length)",
       [](Parts parts, Output, Rows) { parts[1].logsumexp.extents[2] = 1; }},
      {"parts[0].output.data is null, expected a pointer to 30 elements",
       [](Parts parts, Output, Rows) { parts[0].output.data = nullptr; }},
      {"output.data is null, expected a pointer to 30 elements",
       [](Parts, Output output, Rows) { output.data = nullptr; }},
      {"output.strides is [30, 15, 0, 1], expected strides that give every element an address of its own",
       [](Parts, Output output, Rows) { output.strides[2] = 0; }},
      {"output.data is {output}, expected a view that shares no element with parts[1].output",
       [](Parts parts, Output output, Rows) { parts[1].output = output; }},
      {"logsumexp.data is {logsumexp}, expected a view that shares no element with parts[0].logsumexp",
       [](Parts parts, Output, Rows rows) { parts[0].logsumexp = rows; }},
      {"logsumexp.data is {logsumexp}, expected a view that shares no element with output",
       [](Parts, Output output, Rows rows) { rows.data = &output(0, 1, 2, 4); }},
  };
  for (const Refusal& wrong : refusals) {
    Merge<T> merge(2, {1, 2, 3, 5});
    merge.fill(6);
    auto parts = merge.parts();
    TensorView<T, 4> output = merge.output.view;
    TensorView<T, 3> logsumexp = merge.logsumexp.view;
    if (wrong.expected.starts_with("logsumexp.data") && wrong.expected.ends_with("with output")) {
      // Room for the rows beyond the last element of the output.
      merge.output.buffer = std::make_shared<GuardedBuffer<T>>(40, Placement::before_guard);
      output.data = merge.output.view.data = merge.output.buffer->data();
    }
    wrong.edit(parts, output, logsumexp);
    std::string expected = "headwise: " + wrong.expected;
    for (const auto& [name, address] : {std::pair<std::string, const void*>{"{output}", output.data},
                                        std::pair<std::string, const void*>{"{logsumexp}", logsumexp.data}}) {
      if (const auto at = expected.find(name); at != std::string::npos) {
        expected.replace(at, name.size(), hexadecimal(address));
      }
    }
    const auto before = dense(merge.output.view);
    CHECK(refusal([&] { merge_attention(parts, output, logsumexp); }) == expected);
    CHECK(same_bits(dense(merge.output.view), before));
  }
}

TEST_CASE_TEMPLATE("merge: keys in shards agree with all keys at once", T, float, double) {
  const AttentionShape shape{.batch = 2,
                             .num_heads = 4,
                             .num_kv_heads = 2,
                             .query_length = 9,
                             .key_length = 301,
                             .head_dim = 32,
                             .value_dim = 24};
  const AttentionOptions options{.causal = true, .query_position = QueryPosition::given};
  const auto tensor = [](std::array<std::int64_t, 4> extents) {
    return make_tensor<T, 4>(extents, Layout::bhsd, Placement::before_guard);
  };
  const auto query = tensor({2, 4, 9, 32}), key = tensor({2, 2, 301, 32}), value = tensor({2, 2, 301, 24});
  Random random(7);
  for (const auto& input : {query, key, value}) fill_normal(random, input.view);

  // Three shards; the last one lies right of every query of the second sequence.
  const std::array<std::int64_t, 4> starts{0, 100, 260, 301};
  const std::array<std::int64_t, 2> offsets{290, 200};
  Merge<T> merge(3, {2, 4, 9, 24});
  for (std::size_t shard = 0; shard < 3; ++shard) {
    const std::int64_t begin = starts[shard], end = starts[shard + 1];
    const std::array<std::int64_t, 2> shard_offsets{offsets[0] - begin, offsets[1] - begin};
    AttentionArguments<T> arguments;
    arguments.query = query.view;
    arguments.key = key.view.slice(2, begin, end);
    arguments.value = value.view.slice(2, begin, end);
    arguments.output = merge.outputs[shard].view;
    arguments.query_offsets = shard_offsets;
    arguments.logsumexp = merge.logsumexps[shard].view;
    attention(arguments, options);
  }
  merge.run();

  AttentionArguments<T> all;
  all.query = query.view;
  all.key = key.view;
  all.value = value.view;
  all.output = merge.output.view;
  all.query_offsets = offsets;
  all.logsumexp = merge.logsumexp.view;
  // The bound of attention leaves room for that of merging: few parts, small logsumexps.
  const std::vector<RowIndex> rows = choose_rows(shape, 24);
  const Report report = check_rows(all, options, rows);
  CHECK_MESSAGE(report.violations == 0, report.first_violation);
  CHECK(report.elements == static_cast<std::int64_t>(rows.size()) * 25);
}

}  // namespace
}  // namespace headwise::test
