// The specification of bad values per sequence: the exact text of every refusal.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "api/call_shape.hpp"
#include "api/validate_call.hpp"

namespace headwise::test {
namespace {

template <class T>
std::vector<Case<T>> batch_entry_cases() {
  using C = Call<T>;
  return {
      {"key_lengths.size() is 1, expected 2 (batch) or none", [](C& c) { c.set_key_lengths({8}); }},
      {"key_lengths[1] is 9, expected 0 to 8 (key length)",
       [](C& c) {
         c.set_key_lengths({8, 9});
       }},
      {"key_lengths[0] is -1, expected 0 to 8 (key length)",
       [](C& c) {
         c.set_key_lengths({-1, 8});
       }},
      {"key_lengths[1] is 9223372036854775807, expected 0 to 8 (key length)",
       [](C& c) {
         c.set_key_lengths({0, kHighest});
       }},
      {"key_lengths.data is null, expected a pointer to 2 elements",
       [](C& c) {
         c.arguments.key_lengths = {static_cast<const std::int64_t*>(nullptr), 2};
       }},
      {"query_offsets.data is null, expected a pointer to 2 elements",
       [](C& c) {
         c.options.query_position = QueryPosition::given;
         c.arguments.query_offsets = {static_cast<const std::int64_t*>(nullptr), 2};
       }},
      {"query_offsets.size() is 2, expected none unless options.query_position is given",
       [](C& c) {
         c.set_query_offsets({0, 0});
       }},
      {"query_offsets.size() is 1, expected none unless options.query_position is given",
       [](C& c) { c.options.query_position = QueryPosition::bottom_right, c.set_query_offsets({0}); }},
      {"query_offsets.size() is 0, expected 2 (batch): options.query_position is given",
       [](C& c) { c.options.query_position = QueryPosition::given; }},
      {"query_offsets[1] is 9223372036854775807, expected -2^62 to 2^62",
       [](C& c) {
         c.options.query_position = QueryPosition::given, c.set_query_offsets({0, kHighest});
       }},
      {"query_offsets[0] is -9223372036854775808, expected -2^62 to 2^62",
       [](C& c) {
         c.options.query_position = QueryPosition::given, c.set_query_offsets({kLowest, 0});
       }},
  };
}

template <class T>
std::vector<Case<T>> ragged_cases() {
  using C = Call<T>;
  return {
      {"query_starts.size() is 2, expected 3 (batch + 1) or none",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 5}, {0, 8, 11});
       }},
      {"query_starts.size() is 0, expected 3 (batch + 1) in a ragged batch",
       [](C& c) {
         c.make_ragged(), c.set_starts({}, {0, 8, 11});
       }},
      {"key_starts.size() is 0, expected 3 (batch + 1) in a ragged batch",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 3, 5}, {});
       }},
      {"key_starts.size() is 4, expected 3 (batch + 1) or none",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 3, 5}, {0, 4, 8, 11});
       }},
      {"key_starts.data is null, expected a pointer to 3 elements",
       [](C& c) {
         c.make_ragged(), c.arguments.key_starts = {static_cast<const std::int64_t*>(nullptr), 3};
       }},
      {"query_starts[0] is 1, expected 0",
       [](C& c) {
         c.make_ragged(), c.set_starts({1, 3, 5}, {0, 8, 11});
       }},
      {"key_starts[0] is -1, expected 0",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 3, 5}, {-1, 8, 11});
       }},
      {"query_starts[2] is 1, expected at least 2, as query_starts[1]",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 2, 1}, {0, 8, 11});
       }},
      {"key_starts[1] is -9223372036854775808, expected at least 0, as key_starts[0]",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 3, 5}, {0, kLowest, 11});
       }},
      {"length of sequence 1 in query_starts is 4, expected at most 3 (shape.query_length)",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 1, 5}, {0, 8, 11});
       }},
      {"length of sequence 0 in key_starts is 9223372036854775807, expected at most 8 (shape.key_length)",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 3, 5}, {0, kHighest, kHighest});
       }},
      {"query_starts[2] is 4, expected 5 (tokens of query)",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 3, 4}, {0, 8, 11});
       }},
      {"key_starts[2] is 12, expected 11 (tokens of key)",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 3, 5}, {0, 4, 12});
       }},
      {"query.extent(0) is 2, expected 1 (ragged batch)",
       [](C& c) {
         c.set_starts({0, 3, 5}, {0, 8, 11});
       }},
      {"key.extent(0) is 0, expected 1 (ragged batch)", [](C& c) { c.make_ragged(), c.arguments.key.extents[0] = 0; }},
      {"output.extent(0) is 2, expected 1 (ragged batch)",
       [](C& c) { c.make_ragged(), c.arguments.output.extents[0] = 2; }},
      {"logsumexp.extent(0) is 2, expected 1 (ragged batch)",
       [](C& c) { c.make_ragged(), c.arguments.logsumexp->extents[0] = 2; }},
      {"query.extent(2) is -5, expected 0 (tokens of query)",
       [](C& c) { c.make_ragged(), c.arguments.query.extents[2] = -5; }},
      {"output.extent(2) is 3, expected 5 (tokens of query)",
       [](C& c) { c.make_ragged(), c.arguments.output.extents[2] = 3; }},
      {"logsumexp.extent(2) is 6, expected 5 (tokens of query)",
       [](C& c) { c.make_ragged(), c.arguments.logsumexp->extents[2] = 6; }},
      {"key.extent(2) is -1, expected 0 (tokens of key)",
       [](C& c) { c.make_ragged(), c.arguments.key.extents[2] = -1; }},
      {"value.extent(2) is 8, expected 11 (tokens of key)",
       [](C& c) { c.make_ragged(), c.arguments.value.extents[2] = 8; }},
      {"weights.extent(0) is 1, expected 2 (batch)",
       [](C& c) { c.make_ragged(), c.arguments.weights->extents[0] = 1; }},
      {"scores.extent(3) is 11, expected 8 (key length)",
       [](C& c) { c.make_ragged(), c.arguments.scores->extents[3] = 11; }},
      {"mask.extent(2) is 5, expected 1 or 3 (query_length)",
       [](C& c) { c.make_ragged(), c.arguments.mask->extents[2] = 5; }},
      {"key_lengths.size() is 2, expected none in a ragged batch",
       [](C& c) {
         c.make_ragged(), c.set_key_lengths({8, 3});
       }},
      {"query_offsets.size() is 0, expected 2 (batch): options.query_position is given",
       [](C& c) { c.make_ragged(), c.options.query_position = QueryPosition::given; }},
      {"output.data is {address}, expected a view that shares no element with key_starts",
       [](C& c) {
         c.make_ragged(), c.set_starts({0, 3, 5}, std::vector<std::int64_t>(120));
         c.arguments.output.data = reinterpret_cast<T*>(c.key_starts.data());
         c.arguments.key_starts = c.arguments.key_starts.first(3);
         c.key_starts[1] = 8, c.key_starts[2] = 11;
       }},
  };
}

template <class T>
std::vector<Case<T>> run_cases() {
  using C = Call<T>;
  return {
      {"key is given, expected none with key_runs",
       [](C& c) {
         const auto key = c.arguments.key;
         c.make_runs(), c.arguments.key.data = key.data;
       }},
      {"value is given, expected none with key_runs",
       [](C& c) { c.make_runs(), c.arguments.value.extents = {2, 2, 0, 5}; }},
      {"key_runs.size() is 2, expected none in a ragged batch",
       [](C& c) {
         c.make_runs(), c.set_starts({0, 3, 5}, {});
       }},
      {"key_lengths.size() is 2, expected none with key_runs",
       [](C& c) {
         c.make_runs(), c.set_key_lengths({8, 3});
       }},
      {"key_runs.data is null, expected a pointer to 2 runs",
       [](C& c) {
         c.make_runs(), c.arguments.key_runs = {static_cast<const KeyRun<T>*>(nullptr), 2};
       }},
      {"key_runs[0].key.extent(0) is 1, expected 2 (batch)", [](C& c) { c.make_runs(), c.runs[0].key.extents[0] = 1; }},
      {"key_runs[1].key.extent(1) is 4, expected 2 (num_kv_heads)",
       [](C& c) { c.make_runs(), c.runs[1].key.extents[1] = 4; }},
      {"key_runs[0].key.extent(2) is -1, expected 0 (slots of key)",
       [](C& c) { c.make_runs(), c.runs[0].key.extents[2] = -1; }},
      {"key_runs[0].key.extent(3) is 5, expected 6 (head_dim)",
       [](C& c) { c.make_runs(), c.runs[0].key.extents[3] = 5; }},
      {"key_runs[1].value.extent(2) is 5, expected 3 (slots of key)",
       [](C& c) { c.make_runs(), c.runs[1].value.extents[2] = 5; }},
      {"key_runs[1].value.extent(3) is 6, expected 5 (value_dim)",
       [](C& c) { c.make_runs(), c.runs[1].value.extents[3] = 6; }},
      {"key_runs[0].key.data is null, expected a pointer to 120 elements",
       [](C& c) { c.make_runs(), c.runs[0].key.data = nullptr; }},
      {"key_runs[1].value.data is {address}, expected an address aligned to {size} bytes",
       [](C& c) { c.make_runs(), shift_by_bytes(c.runs[1].value.data, 1); }},
      {"key_runs[0].first_slot.size() is 1, expected 2 (batch)",
       [](C& c) { c.make_runs(), c.runs[0].first_slot = c.runs[0].first_slot.first(1); }},
      {"key_runs[1].first_position.size() is 0, expected 2 (batch)",
       [](C& c) { c.make_runs(), c.runs[1].first_position = {}; }},
      {"key_runs[1].length.data is null, expected a pointer to 2 elements",
       [](C& c) {
         c.make_runs(), c.runs[1].length = {static_cast<const std::int64_t*>(nullptr), 2};
       }},
      {"key_runs[0].first_slot[1] is -1, expected 0 to 5 (slots)",
       [](C& c) { c.make_runs(), c.run_values[0].first_slot[1] = -1; }},
      {"key_runs[1].first_slot[0] is 4, expected 0 to 3 (slots)",
       [](C& c) { c.make_runs(), c.run_values[1].first_slot[0] = 4; }},
      {"key_runs[0].length[1] is 5, expected 0 to 4 (slots from first_slot)",
       [](C& c) { c.make_runs(), c.run_values[0].length[1] = 5; }},
      {"key_runs[1].length[0] is -9223372036854775808, expected 0 to 3 (slots from first_slot)",
       [](C& c) { c.make_runs(), c.run_values[1].length[0] = kLowest; }},
      {"key_runs[0].first_position[0] is -1, expected at least 0",
       [](C& c) { c.make_runs(), c.run_values[0].first_position[0] = -1; }},
      {"key_runs[1].first_position[1] is 4, expected at least 5 (end of the run before)",
       [](C& c) { c.make_runs(), c.run_values[1].first_position[1] = 4; }},
      {"key_runs[1].first_position[0] is 6, expected at most 5 (shape.key_length - length)",
       [](C& c) { c.make_runs(), c.run_values[1].first_position[0] = 6; }},
      {"key_runs[0].first_position[1] is 9223372036854775807, expected at most 4 (shape.key_length - length)",
       [](C& c) { c.make_runs(), c.run_values[0].first_position[1] = kHighest; }},
      {"key_runs[1].length[1] is -1, expected 0 to 3 (slots from first_slot)",
       [](C& c) { c.make_runs(), c.run_values[1].length[1] = -1; }},
      {"weights.extent(3) is 7, expected 8 (key length)",
       [](C& c) { c.make_runs(), c.arguments.weights->extents[3] = 7; }},
      {"output.data is {address}, expected a view that shares no element with key_runs[1].key",
       [](C& c) { c.make_runs(), c.runs[1].key.data = c.arguments.output.data; }},
      {"weights.data is {address}, expected a view that shares no element with key_runs[0].value",
       [](C& c) { c.make_runs(), c.runs[0].value.data = c.arguments.weights->data; }},
      {"logsumexp.data is {address}, expected a view that shares no element with key_runs[0].length",
       [](C& c) {
         c.make_runs(), c.run_values[0].length.assign(24, 1), c.runs[0].length = {c.run_values[0].length.data(), 2};
         c.arguments.logsumexp->data = reinterpret_cast<T*>(c.run_values[0].length.data());
       }},
  };
}

TEST_CASE_TEMPLATE("every bad value of a sequence is refused with its exact text", T, float, double) {
  expect_refusals(batch_entry_cases<T>());
  expect_refusals(ragged_cases<T>());
  expect_refusals(run_cases<T>());
}

TEST_CASE_TEMPLATE("a call without a plan has the shape that its arguments say", T, float, double) {
  const auto expect_same_shape = [](void (*edit)(Call<T>&)) {
    Call<T> call;
    edit(call);
    const AttentionShape shape = detail::shape_of(call.arguments), &expected = call.shape;
    CHECK(shape.batch == expected.batch);
    CHECK(shape.num_heads == expected.num_heads);
    CHECK(shape.num_kv_heads == expected.num_kv_heads);
    CHECK(shape.query_length == expected.query_length);
    CHECK(shape.key_length == expected.key_length);
    CHECK(shape.head_dim == expected.head_dim);
    CHECK(shape.value_dim == expected.value_dim);
  };
  expect_same_shape([](Call<T>&) {});
  expect_same_shape([](Call<T>& c) { c.make_ragged(); });
  expect_same_shape([](Call<T>& c) { c.make_runs(); });

  // What is not there is not followed, what does not fit is refused.
  for (const auto& cases : {batch_entry_cases<T>(), ragged_cases<T>(), run_cases<T>()}) {
    for (const Case<T>& wrong : cases) {
      Call<T> call;
      wrong.edit(call);
      call.shape = detail::shape_of(call.arguments);
      CHECK(refusal([&call] { call.validate(); }) != "");
    }
  }
}

}  // namespace
}  // namespace headwise::test
