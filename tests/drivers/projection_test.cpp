#include "drivers/projection.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <doctest/doctest.h>
#include <optional>
#include <vector>

#include "plan/projection_plan.hpp"
#include "support/environment.hpp"
#include "support/guarded_buffer.hpp"
#include "support/layer_reference.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"
#include "support/token_rows.hpp"

namespace headwise::test {
namespace {

using detail::weight_layout;

template <class T>
void run_projection(const TensorView<const T, 3>& input, const Projection<T>& projection,
                    const TensorView<T, 3>& output, int num_threads) {
  const std::size_t bytes =
      detail::projection_workspace_bytes(output.extent(0) * output.extent(1), projection, num_threads);
  const GuardedBuffer<std::uint8_t> workspace(static_cast<std::int64_t>(bytes), Placement::before_guard);
  detail::run_projection(input, projection, output, num_threads, reinterpret_cast<std::byte*>(workspace.data()));
}

struct Sizes {
  std::int64_t batch, tokens, inputs, outputs;
};

template <class T>
void check_projection(const Sizes& sizes, Rows input_rows, Rows output_rows, WeightOrder order, bool bias,
                      int num_threads) {
  const auto& [batch, tokens, inputs, outputs] = sizes;
  Random random(7);
  const Tensor<T, 3> input = make_rows<T>(input_rows, {batch, tokens, inputs});
  visit_elements(input.view, [&](T& element) { element = static_cast<T>(random.normal()); });
  std::vector<T> weight = normal<T>(random, inputs * outputs);
  std::vector<T> bias_values = normal<T>(random, bias ? outputs : 0);
  const auto extents = order == WeightOrder::in_out ? std::array{inputs, outputs} : std::array{outputs, inputs};
  const Projection<T> projection{
      .weight = TensorView<const T, 2>::contiguous(weight.data(), extents), .order = order, .bias = bias_values};

  const Tensor<T, 3> output = make_rows<T>(output_rows, {batch, tokens, outputs});
  run_projection<T>(input.view, projection, output.view, num_threads);
  const auto reference =
      reference_projection(exact<ReferenceTypeOf<T>>(TensorView<const T, 3>(input.view)), projection);
  CHECK(reference.worst_share(dense(output.view)) <= 1);
  CHECK(output.gaps_untouched());

  // Packed, the map needs weight and bias no longer; its kernel is the one that computes few rows anyway.
  const std::vector<T> unpacked = dense(output.view);
  const Projection<T> packed = detail::packed_projection(projection);
  std::fill(weight.begin(), weight.end(), T(NAN));
  std::fill(bias_values.begin(), bias_values.end(), T(NAN));
  output.buffer->poison();
  run_projection<T>(input.view, packed, output.view, num_threads);
  CHECK(reference.worst_share(dense(output.view)) <= 1);
  CHECK(output.gaps_untouched());
  const bool by_panels = batch * tokens < detail::blas_rows && (order == WeightOrder::in_out || inputs % 2 != 0);
  if (by_panels) CHECK(same_bits(dense(output.view), unpacked));
}

}  // namespace

TEST_CASE_TEMPLATE("projections of every layout and order are within the bound", T, float, double) {
  for (const Rows input : all_rows) {
    for (const Rows output : all_rows) {
      for (const WeightOrder order : {WeightOrder::in_out, WeightOrder::out_in}) {
        for (const bool bias : {false, true}) {
          CAPTURE(static_cast<int>(input));
          CAPTURE(static_cast<int>(output));
          CAPTURE(static_cast<int>(order));
          CAPTURE(bias);
          check_projection<T>({3, 5, 7, 6}, input, output, order, bias, 1);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("projections of every size are within the bound, with any number of threads", T, float, double) {
  for (const Sizes sizes : {Sizes{1, 1, 1, 1}, {1, 9, 1, 4}, {4, 1, 8, 3}, {1, 1, 130, 65}, {2, 40, 96, 130}}) {
    for (const int num_threads : thread_counts()) {
      CAPTURE(sizes.tokens);
      CAPTURE(num_threads);
      check_projection<T>(sizes, Rows::dense, Rows::dense, WeightOrder::in_out, true, num_threads);
      check_projection<T>(sizes, Rows::batch_gaps, Rows::dense, WeightOrder::out_in, true, num_threads);
    }
  }
}

TEST_CASE_TEMPLATE("products of many blocks, panels and pieces are within the bound", T, float, double) {
  for (const Sizes sizes : {Sizes{1, 70, 1600, 65}, {2, 80, 96, 300}, {1, 600, 40, 70}}) {
    for (const WeightOrder order : {WeightOrder::in_out, WeightOrder::out_in}) {
      for (const int num_threads : {1, 3}) {
        if (reduced_grid() && (order == WeightOrder::in_out) != (num_threads == 3)) continue;
        CAPTURE(sizes.tokens);
        CAPTURE(static_cast<int>(order));
        CAPTURE(num_threads);
        check_projection<T>(sizes, Rows::dense, Rows::batch_gaps, order, true, num_threads);
      }
    }
  }
}

TEST_CASE_TEMPLATE("few rows: within the bound, bits depend on neither threads nor the other rows", T, float, double) {
  for (const WeightOrder order : {WeightOrder::in_out, WeightOrder::out_in}) {
    CAPTURE(static_cast<int>(order));
    for (const Sizes sizes :
         {Sizes{1, 1, 768, 144}, {2, 4, 32, 65}, {1, 3, 2048, 1200}, {1, 7, 16, 16}, {3, 2, 64, 64}, {1, 1, 64, 1024}}) {
      for (const Rows rows : {Rows::dense, Rows::batch_gaps}) {
        for (const int num_threads : {1, 3}) {
          CAPTURE(sizes.tokens);
          check_projection<T>(sizes, rows, rows, order, num_threads == 1, num_threads);
        }
      }
    }
    Random random(6);
    constexpr std::int64_t rows = 8, inputs = 1600, outputs = 720;
    const std::vector<T> input = normal<T>(random, rows * inputs), weight = normal<T>(random, inputs * outputs);
    const std::vector<T> bias = normal<T>(random, outputs);
    const auto extents = order == WeightOrder::in_out ? std::array{inputs, outputs} : std::array{outputs, inputs};
    const Projection<T> projection{
        .weight = TensorView<const T, 2>::contiguous(weight.data(), extents), .order = order, .bias = bias};
    std::vector<T> expected(rows * outputs), output(rows * outputs);
    const auto project_part = [&](std::int64_t first, std::int64_t count, std::vector<T>& to, int num_threads) {
      run_projection(TensorView<const T, 3>::contiguous(input.data() + first * inputs, {1, count, inputs}), projection,
                     TensorView<T, 3>::contiguous(to.data() + first * outputs, {1, count, outputs}), num_threads);
    };
    project_part(0, rows, expected, 1);
    project_part(0, rows, output, 3);
    CHECK(same_bits(output, expected));
    for (const std::int64_t part : {1, 2, 3, 5}) {
      std::fill(output.begin(), output.end(), T(0));
      for (std::int64_t first = 0; first < rows; first += part) {
        project_part(first, std::min(part, rows - first), output, 1);
      }
      CHECK(same_bits(output, expected));
    }
  }
}

TEST_CASE_TEMPLATE("below the rows that are BLAS's, bits depend on neither threads nor other rows", T, float, double) {
  Random random(5);
  constexpr std::int64_t rows = 300, inputs = 900, outputs = 150, part = 100;
  const std::vector<T> input = normal<T>(random, rows * inputs), weight = normal<T>(random, inputs * outputs);
  const Projection<T> projection{.weight = TensorView<const T, 2>::contiguous(weight.data(), {outputs, inputs}),
                                 .order = WeightOrder::out_in};
  const auto project_part = [&](std::int64_t first, std::int64_t count, std::vector<T>& output, int num_threads) {
    run_projection(TensorView<const T, 3>::contiguous(input.data() + first * inputs, {1, count, inputs}), projection,
                   TensorView<T, 3>::contiguous(output.data() + first * outputs, {1, count, outputs}), num_threads);
  };
  std::vector<T> expected(rows * outputs), output(rows * outputs);
  project_part(0, rows, expected, 1);
  for (const int num_threads : reduced_grid() ? std::vector{5} : std::vector{2, 5}) {
    project_part(0, rows, output, num_threads);
    CHECK(same_bits(output, expected));
  }
  for (std::int64_t first = 0; first < rows; first += part) project_part(first, part, output, 1);
  CHECK(same_bits(output, expected));
}

TEST_CASE("a bias large enough for several tasks reaches every row") {
  check_projection<float>({1, 300, 2, 512}, Rows::dense, Rows::dense, WeightOrder::in_out, true, 3);
}

TEST_CASE("extents of zero: nothing to write, or the bias alone") {
  for (const Sizes sizes : {Sizes{0, 3, 4, 5}, {2, 0, 4, 5}, {2, 3, 4, 0}}) {
    check_projection<float>(sizes, Rows::dense, Rows::dense, WeightOrder::in_out, true, 1);
  }
  std::vector<float> output(6, NAN);
  const std::vector<float> bias{1, 2, 3};
  const auto view = TensorView<float, 3>::contiguous(output.data(), {1, 2, 3});
  const auto empty = TensorView<const float, 3>::contiguous(nullptr, {1, 2, 0});
  Projection<float> projection{.weight = TensorView<const float, 2>::contiguous(nullptr, {0, 3}), .bias = bias};
  run_projection(empty, projection, view, 1);
  CHECK(output == std::vector<float>{1, 2, 3, 1, 2, 3});
  projection.bias = {};
  run_projection(empty, projection, view, 1);
  CHECK(output == std::vector<float>(6, 0));
}

TEST_CASE("one batch entry repeated by stride 0 is read in place") {
  const std::vector<float> input{1, 2, 3, 4}, weight{1, 1};
  const TensorView<const float, 3> repeated{input.data(), {3, 2, 2}, {0, 2, 1}};
  const TensorView<const float, 3> single_token{input.data(), {3, 1, 2}, {0, 2, 1}};
  const Projection<float> projection{.weight = TensorView<const float, 2>::contiguous(weight.data(), {2, 1})};
  std::vector<float> output(6, NAN);
  run_projection(repeated, projection, TensorView<float, 3>::contiguous(output.data(), {3, 2, 1}), 1);
  CHECK(output == std::vector<float>{3, 7, 3, 7, 3, 7});
  run_projection(single_token, projection, TensorView<float, 3>::contiguous(output.data(), {3, 1, 1}), 1);
  CHECK(output == std::vector<float>{3, 3, 3, 7, 3, 7});
}

TEST_CASE("weight_layout finds how BLAS can read a matrix") {
  const auto layout = [](std::int64_t inputs, std::int64_t outputs, std::int64_t input_stride,
                         std::int64_t output_stride) {
    Projection<float> projection{.weight = {nullptr, {inputs, outputs}, {input_stride, output_stride}}};
    const auto in_out = weight_layout(projection);
    projection.weight = projection.weight.transposed(0, 1);
    projection.order = WeightOrder::out_in;
    const auto out_in = weight_layout(projection);
    REQUIRE(in_out.has_value() == out_in.has_value());
    if (in_out) CHECK((in_out->transposed == out_in->transposed && in_out->stride == out_in->stride));
    return in_out;
  };
  struct Case {
    std::int64_t inputs, outputs, input_stride, output_stride;
    bool transposed;
    std::int64_t stride;
  };
  for (const Case& c : {Case{4, 3, 3, 1, false, 3},
                        {4, 3, 9, 1, false, 9},
                        {4, 3, 1, 4, true, 4},
                        {4, 3, 1, 6, true, 6},
                        {1, 3, -7, 1, false, 3},
                        {4, 1, 1, 0, false, 1},
                        {4, 1, 5, 0, false, 5},
                        {1, 1, 0, 0, false, 1},
                        {1, 3, 1, 8, true, 8}}) {
    const auto found = layout(c.inputs, c.outputs, c.input_stride, c.output_stride);
    REQUIRE(found);
    CHECK(found->transposed == c.transposed);
    CHECK(found->stride == c.stride);
  }
  CHECK_FALSE(layout(4, 3, 2, 1));
  CHECK_FALSE(layout(4, 3, 6, 2));
  CHECK_FALSE(layout(4, 3, -3, 1));
  CHECK_FALSE(layout(4, 3, 1, 3));
  CHECK_FALSE(layout(4, 3, 0, 1));
}

}  // namespace headwise::test
