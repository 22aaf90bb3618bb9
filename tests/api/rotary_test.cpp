// Rotary embedding: against the formula in wide precision, the promises to the last bit, bad input.
#include "headwise/rotary.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/attention_check.hpp"
#include "support/error_bound.hpp"
#include "support/random.hpp"
#include "support/refusal.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

using Positions = TensorView<const std::int64_t, 2>;

/// Positions of a batch of 2 with 5 tokens: in order, and in none.
constexpr std::array<std::int64_t, 10> some_positions{0, 1, 2, 3, 4, 100'000, -7, 12, 12, 4'095};
const Positions batch_positions = Positions::contiguous(some_positions.data(), {2, 5});

/// [2, 3, 5, dim], filled with normal numbers.
template <class T>
Tensor<T, 4> make_rows(std::int64_t dim, Layout layout = Layout::bhsd) {
  auto tensor = make_tensor<T, 4>({2, 3, 5, dim}, layout, Placement::before_guard);
  Random random(9);
  fill_normal(random, tensor.view);
  return tensor;
}

std::int64_t rotated_features(const RotaryOptions& options, std::int64_t dim) {
  return options.rotary_dim == 0 ? dim : options.rotary_dim;
}

/// The feature that pair `i` begins or ends with.
std::int64_t feature_of(const RotaryOptions& options, std::int64_t dim, std::int64_t i, std::int64_t end) {
  const std::int64_t half = rotated_features(options, dim) / 2;
  return options.layout == RotaryLayout::half_split ? i + end * half : 2 * i + end;
}

/// Compares a rotated tensor with the rotation of `before`: two products, their sum, a rounded sine; the angle has the
/// errors of a power and a product in double.
template <class T>
Report check_rotation(const TensorView<T, 4>& before, const TensorView<T, 4>& after, const RotaryOptions& options) {
  using Real = ReferenceTypeOf<T>;
  Report report;
  const std::int64_t dim = before.extent(3), pairs = rotated_features(options, dim) / 2;
  visit_elements(Positions::contiguous(some_positions.data(), {2, 5}), [&](const std::int64_t& position) {
    const std::int64_t flat = &position - some_positions.data(), b = flat / 5, t = flat % 5;
    for (std::int64_t h = 0; h < before.extent(1); ++h) {
      RowCheck<T> check(report, {b, h, t});
      for (std::int64_t i = 0; i < pairs; ++i) {
        const std::int64_t first = feature_of(options, dim, i, 0), second = feature_of(options, dim, i, 1);
        const Real x = before(b, h, t, first), y = before(b, h, t, second);
        const auto angle = static_cast<long double>(position) *
                           std::pow(static_cast<long double>(options.base),
                                    -static_cast<long double>(i) / static_cast<long double>(pairs));
        const Real cosine = static_cast<Real>(std::cos(angle)), sine = static_cast<Real>(std::sin(angle));
        const Real angle_error = static_cast<Real>(std::abs(angle)) * 8 * rounding_unit<double>;
        const Real slack = angle_error * (std::abs(x) + std::abs(y));
        check.compare("x", first, after(b, h, t, first), x * cosine - y * sine,
                      Real(3.3) * rounding_unit<T> * (std::abs(x * cosine) + std::abs(y * sine)) + slack);
        check.compare("x", second, after(b, h, t, second), x * sine + y * cosine,
                      Real(3.3) * rounding_unit<T> * (std::abs(x * sine) + std::abs(y * cosine)) + slack);
      }
      for (std::int64_t i = 2 * pairs; i < dim; ++i) check.compare("x", i, after(b, h, t, i), before(b, h, t, i), 0);
    }
  });
  return report;
}

TEST_CASE_TEMPLATE("rotary: the formula, in every layout", T, float, double) {
  for (const RotaryLayout pairs : {RotaryLayout::half_split, RotaryLayout::interleaved}) {
    for (const auto& dims : {std::pair{64, 0}, {2, 0}, {80, 32}, {37, 18}, {7, 6}, {6, 2}}) {
      const std::int64_t dim = dims.first, rotary_dim = dims.second;
      for (const Layout layout : all_layouts) {
        const RotaryOptions options{
            .layout = pairs, .rotary_dim = rotary_dim, .base = layout == Layout::bhsd ? 1e4 : 5e5};
        const auto before = make_rows<T>(dim), x = make_rows<T>(dim, layout);
        rotary_embedding(x.view, batch_positions, options);
        const Report report = check_rotation(before.view, x.view, options);
        CHECK_MESSAGE(report.violations == 0, name_of(layout), ", dim ", dim, ", rotary_dim ", rotary_dim, ": ",
                      report.first_violation);
        CHECK(report.elements == 30 * dim);
        CHECK(x.gaps_untouched());
      }
    }
  }
}

TEST_CASE_TEMPLATE("rotary: same bits in every layout and for every number of threads", T, float, double) {
  const auto expected = make_rows<T>(62);
  rotary_embedding(expected.view, batch_positions, {.num_threads = 1});
  for (const Layout layout : all_layouts) {
    const auto x = make_rows<T>(62, layout);
    rotary_embedding(x.view, batch_positions);
    CHECK_MESSAGE(same_bits(dense(x.view), dense(expected.view)), name_of(layout));
  }
  // Enough tokens for several tasks.
  std::vector<std::int64_t> positions(900);
  for (std::size_t t = 0; t < positions.size(); ++t) positions[t] = static_cast<std::int64_t>(t * t % 601);
  const auto view = Positions::contiguous(positions.data(), {1, 900});
  std::vector<std::vector<T>> results;
  for (const int num_threads : {1, 2, 3, 0}) {
    const auto x = make_tensor<T, 4>({2, 2, 900, 64}, Layout::bshd, Placement::before_guard);
    Random random(3);
    fill_normal(random, x.view);
    rotary_embedding(x.view, view, {.num_threads = num_threads});
    results.push_back(dense(x.view));
    CHECK(same_bits(results.back(), results.front()));
  }
}

TEST_CASE_TEMPLATE("rotary: a table of the same numbers gives the same bits, whatever its strides", T, float, double) {
  for (const RotaryLayout layout : {RotaryLayout::half_split, RotaryLayout::interleaved}) {
    const RotaryOptions options{.layout = layout, .rotary_dim = 20};
    const std::array<std::int64_t, 5> positions{0, 3, 9, 9, 1};
    std::vector<T> memory(10 * 10 * 2);
    const TensorView<T, 2> cosine{memory.data(), {10, 10}, {2, 20}}, sine{memory.data() + 1, {10, 10}, {2, 20}};
    for (std::int64_t p = 0; p < 10; ++p) {
      for (std::int64_t i = 0; i < 10; ++i) {
        const double angle = static_cast<double>(p) * std::pow(10000.0, -static_cast<double>(i) / 10);
        cosine(p, i) = static_cast<T>(std::cos(angle));
        sine(p, i) = static_cast<T>(std::sin(angle));
      }
    }
    const auto computed = make_rows<T>(24), tabulated = make_rows<T>(24);
    const auto view = Positions::contiguous(positions.data(), {1, 5});
    rotary_embedding(computed.view, view, options);
    rotary_embedding(tabulated.view, view, options, RotaryTable<T>{cosine, sine});
    CHECK(same_bits(dense(computed.view), dense(tabulated.view)));
  }
}

TEST_CASE_TEMPLATE("rotary: positions of a batch of one serve the whole batch", T, float, double) {
  const auto broadcast = make_rows<T>(16), stride_0 = make_rows<T>(16), repeated = make_rows<T>(16);
  const std::array<std::int64_t, 10> positions{5, 6, 7, 8, 9, 5, 6, 7, 8, 9};
  rotary_embedding(broadcast.view, Positions{positions.data(), {1, 5}, {77, 1}});
  rotary_embedding(stride_0.view, Positions{positions.data(), {2, 5}, {0, 1}});
  rotary_embedding(repeated.view, Positions::contiguous(positions.data(), {2, 5}));
  CHECK(same_bits(dense(broadcast.view), dense(repeated.view)));
  CHECK(same_bits(dense(stride_0.view), dense(repeated.view)));
}

TEST_CASE_TEMPLATE("rotary: position 0 leaves the numbers, a NaN stays in its pair", T, float, double) {
  const std::array<std::int64_t, 5> positions{0, 0, 0, 1, 0};
  const auto x = make_rows<T>(8), before = make_rows<T>(8);
  x.view(0, 0, 3, 1) = std::numeric_limits<T>::quiet_NaN();
  rotary_embedding(x.view, Positions::contiguous(positions.data(), {1, 5}));
  CHECK(same_bits(dense(x.view.slice(2, 0, 3)), dense(before.view.slice(2, 0, 3))));
  for (std::int64_t i = 0; i < 8; ++i) CHECK(std::isnan(x.view(0, 0, 3, i)) == (i == 1 || i == 5));
}

TEST_CASE_TEMPLATE("rotary: nothing to rotate", T, float, double) {
  using View = TensorView<T, 4>;
  const auto accepts = [](const View& x, const Positions& positions) {
    return refusal([&] { rotary_embedding(x, positions); }) == "";
  };
  CHECK(accepts(View::contiguous(nullptr, {0, 2, 3, 4}), Positions::contiguous(nullptr, {1, 3})));
  CHECK(accepts(View::contiguous(nullptr, {2, 0, 3, 4}), Positions::contiguous(nullptr, {2, 3})));
  CHECK(accepts(View::contiguous(nullptr, {2, 2, 0, 4}), Positions::contiguous(nullptr, {2, 0})));
  CHECK(accepts(View::contiguous(nullptr, {2, 2, 3, 0}), Positions::contiguous(nullptr, {2, 3})));
}

/// A call that is fine; every case edits one thing.
template <class T>
struct Call {
  Tensor<T, 4> tensor = make_rows<T>(8);
  TensorView<T, 4> x = tensor.view;
  std::array<std::int64_t, 10> position_values{0, 1, 2, 3, 4, 3, 2, 1, 0, 1};
  Positions positions = Positions::contiguous(position_values.data(), {2, 5});
  RotaryOptions options;
  std::vector<T> memory = std::vector<T>(40, T(0.5));
  RotaryTable<T> table{TensorView<T, 2>::contiguous(memory.data(), {5, 4}),
                       TensorView<T, 2>::contiguous(memory.data() + 20, {5, 4})};
};

template <class T>
struct Refusal {
  std::string expected;
  void (*edit)(Call<T>&);
};

template <class T>
std::vector<Refusal<T>> refusals() {
  using C = Call<T>;
  return {
      {"x.extent(1) is -1, expected at least 0", [](C& c) { c.x.extents[1] = -1; }},
      {"positions.extent(0) is 3, expected 1 or 2 (batch)", [](C& c) { c.positions.extents[0] = 3; }},
      {"positions.extent(1) is 1, expected 5 (tokens)", [](C& c) { c.positions.extents[1] = 1; }},
      {"options.layout is 2, expected half_split (0) or interleaved (1)",
       [](C& c) { c.options.layout = static_cast<RotaryLayout>(2); }},
      {"options.rotary_dim is 3, expected an even number from 0 to 8 (x.extent(3))",
       [](C& c) { c.options.rotary_dim = 3; }},
      {"options.rotary_dim is -2, expected an even number from 0 to 8 (x.extent(3))",
       [](C& c) { c.options.rotary_dim = -2; }},
      {"options.rotary_dim is 10, expected an even number from 0 to 8 (x.extent(3))",
       [](C& c) { c.options.rotary_dim = 10; }},
      {"x.extent(3) is 7, expected an even number, for options.rotary_dim is 0: all features",
       [](C& c) { c.x.extents[3] = 7; }},
      {"options.base is 0, expected a finite number above 0", [](C& c) { c.options.base = 0; }},
      {"options.base is nan, expected a finite number above 0",
       [](C& c) { c.options.base = std::numeric_limits<double>::quiet_NaN(); }},
      {"options.base is inf, expected a finite number above 0",
       [](C& c) { c.options.base = std::numeric_limits<double>::infinity(); }},
      {"options.num_threads is -1, expected at least 0", [](C& c) { c.options.num_threads = -1; }},
      {"table.cosine.extent(0) is -5, expected at least 0", [](C& c) { c.table.cosine.extents[0] = -5; }},
      {"table.cosine.extent(1) is 3, expected 4 (pairs of features)", [](C& c) { c.table.cosine.extents[1] = 3; }},
      {"table.sine.extent(0) is 4, expected 5 (positions of table.cosine)", [](C& c) { c.table.sine.extents[0] = 4; }},
      {"table.sine.extent(1) is 4, expected 3 (pairs of features)",
       [](C& c) {
         c.options.rotary_dim = 6;
         c.table.cosine.extents[1] = 3;
       }},
      {"positions(1, 2) is 5, expected at least 0 and below 5 (positions of table.cosine)",
       [](C& c) { c.position_values[7] = 5; }},
      {"positions(0, 4) is -1, expected at least 0 and below 5 (positions of table.cosine)",
       [](C& c) { c.position_values[4] = -1; }},
      {"x.data is null, expected a pointer to 240 elements", [](C& c) { c.x.data = nullptr; }},
      {"positions.data is null, expected a pointer to 10 elements", [](C& c) { c.positions.data = nullptr; }},
      {"table.sine.data is null, expected a pointer to 20 elements", [](C& c) { c.table.sine.data = nullptr; }},
      {"x.strides is [120, 40, 0, 1], expected strides that give every element an address of its own",
       [](C& c) { c.x.strides[2] = 0; }},
      {"x.data is {x}, expected a view that shares no element with table.cosine",
       [](C& c) { c.table.cosine.data = c.x.data; }},
      {"x.data is {x}, expected a view that shares no element with positions",
       [](C& c) { c.positions.data = reinterpret_cast<const std::int64_t*>(&c.x(0, 1, 0, 0)); }},
  };
}

TEST_CASE_TEMPLATE("rotary: bad input", T, float, double) {
  for (const Refusal<T>& wrong : refusals<T>()) {
    Call<T> call;
    call.positions.data = call.position_values.data();
    wrong.edit(call);
    std::string expected = "headwise: " + wrong.expected;
    if (const auto at = expected.find("{x}"); at != std::string::npos)
      expected.replace(at, 3, hexadecimal(call.x.data));
    const auto before = dense(call.tensor.view);
    CHECK(refusal([&] { rotary_embedding(call.x, call.positions, call.options, call.table); }) == expected);
    CHECK(same_bits(dense(call.tensor.view), before));
  }
}

}  // namespace
}  // namespace headwise::test
