// Online softmax of a tile: what happens to references, factors, sums and weights, row by row in every
// situation a row can be in, and that no row depends on the others.
#include <doctest/doctest.h>

#include <cfenv>
#include <map>
#include <string>

#include "kernels/kernel_test.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

constexpr int block_keys = 13;

/// A row before a block, and the largest score of the block.
template <class T>
struct Situation {
  const char* name;
  T reference, sum;
  T peak;            ///< largest score; the others lie up to 30 below
  bool moves;        ///< whether the reference must become the block's maximum
  T special = T(0);  ///< unless 0: what one more score is
};

template <class T>
std::vector<Situation<T>> situations() {
  const T none = -infinity<T>, above = std::nextafter(T(8), infinity<T>);
  return {{"first block, small", none, 0, T(3.7), true},
          {"first block, negative", none, 0, T(-20.3), true},
          {"first block, 0", none, 0, T(0), true},
          {"first block, large", none, 0, T(1234.5), true},
          {"first block, -1e30", none, 0, T(-1e30), true},
          {"first block, lowest", none, 0, std::numeric_limits<T>::lowest(), true},
          {"first block, dead", none, 0, none, false},
          {"small, lower", T(5.5), T(1.25), T(2.5), false},
          {"small, slightly higher", T(5.5), T(1.25), T(13.4), false},
          {"small, exactly 8 higher", T(5.5), T(1.25), T(13.5), false},
          {"small, more than 8 higher", T(5.5), T(1.25), T(13.75), true},
          {"small, no key in this block", T(5.5), T(1.25), none, false},
          {"reference 0, lower", T(0), T(2), T(-1.5), false},
          {"reference 0, 8 higher", T(0), T(2), T(8), false},
          {"reference 0, more than 8 higher", T(0), T(2), above, true},
          {"large, lower", T(100), T(3), T(90.7), false},
          {"large, 8 higher", T(100), T(3), T(108), false},
          {"large, more than 8 higher", T(100), T(3), T(109), true},
          {"large, no key in this block", T(100), T(3), none, false},
          {"very negative, then ordinary", T(-1e30), T(7), T(2.5), true},
          {"lowest, then lowest", std::numeric_limits<T>::lowest(), T(7), std::numeric_limits<T>::lowest(), false},
          {"NaN among the scores", T(1), T(1), T(0), false, quiet_nan<T>},
          {"+infinity among the scores", T(1), T(1), T(0), true, infinity<T>}};
}

/// The scores of a row in a situation: always the same ones, the peak somewhere in the middle, one of them excluded.
template <class T>
std::vector<T> row_scores(const Situation<T>& situation) {
  Random random(21);
  std::vector<T> scores;
  for (int j = 0; j < block_keys; ++j) {
    scores.push_back(situation.peak - static_cast<T>(2.5 * (random.normal() + 6)));
  }
  scores[4] = -infinity<T>;
  scores[6] = situation.peak;
  if (situation.special != T(0)) scores[9] = situation.special;
  return scores;
}

template <class T>
void set_row(const Tile<T>& tile, int row, const Situation<T>& situation) {
  tile.state.reference[row] = situation.reference;
  tile.state.sum[row] = situation.sum;
  tile.state.maximum[row] = situation.special != T(0) ? situation.special : situation.peak;
  const std::vector<T> scores = row_scores(situation);
  for (int j = 0; j < block_keys; ++j) tile.score(j, row) = scores[static_cast<std::size_t>(j)];
}

/// Everything that the softmax says about a row.
template <class T>
std::vector<T> row_results(const Tile<T>& tile, int row) {
  std::vector<T> results{tile.state.reference[row], tile.state.sum[row], tile.state.factor[row]};
  for (int j = 0; j < tile.keys; ++j) results.push_back(tile.score(j, row));
  return results;
}

template <class T>
void check_state(const Tile<T>& tile, int row, const Situation<T>& before) {
  using Real = Wide<T>;
  const T reference = tile.state.reference[row];
  CHECK(reference == (before.moves ? before.peak : before.reference));
  ErrorShare factor;
  const bool kept = !before.moves || before.reference == -infinity<T>;
  const Real distance = kept ? 0 : Real{before.reference} - Real{reference};
  const Real exact = std::exp2(distance);
  const Real u = rounding_unit<T>;
  factor.add<Real>(tile.state.factor[row], exact,
                   u * exact * (static_cast<Real>(KernelErrorModel::exp_error) + std::abs(distance)) +
                       std::numeric_limits<T>::min());
  CHECK(factor.largest() <= 1);
  if (kept) CHECK(tile.state.factor[row] == T(1));
}

template <class T>
void check_weights(const Tile<T>& tile, int row, const Situation<T>& before, bool mark) {
  using Real = Wide<T>;
  const std::vector<T> scores = row_scores(before);
  const Real u = rounding_unit<T>;
  const Real shift = tile.state.reference[row] == -infinity<T> ? 0 : tile.state.reference[row];
  const Real exp_error = static_cast<Real>(KernelErrorModel::exp_error);
  ErrorShare error;
  Real sum = Real{before.sum} * Real{tile.state.factor[row]};
  for (int j = 0; j < block_keys; ++j) {
    const T score = scores[static_cast<std::size_t>(j)], weight = tile.score(j, row);
    sum += weight;
    if (score == -infinity<T>) {
      CHECK(weight == T(0));
      CHECK(std::signbit(weight) == mark);
      continue;
    }
    CHECK(!std::signbit(weight));
    const Real exponent = Real{score} - shift, exact = std::exp2(exponent);
    error.add<Real>(weight, exact,
                    u * exact * (exp_error + std::abs(exponent) + std::abs(shift)) + std::numeric_limits<T>::min());
  }
  CHECK(error.largest() <= 1);
  ErrorShare sum_error;
  sum_error.add<Real>(tile.state.sum[row], sum, u * (block_keys + 2) * sum);
  CHECK(sum_error.largest() <= 1);
}

TEST_CASE_TEMPLATE("softmax: every situation of a row, in every lane, beside every other", T, float, double) {
  const std::vector<Situation<T>> all = situations<T>();
  for (const bool mark : {false, true}) {
    std::map<std::string, std::vector<T>> results;
    for (std::size_t offset = 0; offset < all.size(); ++offset) {
      const Tile<T> tile(kernels<T>().tile_rows, 1, block_keys);
      const auto situation_of = [&](int row) { return all[(static_cast<std::size_t>(row) + offset) % all.size()]; };
      for (int r = 0; r < tile.rows; ++r) set_row(tile, r, situation_of(r));
      kernels<T>().softmax(tile.block(), mark);
      for (int r = 0; r < tile.rows; ++r) {
        const Situation<T> situation = situation_of(r);
        CAPTURE(std::string(situation.name));
        CAPTURE(mark);
        const auto [known, is_new] = results.try_emplace(situation.name, row_results(tile, r));
        CHECK(same_bits(known->second, row_results(tile, r)));
        if (!is_new) continue;
        if (situation.special != T(0)) {
          CHECK(std::isnan(tile.state.sum[r]));
          CHECK(std::isnan(tile.score(9, r)));
          continue;
        }
        check_state(tile, r, situation);
        check_weights(tile, r, situation, mark);
      }
    }
    // Beside none but its like.
    for (const Situation<T>& situation : all) {
      const Tile<T> tile(kernels<T>().tile_rows, 1, block_keys);
      for (int r = 0; r < tile.rows; ++r) set_row(tile, r, situation);
      kernels<T>().softmax(tile.block(), mark);
      CAPTURE(std::string(situation.name));
      for (int r = 0; r < tile.rows; ++r) CHECK(same_bits(results.at(situation.name), row_results(tile, r)));
    }
  }
}

TEST_CASE_TEMPLATE("start: no key so far in any lane of the tile", T, float, double) {
  const int lanes = kernels<T>().lanes;
  const Tile<T> tile(kernels<T>().tile_rows, 1, 1);
  for (int used = lanes; used <= tile.row_stride; used += lanes) {
    for (int r = 0; r < tile.row_stride; ++r) tile.state.reference[r] = tile.state.sum[r] = quiet_nan<T>;
    kernels<T>().start(tile.state, used);
    for (int r = 0; r < used; ++r) {
      CHECK(tile.state.reference[r] == -infinity<T>);
      CHECK(same_bits(std::vector<T>{tile.state.sum[r]}, std::vector<T>{T(0)}));
    }
    for (int r = used; r < tile.row_stride; ++r) CHECK(std::isnan(tile.state.sum[r]));
  }
}

TEST_CASE_TEMPLATE("softmax: 0 outside the spans, sums over the spans only", T, float, double) {
  for (const bool mark : {false, true}) {
    Tile<T> tile(kernels<T>().tile_rows, 1, 61);
    std::vector<detail::KeyRange> range;
    for (int r = 0; r < tile.rows; ++r) range.push_back({r * 40 / tile.rows, 3 + r * 58 / tile.rows});
    tile.attend(range);
    for (int r = 0; r < tile.rows; ++r) {
      tile.state.maximum[r] = T(0);
      for (int j = 0; j < tile.keys; ++j) {
        if (tile.covers(j, r)) tile.score(j, r) = tile.excludes(j, r) ? -infinity<T> : T(0);
      }
    }
    kernels<T>().softmax(tile.block(), mark);
    bool exact = true;
    for (int r = 0; r < tile.rows; ++r) {
      const detail::KeyRange own = range[static_cast<std::size_t>(r)];
      exact = exact && tile.state.sum[r] == static_cast<T>(own.end - own.begin);
      for (int j = 0; j < tile.keys; ++j) {
        const bool attended = j >= own.begin && j < own.end;
        const T weight = tile.score(j, r);
        exact = exact && weight == (attended ? T(1) : T(0)) && std::signbit(weight) == (mark && !attended);
      }
    }
    CHECK(exact);
  }
}

TEST_CASE_TEMPLATE("softmax and finish: no floating-point exception on finite data with excluded keys", T, float,
                   double) {
  for (const Situation<T>& situation : situations<T>()) {
    if (situation.special != T(0)) continue;
    CAPTURE(std::string(situation.name));
    for (const bool mark : {false, true}) {
      const Tile<T> tile(kernels<T>().tile_rows, 1, block_keys);
      for (int r = 0; r < tile.rows; ++r) set_row(tile, r, situation);
      std::feclearexcept(FE_ALL_EXCEPT);
      kernels<T>().softmax(tile.block(), mark);
      kernels<T>().finish(tile.state, tile.row_stride);
      CHECK(std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW) == 0);
    }
  }
}

TEST_CASE_TEMPLATE("finish: the inverse of the sum, 0 for dead rows, NaN for NaN", T, float, double) {
  const Tile<T> tile(kernels<T>().tile_rows, 1, 1);
  for (int r = 0; r < tile.rows; ++r) tile.state.sum[r] = r % 2 == 0 ? T(0) : T(1) + static_cast<T>(r);
  tile.state.sum[3] = quiet_nan<T>;
  kernels<T>().finish(tile.state, tile.row_stride);
  for (int r = 0; r < tile.rows; ++r) {
    if (r == 3) {
      CHECK(std::isnan(tile.state.inverse[r]));
    } else {
      CHECK(tile.state.inverse[r] == (r % 2 == 0 ? T(0) : T(1) / tile.state.sum[r]));
      CHECK(!std::signbit(tile.state.inverse[r]));
    }
  }
}

}  // namespace
}  // namespace headwise::test
