// What the argument checks do not refuse.
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "api/validate_call.hpp"

namespace headwise::test {
namespace {

TEST_CASE_TEMPLATE("options and lengths at their edges are fine", T, float, double) {
  using C = Call<T>;
  const double large = sizeof(T) == 4 ? 2.35e38 : 1.24e308;  // finite in base 2, too
  for (const double scale : {0.0, -0.5, 5e-324, large, -large}) expect_valid<T>([scale](C& c) { c.options.scale = scale; });
  for (const double softcap : {0.0, -0.0, 5e-324, 1e308}) {
    expect_valid<T>([softcap](C& c) { c.options.softcap = softcap; });
  }
  for (const std::int64_t side : {std::int64_t{-1}, std::int64_t{0}, kHighest}) {
    expect_valid<T>([side](C& c) { c.options.window = {side, side}, c.options.causal = true; });
  }
  for (const auto stage : {ScoreStage::scaled, ScoreStage::softcapped, ScoreStage::biased}) {
    expect_valid<T>([stage](C& c) { c.options.score_stage = stage; });
  }
  for (const int threads : {0, 1, 1'000'000}) expect_valid<T>([threads](C& c) { c.options.num_threads = threads; });
  expect_valid<T>([](C& c) { c.set_key_lengths({0, 8}); });
  expect_valid<T>([](C& c) {
    c.options.query_position = QueryPosition::given;
    c.set_query_offsets({-(std::int64_t{1} << 62), std::int64_t{1} << 62});
  });
  expect_valid<T>([](C& c) {  // fewer keys than the maximum
    c.remove_score_shaped();
    c.arguments.key.extents[2] = c.arguments.value.extents[2] = 2;
    c.arguments.mask = TensorView<const std::uint8_t, 4>::contiguous(c.mask_memory.data(), {1, 1, 1, 2});
    c.arguments.weights = TensorView<T, 4>::contiguous(c.spare(), {2, 4, 3, 2});
    c.set_key_lengths({1, 2});
  });
}

TEST_CASE_TEMPLATE("inputs may alias, be broadcast, reversed and off by one element", T, float, double) {
  using C = Call<T>;
  expect_valid<T>([](C& c) { c.arguments.key.data = c.arguments.value.data = c.arguments.query.data; });
  expect_valid<T>([](C& c) { c.arguments.key.strides = c.arguments.value.strides = {}; });
  expect_valid<T>([](C& c) {
    c.arguments.query.data += 143;
    for (std::int64_t& stride : c.arguments.query.strides) stride = -stride;
  });
  expect_valid<T>([](C& c) { c.arguments.query.data = c.spare(); });
  expect_valid<T>([](C& c) { c.arguments.alibi_slopes = c.arguments.sinks; });
  expect_valid<T>([](C& c) {  // extent 1 on every axis
    c.arguments.mask = TensorView<const std::uint8_t, 4>::contiguous(c.mask_memory.data(), {1, 1, 1, 1});
    c.arguments.bias = TensorView<const T, 4>::contiguous(c.spare(), {1, 1, 1, 1});
    c.arguments.key_padding_mask = TensorView<const std::uint8_t, 2>::contiguous(c.mask_memory.data(), {1, 1});
  });
  expect_valid<T>([](C& c) {  // all extents, but strides of 0 or below
    c.arguments.mask = TensorView<const std::uint8_t, 4>{c.mask_memory.data() + 7, {2, 4, 3, 8}, {0, 0, 0, -1}};
    c.arguments.bias = TensorView<const T, 4>{c.spare(), {2, 4, 3, 8}, {}};
    c.arguments.key_padding_mask = TensorView<const std::uint8_t, 2>{c.mask_memory.data(), {2, 8}, {0, 0}};
  });
  expect_valid<T>([](C& c) {  // an output may be reversed too
    c.arguments.output.data += 4;
    c.arguments.output.strides[3] = -1;
  });
  expect_valid<T>([](C& c) {  // the stride of an axis with one element means nothing
    c.shape.batch = 1;
    for (auto* view : {&c.arguments.query, &c.arguments.key, &c.arguments.value}) view->extents[0] = 1;
    c.arguments.output.extents[0] = c.arguments.logsumexp->extents[0] = c.arguments.weights->extents[0] = 1;
    c.arguments.mean_weights->extents[0] = c.arguments.scores->extents[0] = 1;
    c.arguments.mask->extents[0] = c.arguments.key_padding_mask->extents[0] = 1;
    c.arguments.mask->strides[0] = c.arguments.bias->strides[0] = kLowest;
    c.arguments.query.strides[0] = kLowest;
    c.arguments.output.strides[0] = kHighest;
    c.arguments.weights->strides[0] = 0;
  });
}

TEST_CASE_TEMPLATE("ragged batches and runs are fine", T, float, double) {
  using C = Call<T>;
  expect_valid<T>([](C& c) { c.make_ragged(); });
  expect_valid<T>([](C& c) {  // sequences without queries or keys
    c.make_ragged();
    c.set_starts({0, 3, 3}, {0, 0, 8});
    c.arguments.query.extents[2] = c.arguments.output.extents[2] = c.arguments.logsumexp->extents[2] = 3;
    c.arguments.key.extents[2] = c.arguments.value.extents[2] = 8;
  });
  expect_valid<T>([](C& c) {
    c.make_ragged();
    c.options.query_position = QueryPosition::given;
    c.set_query_offsets({-3, 4});
  });
  expect_valid<T>([](C& c) {  // no sequence at all
    c.remove_score_shaped();
    c.shape.batch = 0;
    c.arguments.logsumexp.reset();
    c.set_starts({0}, {0});
    c.arguments.query.extents = {1, 4, 0, 6};
    c.arguments.key.extents = {1, 2, 0, 6};
    c.arguments.value.extents = {1, 2, 0, 5};
    c.arguments.output.extents = {1, 4, 0, 5};
  });
  expect_valid<T>([](C& c) { c.make_runs(); });
  expect_valid<T>([](C& c) { c.make_runs(), c.arguments.key_runs = c.arguments.key_runs.first(1); });
  expect_valid<T>([](C& c) {  // a run without keys may stand anywhere
    c.make_runs();
    c.run_values[0].length[1] = c.run_values[1].length[0] = 0;
    c.run_values[0].first_position[1] = c.run_values[1].first_position[0] = kHighest;
    c.run_values[0].first_slot[1] = c.run_values[1].first_slot[0] = kLowest;
    c.run_values[1].first_position[1] = 0;
  });
  expect_valid<T>([](C& c) {  // runs may share slots
    c.make_runs();
    c.runs[1].key = c.runs[0].key, c.runs[1].value = c.runs[0].value;
  });
}

TEST_CASE_TEMPLATE("a table of relative biases becomes a view of scores", T, float, double) {
  std::vector<T> memory(2 * 10);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<T>(i);
  const auto table = TensorView<const T, 2>::contiguous(memory.data(), {2, 10});
  const auto bias = relative_bias_view(table, 3, 8);
  for (std::int64_t h = 0; h < 2; ++h) {
    for (std::int64_t i = 0; i < 3; ++i) {
      for (std::int64_t j = 0; j < 8; ++j) CHECK(bias(0, h, i, j) == table(h, j - i + 2));
    }
  }
  const auto text = [&](std::int64_t queries, std::int64_t keys) {
    return refusal([&] { relative_bias_view(table, queries, keys); });
  };
  CHECK(text(3, 9) == "headwise: table.extent(1) is 10, expected 11 (query_length + key_length - 1)");
  CHECK(text(-1, 12) == "headwise: query_length is -1, expected at least 0");
  CHECK(text(12, -1) == "headwise: key_length is -1, expected at least 0");
  CHECK(text(0, 11) == "");
  CHECK(text(0, 0) == "headwise: table.extent(1) is 10, expected 0 (query_length + key_length - 1)");
  CHECK(relative_bias_view(TensorView<const T, 2>{nullptr, {2, 0}, {0, 1}}, 0, 0).empty());
  CHECK(relative_bias_view(TensorView<const T, 2>{nullptr, {0, 4}, {4, 1}}, 3, 2).data == nullptr);

  Call<T> call;
  call.arguments.bias = relative_bias_view(TensorView<const T, 2>::contiguous(call.spare(), {4, 10}), 3, 8);
  CHECK(refusal([&call] { call.validate(); }) == "");
}

TEST_CASE_TEMPLATE("tokens of a ragged batch become a view with one batch entry", T, float, double) {
  std::vector<T> memory(5 * 4 * 6);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<T>(i);
  const auto tokens = TensorView<const T, 3>::contiguous(memory.data(), {5, 4, 6});
  const auto view = ragged_view(tokens);
  CHECK(view.extents == std::array<std::int64_t, 4>{1, 4, 5, 6});
  for (std::int64_t t = 0; t < 5; ++t) {
    for (std::int64_t h = 0; h < 4; ++h) CHECK(&view(0, h, t, 5) == &tokens(t, h, 5));
  }
}

TEST_CASE_TEMPLATE("more than 2^31 elements are fine", T, float, double) {
  constexpr std::int64_t length = std::int64_t{1} << 28;
  const AttentionShape shape{.batch = 2,
                             .num_heads = 4,
                             .num_kv_heads = 4,
                             .query_length = length,
                             .key_length = length,
                             .head_dim = 64,
                             .value_dim = 64};
  // Addresses only: nothing is followed.
  const auto view = [](std::uintptr_t terabytes) {
    return TensorView<T, 4>::contiguous(reinterpret_cast<T*>(terabytes << 40), {2, 4, length, 64});
  };
  AttentionArguments<T> arguments;
  arguments.query = view(1);
  arguments.key = view(3);
  arguments.value = view(5);
  arguments.output = view(7);
  CHECK(refusal([&] {
          detail::validate_shape(shape);
          detail::validate_arguments(shape, {}, arguments);
        }) == "");
}

/// A call with the given extents of zero, null everywhere.
template <class T>
AttentionArguments<T> null_arguments(const AttentionShape& s) {
  AttentionArguments<T> arguments;
  arguments.query = TensorView<const T, 4>::contiguous(nullptr, {s.batch, s.num_heads, s.query_length, s.head_dim});
  arguments.key = TensorView<const T, 4>::contiguous(nullptr, {s.batch, s.num_kv_heads, s.key_length, s.head_dim});
  arguments.value = TensorView<const T, 4>::contiguous(nullptr, {s.batch, s.num_kv_heads, s.key_length, s.value_dim});
  arguments.output = TensorView<T, 4>::contiguous(nullptr, {s.batch, s.num_heads, s.query_length, s.value_dim});
  return arguments;
}

TEST_CASE_TEMPLATE("with nothing to write, pointers may be null and nothing is written", T, float, double) {
  const AttentionShape full = Call<T>().shape;
  for (std::int64_t AttentionShape::*const field : {&AttentionShape::batch, &AttentionShape::num_heads,
                                                    &AttentionShape::query_length, &AttentionShape::value_dim}) {
    AttentionShape shape = full;
    shape.*field = 0;
    if (shape.num_heads == 0) shape.num_kv_heads = 0;
    const AttentionArguments<T> arguments = null_arguments<T>(shape);
    CHECK(refusal([&] { AttentionPlan<T>(shape).run(arguments); }) == "");
    CHECK(refusal([&] { attention<T>(arguments); }) == "");

    Call<T> call;  // the same extents over memory
    call.arguments.query.extents = arguments.query.extents;
    call.arguments.key.extents = arguments.key.extents;
    call.arguments.value.extents = arguments.value.extents;
    call.arguments.output.extents = arguments.output.extents;
    call.arguments.logsumexp.reset();
    call.remove_score_shaped();
    call.arguments.alibi_slopes = call.arguments.sinks = {};
    const std::vector<T> before = call.memory;
    CHECK(refusal([&] { AttentionPlan<T>(shape).run(call.arguments); }) == "");
    CHECK(std::memcmp(before.data(), call.memory.data(), before.size() * sizeof(T)) == 0);
  }
}

TEST_CASE_TEMPLATE("without features to write, a requested logsumexp still needs its inputs", T, float, double) {
  AttentionShape shape = Call<T>().shape;
  shape.value_dim = 0;
  AttentionArguments<T> arguments = null_arguments<T>(shape);
  std::vector<T> logsumexp(24);
  arguments.logsumexp = TensorView<T, 3>::contiguous(logsumexp.data(), {2, 4, 3});
  CHECK(refusal([&] { detail::validate_arguments(shape, {}, arguments); }) ==
        "headwise: query.data is null, expected a pointer to 144 elements");
}

TEST_CASE_TEMPLATE("without keys, key and value may be null", T, float, double) {
  Call<T> call;
  call.shape.key_length = 0;
  for (auto* view : {&call.arguments.key, &call.arguments.value}) {
    view->extents[2] = 0;
    view->data = nullptr;
  }
  call.remove_score_shaped();
  call.arguments.mask = TensorView<const std::uint8_t, 4>::contiguous(nullptr, {1, 1, 3, 0});
  call.arguments.weights = TensorView<T, 4>::contiguous(nullptr, {2, 4, 3, 0});
  CHECK(refusal([&call] { call.validate(); }) == "");
  call.arguments.output.data = nullptr;
  CHECK(refusal([&call] { call.validate(); }) == "headwise: output.data is null, expected a pointer to 120 elements");
}

}  // namespace
}  // namespace headwise::test
