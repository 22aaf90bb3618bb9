// Scores go to the caller's rows, whatever their strides, and become final weights there; weights are added to rows.
#include <doctest/doctest.h>

#include <cfenv>

#include "kernels/kernel_test.hpp"
#include "support/environment.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

/// Rows of scores or weights with `key_stride` elements from key to key. Gaps stay poison, the last row ends at a guard
/// page.
template <class T>
struct Targets {
  Targets(int rows, int keys, std::int64_t key_stride)
      : row_stride((keys - 1) * std::abs(key_stride) + 4), memory(rows * row_stride - 3, Placement::before_guard) {
    for (int r = 0; r < rows; ++r) {
      first.push_back(memory.data() + r * row_stride + (key_stride < 0 ? (1 - keys) * key_stride : 0));
    }
  }
  std::int64_t row_stride;
  GuardedBuffer<T> memory;
  std::vector<T*> first;
};

/// A tile with scores where its spans are, references of every kind, and inverses; row 2 is dead.
template <class T>
void fill(Random& random, const Tile<T>& tile) {
  for (int r = 0; r < tile.row_stride; ++r) {
    tile.state.reference[r] = r == 2 ? -infinity<T> : static_cast<T>(50 * random.normal());
    tile.state.inverse[r] = r == 2 ? T(0) : static_cast<T>(1 / (1 + std::abs(random.normal())));
    for (int j = 0; j < tile.keys; ++j) {
      if (!tile.covers(j, r)) continue;
      const bool excluded = tile.excludes(j, r) || r == 2;
      const T score = tile.state.reference[r] + static_cast<T>(3 * random.normal() - 10);
      tile.score(j, r) = excluded ? -infinity<T> : score;
    }
  }
}

/// Stores the scores of a tile and turns them into weights, as a call with a weights output does.
template <class T>
void store_weights(const Tile<T>& tile, const Targets<T>& targets, std::int64_t key_stride) {
  kernels<T>().store_scores(tile.block(), tile.keys, tile.rows, targets.first.data(), key_stride);
  for (int r = 0; r < tile.rows; ++r) {
    kernels<T>().weigh_row(targets.first[static_cast<std::size_t>(r)], key_stride, tile.keys, tile.state.reference[r],
                           tile.state.inverse[r]);
  }
}

/// Stores the weights of a tile and compares each one; gaps must stay, no floating-point exception may occur.
template <class T>
void check_weights(const Tile<T>& tile, std::int64_t key_stride) {
  using Real = Wide<T>;
  const std::vector<T> scores = copied(tile.scores.data(), tile.scores.size());
  const Targets<T> targets(tile.rows, tile.keys, key_stride);
  std::feclearexcept(FE_ALL_EXCEPT);
  store_weights(tile, targets, key_stride);
  CHECK(std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW) == 0);
  ErrorShare error;
  bool zero = true;
  for (int r = 0; r < tile.rows; ++r) {
    for (int j = 0; j < tile.keys; ++j) {
      T& weight = targets.first[static_cast<std::size_t>(r)][j * key_stride];
      const T score = scores[static_cast<std::size_t>(j * tile.row_stride + r)];
      if (!tile.covers(j, r) || score == -infinity<T>) {
        zero = zero && std::bit_cast<BitsOf<T>>(weight) == 0;
      } else {
        const Real exponent = Real{score} - Real{tile.state.reference[r]};
        const Real exact = std::exp2(exponent) * Real{tile.state.inverse[r]};
        const Real allowed = static_cast<Real>(KernelErrorModel::exp_error) + 1 + std::abs(exponent);
        error.add<Real>(weight, exact, rounding_unit<T> * exact * allowed);
      }
      weight = std::bit_cast<T>(poison_bits<T>);
    }
  }
  CAPTURE(tile.rows);
  CAPTURE(tile.keys);
  CAPTURE(key_stride);
  CHECK(error.largest() <= 1);
  CHECK(zero);
  const std::vector<T> poison(static_cast<std::size_t>(targets.memory.size()), std::bit_cast<T>(poison_bits<T>));
  CHECK(same_bits(copied(targets.memory.data(), targets.memory.size()), poison));
}

TEST_CASE_TEMPLATE("weights: every number of rows, key counts around a vector, all strides", T, float, double) {
  Random random(31);
  for (int rows = 1; rows <= kernels<T>().tile_rows; rows += reduced_grid() ? 5 : 1) {
    for (const int keys : {1, 2, 3, 4, 5, 31, 96}) {
      for (const std::int64_t key_stride : {1, 3, -1}) {
        Tile<T> tile(rows, 1, keys);
        fill(random, tile);
        check_weights(tile, key_stride);
      }
    }
  }
}

TEST_CASE_TEMPLATE("weights: 0 outside the spans", T, float, double) {
  Random random(32);
  for (const std::int64_t key_stride : {1, 2}) {
    Tile<T> tile(kernels<T>().tile_rows - 1, 1, 70);
    std::vector<detail::KeyRange> range;
    for (int r = 0; r < tile.rows; ++r) range.push_back({0, r * 70 / tile.rows});
    tile.attend(range);
    fill(random, tile);
    check_weights(tile, key_stride);
  }
}

TEST_CASE_TEMPLATE("weights: NaN rows are NaN but for excluded keys", T, float, double) {
  const Tile<T> tile(kernels<T>().lanes, 1, 2);
  for (int r = 0; r < tile.rows; ++r) {
    tile.state.reference[r] = T(1);
    tile.state.inverse[r] = r == 1 ? quiet_nan<T> : T(1);
    tile.score(0, r) = T(1);
    tile.score(1, r) = -infinity<T>;
  }
  const Targets<T> targets(tile.rows, 2, 1);
  store_weights(tile, targets, 1);
  for (int r = 0; r < tile.rows; ++r) {
    const T* weights = targets.first[static_cast<std::size_t>(r)];
    CHECK(std::isnan(weights[0]) == (r == 1));
    CHECK(weights[1] == T(0));
  }
}

TEST_CASE_TEMPLATE("add_weights: the weights themselves are added, rows of one target in order", T, float, double) {
  Random random(33);
  for (const int rows : {1, 5, kernels<T>().lanes, kernels<T>().tile_rows}) {
    for (const int keys : {3, 33, 96}) {
      for (const std::int64_t key_stride : {1, 3, -1}) {
        for (const int group : {1, 2, 5}) {
          Tile<T> tile(rows, 1, keys);
          fill(random, tile);
          const Targets<T> weights(rows, keys, key_stride), sums(rows, keys, key_stride);
          std::fill_n(sums.memory.data(), sums.memory.size(), T(1));
          std::vector<T*> targets;
          for (int r = 0; r < rows; ++r) targets.push_back(sums.first[static_cast<std::size_t>(r / group)]);
          std::vector<T> expected = copied(sums.memory.data(), sums.memory.size());
          kernels<T>().add_weights(tile.block(), keys, rows, targets.data(), key_stride);
          store_weights(tile, weights, key_stride);
          for (int r = 0; r < rows; ++r) {
            const std::int64_t first = targets[static_cast<std::size_t>(r)] - sums.memory.data();
            for (int j = 0; j < keys; ++j) {
              expected[static_cast<std::size_t>(first + j * key_stride)] +=
                  weights.first[static_cast<std::size_t>(r)][j * key_stride];
            }
          }
          CHECK(same_bits(copied(sums.memory.data(), sums.memory.size()), expected));
        }
      }
    }
  }
}

}  // namespace
}  // namespace headwise::test
