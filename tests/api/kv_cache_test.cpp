// The cache against a plain model of it: every sequence a list of tokens.
#include "headwise/kv_cache.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "support/cache_model.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

/// Random operations on a cache and its model.
template <class T>
class Game {
 public:
  Game(const KvCacheShape& shape, std::uint64_t seed) : shape_(shape), random_(seed), cache_(shape), model_(shape) {}

  void play(int steps) {
    for (int step = 0; step < steps; ++step) {
      switch (random_.below(6)) {
        case 0: truncate(); break;
        case 1: reorder(); break;
        case 2: copy_and_move(); break;
        default: append(); break;
      }
      REQUIRE(model_.difference(cache_) == "");
    }
  }

 private:
  std::int64_t room(std::size_t b) const {
    return shape_.ring ? 2 * shape_.capacity : shape_.capacity - cache_.lengths()[b];
  }

  void append() {
    const Layout layout = random_.among(
        std::array{Layout::bhsd, Layout::bshd, Layout::row_gaps, Layout::feature_stride_2, Layout::negative_strides});
    Counts counts(static_cast<std::size_t>(shape_.batch));
    for (std::size_t b = 0; b < counts.size(); ++b) counts[b] = random_.below(room(b) + 1);
    const std::int64_t tokens = *std::max_element(counts.begin(), counts.end());
    const auto tensor = [&](std::int64_t dim) {
      return make_tensor<T, 4>({shape_.batch, shape_.num_kv_heads, tokens, dim}, layout, Placement::before_guard);
    };
    auto key = tensor(shape_.head_dim), value = tensor(shape_.value_dim);
    fill_normal(random_, key.view);
    fill_normal(random_, value.view);
    key.buffer->make_read_only();
    value.buffer->make_read_only();
    const bool all_alike =
        std::all_of(counts.begin(), counts.end(), [&](std::int64_t count) { return count == tokens; });
    if (all_alike) counts.clear();
    cache_.append(key.view, value.view, counts);
    model_.append(key.view, value.view, counts);
  }

  void truncate() {
    Counts lengths;
    for (const CachedSequence<T>& sequence : model_.sequences()) {
      const std::int64_t held = sequence.length() - sequence.first;
      lengths.push_back(random_.below(5) == 0 ? 0 : sequence.length() - random_.below(held / 2 + 1));
    }
    cache_.truncate(lengths);
    model_.truncate(lengths);
  }

  void reorder() {
    Counts source(static_cast<std::size_t>(shape_.batch));
    std::iota(source.begin(), source.end(), 0);
    for (std::size_t b = 0; b < source.size(); ++b) {
      const auto other = static_cast<std::size_t>(random_.below(shape_.batch));
      if (random_.below(2) == 0) {
        std::swap(source[b], source[other]);
      } else {
        source[b] = source[other];
      }
    }
    cache_.reorder(source);
    model_.reorder(source);
  }

  void copy_and_move() {
    KvCache<T> copy(cache_);
    cache_.truncate(Counts(static_cast<std::size_t>(shape_.batch)));
    REQUIRE(model_.difference(copy) == "");
    KvCache<T> moved(std::move(copy));
    REQUIRE(model_.difference(moved) == "");
    if (random_.below(2) == 0) {
      cache_ = moved;
      REQUIRE(model_.difference(moved) == "");
    } else {
      cache_ = std::move(moved);
    }
  }

  KvCacheShape shape_;
  Random random_;
  KvCache<T> cache_;
  CacheModel<T> model_;
};

TEST_CASE_TEMPLATE("cache: random operations agree with lists of tokens", T, float, double) {
  for (const bool ring : {false, true}) {
    for (const std::int64_t capacity : {1, 7, 24}) {
      const KvCacheShape shape{
          .batch = 5, .num_kv_heads = 2, .capacity = capacity, .head_dim = 6, .value_dim = 3, .ring = ring};
      for (std::uint64_t seed = 0; seed < 8; ++seed) {
        CAPTURE(seed);
        Game<T>(shape, seed).play(60);
      }
    }
  }
}

/// [batch 1, heads 2, tokens, dim] whose numbers count up.
template <class T>
Tensor<T, 4> counting(std::int64_t tokens, std::int64_t dim) {
  auto tensor = make_tensor<T, 4>({1, 2, tokens, dim}, Layout::bshd, Placement::before_guard);
  T next = 1;
  visit_elements(tensor.view, [&next](T& element) { element = next++; });
  return tensor;
}

TEST_CASE_TEMPLATE("cache: keys are rotated by their positions, the caller's stay", T, float, double) {
  for (const bool ring : {false, true}) {
    for (const bool tabulated : {false, true}) {
      const RotaryOptions rotary{.layout = RotaryLayout::interleaved, .rotary_dim = 6, .num_threads = 2};
      KvCache<T> cache({.batch = 1, .num_kv_heads = 2, .capacity = 12, .head_dim = 8, .value_dim = 4, .ring = ring});
      std::vector<T> memory(40 * 3);
      for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<T>(i % 7);
      const auto rows = TensorView<const T, 2>::contiguous(memory.data(), {40, 3});
      std::optional<RotaryTable<T>> table;
      if (tabulated) table = RotaryTable<T>{rows, rows};
      std::vector<T> expected;
      for (const std::int64_t tokens : {5, 1, 3}) {
        auto key = counting<T>(tokens, 8), value = counting<T>(tokens, 4), rotated = counting<T>(tokens, 8);
        key.buffer->make_read_only();
        Counts positions(static_cast<std::size_t>(tokens));
        std::iota(positions.begin(), positions.end(), cache.lengths()[0]);
        rotary_embedding(rotated.view, TensorView<const std::int64_t, 2>::contiguous(positions.data(), {1, tokens}),
                         rotary, table);
        cache.append(key.view, value.view, {}, rotary, table);
        const std::int64_t end = cache.lengths()[0];
        CHECK(same_bits(dense(cache.keys().slice(2, end - tokens, end)), dense(rotated.view)));
        CHECK(same_bits(dense(cache.values().slice(2, end - tokens, end)), dense(value.view)));
      }
    }
  }
}

TEST_CASE_TEMPLATE("cache: a long prompt is rotated by several threads to the same bits", T, float, double) {
  const std::int64_t tokens = 700;
  const auto key = counting<T>(tokens, 64), value = counting<T>(tokens, 64), rotated = counting<T>(tokens, 64);
  Counts positions(static_cast<std::size_t>(tokens));
  std::iota(positions.begin(), positions.end(), 0);
  rotary_embedding(rotated.view, TensorView<const std::int64_t, 2>::contiguous(positions.data(), {1, tokens}));
  for (const int num_threads : {0, 1, 2, 3}) {
    KvCache<T> cache({.batch = 1, .num_kv_heads = 2, .capacity = tokens, .head_dim = 64, .value_dim = 64});
    cache.append(key.view, value.view, {}, RotaryOptions{.num_threads = num_threads});
    CHECK(same_bits(dense(cache.keys()), dense(rotated.view)));
    CHECK(same_bits(dense(cache.values()), dense(value.view)));
  }
}

TEST_CASE_TEMPLATE("cache: a ring keeps the last of more tokens than it has room for", T, float, double) {
  KvCache<T> cache({.batch = 1, .num_kv_heads = 2, .capacity = 4, .head_dim = 2, .value_dim = 1, .ring = true});
  const auto key = counting<T>(11, 2), value = counting<T>(11, 1);
  cache.append(key.view, value.view);
  REQUIRE(cache.runs().size() == 2);
  CHECK(cache.first_positions()[0] == 7);
  CHECK(cache.runs()[0].first_slot[0] == 3);
  CHECK(cache.runs()[0].length[0] == 1);
  CHECK(cache.runs()[1].first_slot[0] == 0);
  CHECK(cache.runs()[1].first_position[0] == 8);
  CHECK(cache.runs()[1].length[0] == 3);
  CHECK(same_bits(dense(cache.keys().slice(2, 3, 4)), dense(key.view.slice(2, 7, 8))));
  CHECK(same_bits(dense(cache.keys().slice(2, 0, 3)), dense(key.view.slice(2, 8, 11))));
  cache.append(key.view.slice(2, 0, 1), value.view.slice(2, 0, 1));  // the ring now begins at slot 0
  CHECK(cache.runs().size() == 1);
}

TEST_CASE_TEMPLATE("cache: without sequences, heads, capacity or value features", T, float, double) {
  using View = TensorView<T, 4>;
  KvCache<T> no_sequences({.num_kv_heads = 2, .capacity = 3, .head_dim = 4, .value_dim = 4});
  no_sequences.append(View::contiguous(nullptr, {0, 2, 3, 4}), View::contiguous(nullptr, {0, 2, 3, 4}));
  no_sequences.truncate({});
  no_sequences.reorder({});
  CHECK(no_sequences.runs().size() == 1);

  KvCache<T> no_capacity({.batch = 1, .num_kv_heads = 2, .head_dim = 4, .value_dim = 4});
  no_capacity.append(View::contiguous(nullptr, {1, 2, 0, 4}), View::contiguous(nullptr, {1, 2, 0, 4}));
  no_capacity.append(View::contiguous(nullptr, {1, 2, 5, 4}), View::contiguous(nullptr, {1, 2, 5, 4}), Counts{0});
  CHECK(no_capacity.lengths()[0] == 0);

  KvCache<T> no_heads({.batch = 1, .capacity = 3, .head_dim = 4, .value_dim = 4});
  no_heads.append(View::contiguous(nullptr, {1, 0, 2, 4}), View::contiguous(nullptr, {1, 0, 2, 4}));
  CHECK(no_heads.lengths()[0] == 2);

  KvCache<T> no_values({.batch = 1, .num_kv_heads = 2, .capacity = 3, .head_dim = 4});
  no_values.append(counting<T>(2, 4).view, View{nullptr, {1, 2, 2, 0}, {5, 3, 1, 1}});
  CHECK(no_values.lengths()[0] == 2);
}

}  // namespace
}  // namespace headwise::test
