#include "support/cases.hpp"

#include <cstdint>

namespace headwise::bench {
namespace {

// A sequence of n tokens with 8 heads attending to itself.
AttentionShape self(std::int64_t n, std::int64_t dim, std::int64_t heads = 8) {
  return {.batch = 1,
          .num_heads = heads,
          .num_kv_heads = heads,
          .query_length = n,
          .key_length = n,
          .head_dim = dim,
          .value_dim = dim};
}

std::string size_suffix(std::int64_t n, std::int64_t dim) {
  return "-d" + std::to_string(dim) + "-n" + std::to_string(n);
}

}  // namespace

std::vector<Case> prefill_cases() {
  std::vector<Case> cases;
  for (const std::int64_t dim : {32, 64, 128}) {
    for (const std::int64_t n : {16, 32, 64, 128, 256, 512, 1024, 2048, 4096}) {
      cases.push_back({.name = "prefill-f32" + size_suffix(n, dim), .shape = self(n, dim)});
    }
  }
  for (const std::int64_t dim : {64, 128}) {
    for (const std::int64_t n : {128, 1024, 4096}) {
      cases.push_back({.name = "prefill-f64" + size_suffix(n, dim), .shape = self(n, dim), .is_double = true});
    }
  }
  return cases;
}

std::vector<Case> causal_cases() {
  std::vector<Case> cases;
  for (const std::int64_t dim : {32, 64, 128}) {
    for (const std::int64_t n : {128, 512, 1024, 4096}) {
      cases.push_back({.name = "causal-f32" + size_suffix(n, dim), .shape = self(n, dim), .causal = true});
    }
  }
  for (const std::int64_t dim : {64, 128}) {
    cases.push_back(
        {.name = "causal-f64" + size_suffix(1024, dim), .shape = self(1024, dim), .causal = true, .is_double = true});
  }
  return cases;
}

std::vector<Case> head_size_cases() {
  std::vector<Case> cases;
  for (const std::int64_t dim : {80, 96, 256}) {
    cases.push_back({.name = "prefill-f32" + size_suffix(1024, dim), .shape = self(1024, dim)});
  }
  return cases;
}

std::vector<Case> shape_cases() {
  std::vector<Case> cases;
  AttentionShape cross = self(77, 64);
  cross.key_length = 1500;
  cases.push_back({.name = "cross-f32-d64-q77-k1500", .shape = cross});

  AttentionShape grouped = self(1024, 128, 32);
  grouped.num_kv_heads = 8;
  cases.push_back({.name = "gqa-f32-d128-h32-8-n1024-causal", .shape = grouped, .causal = true});

  AttentionShape many = self(50, 64, 12);
  many.batch = 256;
  cases.push_back({.name = "many-f32-b256-h12-n50-d64", .shape = many});
  many = self(128, 64);
  many.batch = 32;
  cases.push_back({.name = "many-f32-b32-h8-n128-d64", .shape = many});
  return cases;
}

std::vector<Case> layout_cases() {
  std::vector<Case> cases;
  struct Size {
    std::int64_t heads, dim;
  };
  for (const auto& [heads, dim] : {Size{8, 64}, {12, 64}, {16, 64}, {32, 64}, {32, 128}}) {
    const std::string suffix = "-f32-h" + std::to_string(heads) + size_suffix(1024, dim);
    const AttentionShape shape = self(1024, dim, heads);
    cases.push_back({.name = "apart" + suffix, .shape = shape});
    cases.push_back({.name = "bshd" + suffix, .shape = shape, .layout = Layout::positions_first});
    cases.push_back({.name = "packed" + suffix, .shape = shape, .layout = Layout::packed_qkv});
  }
  return cases;
}

std::vector<Case> decode_cases() {
  std::vector<Case> cases;
  struct Size {
    std::int64_t heads, kv_heads, dim, keys, queries;
    Limit limit;
  };
  for (const Size& size : {Size{32, 32, 128, 4096, 1, Limit::memory},
                           {32, 32, 128, 32768, 1, Limit::memory},
                           {32, 8, 128, 4096, 1, Limit::memory},
                           {32, 8, 128, 32768, 1, Limit::memory},
                           {32, 32, 128, 512, 1, Limit::cache},
                           {32, 8, 128, 512, 1, Limit::cache},
                           {32, 8, 128, 4096, 1, Limit::cache},
                           {32, 8, 128, 4096, 4, Limit::memory},
                           {1, 1, 64, 65536, 1, Limit::memory},
                           {2, 2, 64, 65536, 1, Limit::memory}}) {
    AttentionShape shape = self(size.keys, size.dim, size.heads);
    shape.num_kv_heads = size.kv_heads;
    shape.query_length = size.queries;
    cases.push_back({.name = "decode-f32-h" + std::to_string(size.heads) + "-" + std::to_string(size.kv_heads) +
                             size_suffix(size.keys, size.dim) +
                             (size.queries > 1 ? "-q" + std::to_string(size.queries) : "") +
                             (size.limit == Limit::cache ? "-cached" : ""),
                     .shape = shape,
                     .limit = size.limit});
  }
  return cases;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto& group :
       {prefill_cases(), head_size_cases(), causal_cases(), shape_cases(), layout_cases(), decode_cases()}) {
    cases.insert(cases.end(), group.begin(), group.end());
  }
  return cases;
}

}  // namespace headwise::bench
