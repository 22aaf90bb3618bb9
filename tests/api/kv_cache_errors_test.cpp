// The specification of bad input to the cache: the exact text of every refusal, the cache as it was.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "headwise/kv_cache.hpp"
#include "support/random.hpp"
#include "support/refusal.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

using Counts = std::vector<std::int64_t>;

constexpr KvCacheShape small_shape{.batch = 2, .num_kv_heads = 2, .capacity = 6, .head_dim = 4, .value_dim = 3};

TEST_CASE_TEMPLATE("cache: bad shapes", T, float, double) {
  struct Refusal {
    std::string expected;
    void (*edit)(KvCacheShape&);
  };
  const std::vector<Refusal> refusals{
      {"shape.batch is -1, expected at least 0", [](KvCacheShape& s) { s.batch = -1; }},
      {"shape.num_kv_heads is -2, expected at least 0", [](KvCacheShape& s) { s.num_kv_heads = -2; }},
      {"shape.capacity is -6, expected at least 0", [](KvCacheShape& s) { s.capacity = -6; }},
      {"shape.head_dim is 0, expected at least 1", [](KvCacheShape& s) { s.head_dim = 0; }},
      {"shape.value_dim is -3, expected at least 0", [](KvCacheShape& s) { s.value_dim = -3; }},
      {"shape.capacity is 0, expected at least 1 for a ring",
       [](KvCacheShape& s) {
         s.ring = true;
         s.capacity = 0;
       }},
      {"shape of keys is [2, 2, 9223372036854775807, 4], expected at most 2^60 elements",
       [](KvCacheShape& s) { s.capacity = std::numeric_limits<std::int64_t>::max(); }},
      {"shape of values is [2, 2, 6, 1152921504606846976], expected at most 2^60 elements",
       [](KvCacheShape& s) { s.value_dim = std::int64_t{1} << 60; }},
  };
  for (const Refusal& wrong : refusals) {
    KvCacheShape shape = small_shape;
    wrong.edit(shape);
    CHECK(refusal([&] { KvCache<T>{shape}; }) == "headwise: " + wrong.expected);
  }
}

/// A cache with lengths 4 and 2, as a ring 8 and 2, and arguments that are fine; every case edits one thing.
template <class T>
struct Call {
  explicit Call(bool ring)
      : cache([ring] {
          KvCacheShape shape = small_shape;
          shape.ring = ring;
          return shape;
        }()) {
    Random random(1);
    fill_normal(random, key_tensor.view);
    fill_normal(random, value_tensor.view);
    cache.append(all_keys(), all_values(), Counts{4, 2});  // of sequence 1 and, in a ring, of 0
    if (ring) cache.append(all_keys(), all_values(), Counts{4, 0});
  }

  TensorView<const T, 4> all_keys() const { return key_tensor.view; }
  TensorView<const T, 4> all_values() const { return value_tensor.view; }

  Tensor<T, 4> key_tensor = make_tensor<T, 4>({2, 2, 5, 4}, Layout::bhsd, Placement::before_guard);
  Tensor<T, 4> value_tensor = make_tensor<T, 4>({2, 2, 5, 3}, Layout::bhsd, Placement::before_guard);
  KvCache<T> cache;
  TensorView<const T, 4> key = all_keys().slice(2, 0, 2), value = all_values().slice(2, 0, 2);
  Counts counts{2, 1};
  std::optional<RotaryOptions> rotary = RotaryOptions{};
  std::vector<T> table_memory = std::vector<T>(40, T(0.5));
  std::optional<RotaryTable<T>> table = RotaryTable<T>{TensorView<T, 2>::contiguous(table_memory.data(), {10, 2}),
                                                       TensorView<T, 2>::contiguous(table_memory.data() + 20, {10, 2})};
};

/// The tokens that a cache holds and where.
template <class T>
struct Snapshot {
  explicit Snapshot(const KvCache<T>& cache) : lengths(cache.lengths().begin(), cache.lengths().end()) {
    for (const KeyRun<T>& run : cache.runs()) {
      for (std::int64_t b = 0; b < cache.shape().batch; ++b) {
        const auto at = static_cast<std::size_t>(b);
        const auto held = [&](const TensorView<const T, 4>& view) {
          return view.slice(0, b, b + 1).slice(2, run.first_slot[at], run.first_slot[at] + run.length[at]);
        };
        extents.insert(extents.end(), {run.first_slot[at], run.first_position[at], run.length[at]});
        for (const T element : dense(held(run.key))) elements.push_back(element);
        for (const T element : dense(held(run.value))) elements.push_back(element);
      }
    }
  }
  bool operator==(const Snapshot& other) const {
    return lengths == other.lengths && extents == other.extents && same_bits(elements, other.elements);
  }

  Counts lengths, extents;
  std::vector<T> elements;
};

template <class T>
struct Refusal {
  std::string expected;  ///< {key} stands for the address of key
  void (*edit)(Call<T>&);
  bool ring = false;
};

template <class T>
std::vector<Refusal<T>> append_refusals() {
  using C = Call<T>;
  return {
      {"key.extent(0) is 1, expected 2 (batch)", [](C& c) { c.key.extents[0] = 1; }},
      {"key.extent(1) is 3, expected 2 (num_kv_heads)", [](C& c) { c.key.extents[1] = 3; }},
      {"key.extent(2) is -1, expected 0 (tokens of key)", [](C& c) { c.key.extents[2] = -1; }},
      {"key.extent(3) is 3, expected 4 (head_dim)", [](C& c) { c.key.extents[3] = 3; }},
      {"value.extent(2) is 1, expected 2 (tokens of key)", [](C& c) { c.value.extents[2] = 1; }},
      {"value.extent(3) is 4, expected 3 (value_dim)", [](C& c) { c.value.extents[3] = 4; }},
      {"counts.size() is 1, expected 2 (batch) or none", [](C& c) { c.counts = {1}; }},
      {"counts[1] is 3, expected 0 to 2 (tokens of key)",
       [](C& c) {
         c.counts = {2, 3};
       }},
      {"counts[0] is -1, expected 0 to 2 (tokens of key)",
       [](C& c) {
         c.counts = {-1, 1};
       }},
      {"counts[0] is 3, expected at most 2 (room in sequence 0)",
       [](C& c) {
         c.counts = {3, 1};
         c.key = c.all_keys().slice(2, 0, 3);
         c.value = c.all_values().slice(2, 0, 3);
       }},
      {"key.extent(2) is 5, expected at most 2 (room in sequence 0)",
       [](C& c) {
         c.counts.clear();
         c.key = c.all_keys();
         c.value = c.all_values();
       }},
      {"counts[0] is 1152921504606846969, expected at most 1152921504606846968 (room in sequence 0)",
       [](C& c) {
         c.counts = {(std::int64_t{1} << 60) - 7, 1};
         for (auto* view : {&c.key, &c.value}) {
           view->extents[2] = std::int64_t{1} << 60;
           view->strides[2] = 0;
         }
       },
       true},
      {"table is given, expected none without rotary", [](C& c) { c.rotary.reset(); }},
      {"rotary.rotary_dim is 5, expected an even number from 0 to 4 (shape.head_dim)",
       [](C& c) { c.rotary->rotary_dim = 5; }},
      {"rotary.num_threads is -1, expected at least 0", [](C& c) { c.rotary->num_threads = -1; }},
      {"table.sine.extent(1) is 1, expected 2 (pairs of features)", [](C& c) { c.table->sine.extents[1] = 1; }},
      {"table.cosine.extent(0) is 5, expected at least 6 (positions in sequence 0)",
       [](C& c) { c.table->cosine.extents[0] = c.table->sine.extents[0] = 5; }},
      {"table.cosine.extent(0) is 9, expected at least 10 (positions in sequence 0)",
       [](C& c) { c.table->cosine.extents[0] = c.table->sine.extents[0] = 9; }, true},
      {"key.data is null, expected a pointer to 32 elements", [](C& c) { c.key.data = nullptr; }},
      {"table.cosine.data is null, expected a pointer to 20 elements", [](C& c) { c.table->cosine.data = nullptr; }},
      {"key.data is {key}, expected a view that shares no element with the cache",
       [](C& c) { c.key = c.cache.keys().slice(2, 0, 2); }},
      {"key.data is {key}, expected a view that shares no element with the cache",
       [](C& c) {
         c.key = TensorView<const T, 4>{c.cache.values().data, {2, 2, 2, 4}, {0, 0, 0, 0}};
       }},
  };
}

TEST_CASE_TEMPLATE("cache: bad input to append", T, float, double) {
  for (const Refusal<T>& wrong : append_refusals<T>()) {
    Call<T> call(wrong.ring);
    const Snapshot<T> before(call.cache);
    wrong.edit(call);
    std::string expected = "headwise: " + wrong.expected;
    if (const auto at = expected.find("{key}"); at != std::string::npos) {
      expected.replace(at, 5, hexadecimal(call.key.data));
    }
    CHECK(refusal([&] { call.cache.append(call.key, call.value, call.counts, call.rotary, call.table); }) == expected);
    CHECK(Snapshot<T>(call.cache) == before);
  }
  for (const bool ring : {false, true}) {
    Call<T> call(ring);
    CHECK(refusal([&] { call.cache.append(call.key, call.value, call.counts, call.rotary, call.table); }) == "");
  }
}

TEST_CASE_TEMPLATE("cache: bad input to truncate and reorder", T, float, double) {
  for (const bool ring : {false, true}) {
    Call<T> call(ring);
    const Snapshot<T> before(call.cache);
    const auto truncate = [&](const Counts& lengths) { return refusal([&] { call.cache.truncate(lengths); }); };
    const auto reorder = [&](const Counts& source) { return refusal([&] { call.cache.reorder(source); }); };
    CHECK(truncate({1}) == "headwise: lengths.size() is 1, expected 2 (batch)");
    CHECK(truncate({4, 3}) == "headwise: lengths[1] is 3, expected 0 to 2 (length)");
    CHECK(truncate({4, -1}) == "headwise: lengths[1] is -1, expected 0 to 2 (length)");
    if (ring) {
      CHECK(truncate({1, 1}) == "headwise: lengths[0] is 1, expected 0 or 2 to 8 (tokens that the ring holds)");
      CHECK(truncate({9, 1}) == "headwise: lengths[0] is 9, expected 0 or 2 to 8 (tokens that the ring holds)");
    } else {
      CHECK(truncate({5, 1}) == "headwise: lengths[0] is 5, expected 0 to 4 (length)");
    }
    CHECK(reorder({}) == "headwise: source.size() is 0, expected 2 (batch)");
    CHECK(reorder({0, 2}) == "headwise: source[1] is 2, expected at least 0 and below 2 (batch)");
    CHECK(reorder({-1, 1}) == "headwise: source[0] is -1, expected at least 0 and below 2 (batch)");
    CHECK(refusal([&] {
            call.cache.reorder({static_cast<const std::int64_t*>(nullptr), 2});
          }) == "headwise: source.data is null, expected a pointer to 2 elements");
    CHECK(Snapshot<T>(call.cache) == before);
    CHECK(truncate({2, 1}) == "");
    CHECK(truncate({0, 0}) == "");
  }
}

}  // namespace
}  // namespace headwise::test
