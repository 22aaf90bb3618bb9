// Scores of a tile, against products in a wider type: every shape of tile, rest and span, every kind of stride.
#include <doctest/doctest.h>

#include <random>

#include "kernels/kernel_test.hpp"
#include "support/environment.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

/// Fills the query rows.
template <class T>
void fill_rows(Random& random, const Tile<T>& tile) {
  for (int d = 0; d < tile.head_dim; ++d) {
    for (int r = 0; r < tile.row_stride; ++r) {
      tile.query.data()[d * tile.row_stride + r] = r < tile.rows ? static_cast<T>(random.normal()) : T(0);
    }
  }
}

/// Computes the scores and checks every one of them, and the maxima.
template <class T>
void check_scores(Tile<T>& tile, detail::Rows<T> key) {
  using Real = Wide<T>;
  tile.scores.poison();
  kernels<T>().scores(tile.block(key));
  ErrorShare error;
  bool untouched = true, excluded = true, maxima = true;
  for (int r = 0; r < tile.row_stride; ++r) {
    T largest = -infinity<T>;
    for (int j = 0; j < tile.keys; ++j) {
      const T score = tile.score(j, r);
      if (!tile.covers(j, r)) {
        untouched = untouched && is_poison(score);
      } else if (tile.excludes(j, r)) {
        excluded = excluded && score == -infinity<T>;
      } else {
        Real sum = 0, magnitude = 0;
        for (int d = 0; d < tile.head_dim; ++d) {
          const Real product = Real{tile.query.data()[d * tile.row_stride + r]} * Real{key.data[j * key.stride + d]};
          sum += product;
          magnitude += std::abs(product);
        }
        // One rounding a feature, two where the instruction set has no fused product and sum.
        error.add<Real>(score, sum, rounding_unit<T> * static_cast<Real>(tile.head_dim + 2) * magnitude);
        largest = std::max(largest, score);
      }
    }
    maxima = maxima && tile.state.maximum[r] == largest;
  }
  CAPTURE(tile.rows);
  CAPTURE(tile.keys);
  CAPTURE(tile.head_dim);
  CAPTURE(key.stride);
  CHECK(error.largest() <= 1);
  CHECK(untouched);
  CHECK(excluded);
  CHECK(maxima);
}

/// Keys that end, with the last feature of the last one, at an unreadable page.
template <class T>
struct Keys {
  Keys(Random& random, int keys, int head_dim, std::int64_t stride)
      : memory((keys - 1) * std::abs(stride) + head_dim, Placement::before_guard),
        rows{memory.data() + (stride < 0 ? (1 - keys) * stride : 0), stride} {
    fill_normal(random, memory);
  }
  GuardedBuffer<T> memory;
  detail::Rows<T> rows;
};

TEST_CASE_TEMPLATE("scores: every number of keys", T, float, double) {
  Random random(11);
  constexpr int head_dim = 35;
  const int most = kernels<T>().max_block_keys, step = reduced_grid() ? 13 : 1;
  const Keys<T> keys(random, most, head_dim, head_dim + 1);
  for (int vectors = 1; vectors <= kernels<T>().tile_rows / kernels<T>().lanes; ++vectors) {
    for (int count = 1; count <= most; count += count < 34 ? 1 : step) {
      Tile<T> tile(vectors * kernels<T>().lanes, head_dim, count);
      fill_rows(random, tile);
      // The last keys of the buffer: those end at the guard page.
      check_scores<T>(tile, {keys.rows.data + (most - count) * keys.rows.stride, keys.rows.stride});
    }
  }
}

TEST_CASE_TEMPLATE("scores: every head_dim of a few, every key stride", T, float, double) {
  Random random(12);
  for (const int head_dim : {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 64, 100, 127, 129}) {
    for (const std::int64_t stride : {head_dim, head_dim + 3, 1, 0, -head_dim, 1000}) {
      Tile<T> tile(kernels<T>().tile_rows, head_dim, 19);
      fill_rows(random, tile);
      check_scores<T>(tile, Keys<T>(random, tile.keys, head_dim, stride).rows);
    }
  }
}

TEST_CASE_TEMPLATE("scores: every number of rows; a row's bits do not depend on the others", T, float, double) {
  Random random(13);
  constexpr int head_dim = 20, count = 23;
  const Keys<T> keys(random, count, head_dim, head_dim);
  Tile<T> full(kernels<T>().tile_rows, head_dim, count);
  fill_rows(random, full);
  kernels<T>().scores(full.block(keys.rows));
  for (int rows = 1; rows <= full.rows; ++rows) {
    Tile<T> tile(rows, head_dim, count);
    fill_rows(random, tile);
    // The last row is that of the full tile, its neighbours differ.
    for (int d = 0; d < head_dim; ++d) {
      tile.query.data()[d * tile.row_stride + rows - 1] = full.query.data()[d * full.row_stride + rows - 1];
    }
    check_scores<T>(tile, keys.rows);
    bool same = true;
    for (int j = 0; j < count; ++j) same = same && tile.score(j, rows - 1) == full.score(j, rows - 1);
    REQUIRE(same);
  }
}

TEST_CASE_TEMPLATE("scores: masked spans of random ranges", T, float, double) {
  Random random(14);
  std::mt19937_64 engine(14);
  const auto below = [&](int end) { return static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(end)); };
  for (int repeat = 0; repeat < (reduced_grid() ? 20 : 150); ++repeat) {
    Tile<T> tile(1 + static_cast<int>(below(kernels<T>().tile_rows)), 3, 1 + static_cast<int>(below(160)));
    fill_rows(random, tile);
    std::vector<detail::KeyRange> range(static_cast<std::size_t>(tile.rows));
    for (detail::KeyRange& row : range) row = {repeat % 3 == 0 ? 0 : below(tile.keys), below(tile.keys + 1)};
    const auto by = [](auto member) { return [=](const auto& a, const auto& b) { return a.*member < b.*member; }; };
    std::vector<detail::KeyRange> ends = range;
    std::sort(range.begin(), range.end(), by(&detail::KeyRange::begin));
    std::sort(ends.begin(), ends.end(), by(&detail::KeyRange::end));
    for (std::size_t r = 0; r < range.size(); ++r) range[r].end = ends[r].end;
    tile.attend(range);
    check_scores<T>(tile, Keys<T>(random, tile.keys, tile.head_dim, tile.head_dim).rows);
  }
}

TEST_CASE_TEMPLATE("scores: NaN stays in its row and key, and out of excluded pairs", T, float, double) {
  Random random(15);
  constexpr int head_dim = 4, count = 41;
  Tile<T> tile(kernels<T>().tile_rows, head_dim, count);
  fill_rows(random, tile);
  const Keys<T> keys(random, count, head_dim, head_dim);
  kernels<T>().scores(tile.block(keys.rows));
  const std::vector<T> clean = copied(tile.scores.data(), tile.scores.size());
  const std::vector<T> maxima = copied(tile.state.maximum, tile.row_stride);
  for (int bad = 0; bad < count; ++bad) {
    T& element = keys.memory.data()[bad * head_dim + bad % head_dim];
    const T before = element;
    element = quiet_nan<T>;
    tile.attend_all();
    kernels<T>().scores(tile.block(keys.rows));
    bool contained = true;
    for (int j = 0; j < count; ++j) {
      for (int r = 0; r < tile.rows; ++r) {
        const T score = tile.score(j, r);
        contained = contained &&
                    (j == bad ? std::isnan(score) : score == clean[static_cast<std::size_t>(j * tile.row_stride + r)]);
      }
    }
    CHECK(contained);
    // Rows that end before the key.
    tile.attend(std::vector<detail::KeyRange>(static_cast<std::size_t>(tile.rows), {0, bad}));
    kernels<T>().scores(tile.block(keys.rows));
    bool unused = true;
    for (int r = 0; r < tile.rows; ++r) unused = unused && !std::isnan(tile.state.maximum[r]);
    CHECK(unused);
    element = before;
  }
  tile.attend_all();
  tile.query.data()[1] = quiet_nan<T>;  // the first feature of row 1
  kernels<T>().scores(tile.block(keys.rows));
  for (int r = 0; r < tile.rows; ++r) {
    REQUIRE(std::isnan(tile.score(0, r)) == (r == 1));
    REQUIRE((r == 1 || tile.state.maximum[r] == maxima[static_cast<std::size_t>(r)]));
  }
}

TEST_CASE_TEMPLATE("scores: padding lanes never win, all scores -1e30", T, float, double) {
  Tile<T> tile(1, 1, 5);
  const GuardedBuffer<T> keys(5, Placement::before_guard);
  std::fill_n(keys.data(), 5, T(-1e30));
  std::fill_n(tile.query.data(), tile.row_stride, T(0));
  tile.query.data()[0] = T(1);
  kernels<T>().scores(tile.block({keys.data(), 1}));
  CHECK(tile.state.maximum[0] == T(-1e30));
}

}  // namespace
}  // namespace headwise::test
