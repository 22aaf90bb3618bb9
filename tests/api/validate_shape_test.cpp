// The specification of bad shapes, options and workspaces: the exact text of every refusal.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "api/validate_call.hpp"

namespace headwise::test {
namespace {

template <class T>
std::vector<Case<T>> shape_cases() {
  using C = Call<T>;
  return {
      {"shape.batch is -1, expected at least 0", [](C& c) { c.shape.batch = -1; }},
      {"shape.num_heads is -4, expected at least 0", [](C& c) { c.shape.num_heads = -4; }},
      {"shape.num_kv_heads is -2, expected at least 0", [](C& c) { c.shape.num_kv_heads = -2; }},
      {"shape.query_length is -9223372036854775808, expected at least 0", [](C& c) { c.shape.query_length = kLowest; }},
      {"shape.key_length is -8, expected at least 0", [](C& c) { c.shape.key_length = -8; }},
      {"shape.head_dim is -6, expected at least 1", [](C& c) { c.shape.head_dim = -6; }},
      {"shape.head_dim is 0, expected at least 1", [](C& c) { c.shape.head_dim = 0; }},
      {"shape.value_dim is -5, expected at least 0", [](C& c) { c.shape.value_dim = -5; }},
      {"shape.num_kv_heads is 0, expected at least 1", [](C& c) { c.shape.num_kv_heads = 0; }},
      {"shape.num_kv_heads is 5, expected at most shape.num_heads (4)", [](C& c) { c.shape.num_kv_heads = 5; }},
      {"shape.num_kv_heads is 2, expected at most shape.num_heads (0)", [](C& c) { c.shape.num_heads = 0; }},
      {"shape.num_heads is 5, expected a multiple of shape.num_kv_heads (2)", [](C& c) { c.shape.num_heads = 5; }},
      {"shape of query is [2, 4, 9223372036854775807, 6], expected at most 2^60 elements",
       [](C& c) { c.shape.query_length = kHighest; }},
      // no element at all, but every partial product must fit too
      {"shape of query is [0, 4, 9223372036854775807, 6], expected at most 2^60 elements",
       [](C& c) { c.shape.batch = 0, c.shape.query_length = kHighest; }},
      {"shape of key is [2, 2, 288230376151711744, 6], expected at most 2^60 elements",
       [](C& c) { c.shape.key_length = std::int64_t{1} << 58; }},
      {"shape of value is [2, 2, 34359738368, 16777216], expected at most 2^60 elements",
       [](C& c) { c.shape.key_length = std::int64_t{1} << 35, c.shape.value_dim = 1 << 24; }},
      {"shape of output is [2, 4, 34359738368, 16777216], expected at most 2^60 elements",
       [](C& c) { c.shape.query_length = std::int64_t{1} << 35, c.shape.value_dim = 1 << 24; }},
      // kernels count the elements of several rows by int
      {"shape.head_dim is 16777217, expected at most 16777216", [](C& c) { c.shape.head_dim = (1 << 24) + 1; }},
      {"shape.head_dim is 4294967300, expected at most 16777216",
       [](C& c) { c.shape.head_dim = (std::int64_t{1} << 32) + 4; }},
      {"shape.value_dim is 16777217, expected at most 16777216", [](C& c) { c.shape.value_dim = (1 << 24) + 1; }},
  };
}

template <class T>
std::vector<Case<T>> option_cases() {
  using C = Call<T>;
  return {
      {"options.scale is nan, expected a finite number", [](C& c) { c.options.scale = std::nan(""); }},
      {"options.scale is inf, expected a finite number", [](C& c) { c.options.scale = kInfinity; }},
      {"options.scale is -inf, expected a finite number", [](C& c) { c.options.scale = -kInfinity; }},
      // finite, but not in base 2
      {sizeof(T) == 4 ? "options.scale is 2.36e+38, expected a magnitude of at most 2.358657491668182e+38"
                      : "options.scale is 1.2461e+308, expected a magnitude of at most 1.2460659279417836e+308",
       [](C& c) { c.options.scale = sizeof(T) == 4 ? 2.36e+38 : 1.2461e+308; }},
      {sizeof(T) == 4 ? "options.scale is -1e+300, expected a magnitude of at most 2.358657491668182e+38"
                      : "options.scale is -1.5e+308, expected a magnitude of at most 1.2460659279417836e+308",
       [](C& c) { c.options.scale = sizeof(T) == 4 ? -1e+300 : -1.5e+308; }},
      {"options.softcap is nan, expected a finite number of at least 0",
       [](C& c) { c.options.softcap = std::copysign(std::nan(""), -1); }},
      {"options.softcap is inf, expected a finite number of at least 0", [](C& c) { c.options.softcap = kInfinity; }},
      {"options.softcap is -0.25, expected a finite number of at least 0", [](C& c) { c.options.softcap = -0.25; }},
      {"options.softcap is -5e-324, expected a finite number of at least 0",
       [](C& c) { c.options.softcap = -5e-324; }},
      {"options.window.left is -2, expected at least -1", [](C& c) { c.options.window.left = -2; }},
      {"options.window.right is -9223372036854775808, expected at least -1",
       [](C& c) { c.options.window.right = kLowest; }},
      {"options.score_stage is 3, expected scaled (0), softcapped (1) or biased (2)",
       [](C& c) { c.options.score_stage = static_cast<ScoreStage>(3); }},
      {"options.score_stage is -1, expected scaled (0), softcapped (1) or biased (2)",
       [](C& c) { c.options.score_stage = static_cast<ScoreStage>(-1); }},
      {"options.query_position is 3, expected top_left (0), bottom_right (1) or given (2)",
       [](C& c) { c.options.query_position = static_cast<QueryPosition>(3); }},
      {"options.query_position is -1, expected top_left (0), bottom_right (1) or given (2)",
       [](C& c) { c.options.query_position = static_cast<QueryPosition>(-1); }},
      {"options.num_threads is -1, expected at least 0", [](C& c) { c.options.num_threads = -1; }},
  };
}

TEST_CASE_TEMPLATE("every bad shape and option is refused with its exact text", T, float, double) {
  CHECK(refusal([] { Call<T>().validate(); }) == "");
  expect_refusals(shape_cases<T>());
  expect_refusals(option_cases<T>());
}

TEST_CASE_TEMPLATE("a workspace is checked against the need", T, float, double) {
  alignas(64) std::byte memory[512];
  const auto check = [](std::byte* data, std::size_t size, std::size_t needed) {
    return refusal([&] { detail::validate_workspace({data, size}, needed); });
  };
  CHECK(check(nullptr, 0, 256) == "");
  CHECK(check(memory, 256, 256) == "");
  CHECK(check(memory + 64, 448, 256) == "");
  CHECK(check(memory, 0, 0) == "");
  CHECK(check(nullptr, 256, 256) == "headwise: workspace.data() is null, expected at least 256 bytes aligned to 64");
  CHECK(check(memory, 255, 256) == "headwise: workspace.size() is 255, expected at least 256 bytes aligned to 64");
  CHECK(check(memory, 0, 256) == "headwise: workspace.size() is 0, expected at least 256 bytes aligned to 64");
  CHECK(check(memory + 32, 256, 256) ==
        "headwise: workspace.data() is " + hexadecimal(memory + 32) + ", expected at least 256 bytes aligned to 64");

  Call<T> call;
  const AttentionPlan<T> plan(call.shape, call.options);
  const std::vector<T> before = call.memory;
  CHECK(refusal([&] {
          plan.run(call.arguments, {static_cast<std::byte*>(nullptr), 1});
        }) == "headwise: workspace.data() is null, expected at least " + std::to_string(plan.workspace_bytes()) +
                  " bytes aligned to 64");
  CHECK(std::memcmp(before.data(), call.memory.data(), before.size() * sizeof(T)) == 0);
}

}  // namespace
}  // namespace headwise::test
