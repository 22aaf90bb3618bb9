// Few rows against many keys: products, softmax, values and merging, against loops in a wider type.
#include <doctest/doctest.h>

#include <cfenv>
#include <string>
#include <utility>

#include "kernels/kernel_test.hpp"
#include "support/environment.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

constexpr int most_queries = 9;

/// What kernels of `vectors` feature vectors are run with.
std::vector<int> feature_vector_counts() { return reduced_grid() ? std::vector{1, 3} : std::vector{1, 2, 3, 5, 8, 9}; }

TEST_CASE_TEMPLATE("row_scores: every number of queries and keys; a query's bits are its own", T, float, double) {
  using Real = Wide<T>;
  Random random(51);
  constexpr int most_keys = 64, score_stride = most_keys + 3;
  for (const int vectors : feature_vector_counts()) {
    const int features = vectors * kernels<T>().lanes;
    const std::int64_t key_stride = features + 5;
    const GuardedBuffer<T> query(most_queries * features, Placement::before_guard);
    const GuardedBuffer<T> key((most_keys - 1) * key_stride + features, Placement::before_guard);
    fill_normal(random, query);
    fill_normal(random, key);
    for (int keys = 1; keys <= most_keys; keys += reduced_grid() ? 9 : 1) {
      const T* first = key.data() + (most_keys - keys) * key_stride;
      const GuardedBuffer<T> single(most_queries * score_stride, Placement::before_guard);
      ErrorShare error;
      for (int q = 0; q < most_queries; ++q) {
        T* scores = single.data() + q * score_stride;
        kernels<T>().row_scores(query.data() + q * features, features, 1, {first, key_stride}, keys, vectors, scores,
                                score_stride);
        for (int j = 0; j < keys; ++j) {
          Real sum = 0, magnitude = 0;
          for (int f = 0; f < features; ++f) {
            const Real product = Real{query.data()[q * features + f]} * Real{first[j * key_stride + f]};
            sum += product;
            magnitude += std::abs(product);
          }
          error.add<Real>(scores[j], sum, rounding_unit<T> * static_cast<Real>(features + 2) * magnitude);
        }
      }
      CAPTURE(keys);
      CAPTURE(vectors);
      CHECK(error.largest() <= 1);
      bool same = true;
      for (int queries = 1; queries <= most_queries; ++queries) {
        const int skipped = most_queries - queries;
        const GuardedBuffer<T> scores(most_queries * score_stride, Placement::before_guard);
        kernels<T>().row_scores(query.data() + skipped * features, features, queries, {first, key_stride}, keys,
                                vectors, scores.data() + skipped * score_stride, score_stride);
        // Skipped queries and the gaps between rows stay poison in both.
        const std::int64_t begin = skipped * score_stride, count = scores.size() - begin;
        same = same && same_bits(copied(scores.data() + begin, count), copied(single.data() + begin, count)) &&
               std::all_of(scores.data(), scores.data() + begin, is_poison<T>);
      }
      CHECK(same);
    }
  }
}

TEST_CASE_TEMPLATE("row_scores: zero and negative key strides, NaN stays with its key and query", T, float, double) {
  Random random(52);
  const int features = 2 * kernels<T>().lanes;
  constexpr int keys = 11, queries = 5;
  const GuardedBuffer<T> query(queries * features, Placement::before_guard);
  const GuardedBuffer<T> key(keys * features, Placement::before_guard);
  const GuardedBuffer<T> scores(queries * keys, Placement::before_guard);
  fill_normal(random, query);
  fill_normal(random, key);
  const auto run = [&](detail::Rows<T> rows) {
    kernels<T>().row_scores(query.data(), features, queries, rows, keys, 2, scores.data(), keys);
    return copied(scores.data(), scores.size());
  };
  const std::vector<T> forwards = run({key.data(), features});
  const std::vector<T> backwards = run({key.data() + (keys - 1) * features, -features});
  const std::vector<T> repeated = run({key.data() + (keys - 1) * features, 0});
  for (std::size_t i = 0; i < forwards.size(); ++i) {
    const std::size_t row = i / keys * keys;
    REQUIRE(backwards[row + keys - 1 - i % keys] == forwards[i]);
    REQUIRE(repeated[i] == forwards[row + keys - 1]);
  }
  key.data()[4 * features + 3] = quiet_nan<T>;
  query.data()[2 * features + 1] = quiet_nan<T>;
  const std::vector<T> with_nan = run({key.data(), features});
  for (std::size_t i = 0; i < forwards.size(); ++i) {
    const bool spoiled = i % keys == 4 || i / keys == 2;
    REQUIRE((spoiled ? std::isnan(with_nan[i]) : with_nan[i] == forwards[i]));
  }
}

/// One row of scores, padded to whole vectors and followed by an unreadable page.
template <class T>
struct ScoreRow {
  explicit ScoreRow(const std::vector<T>& scores)
      : keys(static_cast<int>(scores.size())),
        memory((keys + kernels<T>().lanes - 1) / kernels<T>().lanes * kernels<T>().lanes, Placement::before_guard) {
    std::copy(scores.begin(), scores.end(), memory.data());
  }
  int keys;
  GuardedBuffer<T> memory;
};

TEST_CASE_TEMPLATE("row_softmax: every key count and some ranges, step after step", T, float, double) {
  using Real = Wide<T>;
  const Real u = rounding_unit<T>;
  Random random(53);
  for (int keys = 1; keys <= 64; ++keys) {
    T reference = -infinity<T>, sum = T(0);
    for (const T offset : {T(5), T(9), T(-40), T(60), T(61)}) {
      const T reference_before = reference, sum_before = sum;
      const int begin = offset == T(9) ? keys / 3 : 0, end = offset == T(-40) ? keys - keys / 4 : keys;
      std::vector<T> scores;
      for (int j = 0; j < keys; ++j) scores.push_back(offset + static_cast<T>(random.normal()));
      const ScoreRow<T> row(scores);
      std::fill(row.memory.data(), row.memory.data() + begin, quiet_nan<T>);  // excluded: never used
      const T factor = kernels<T>().row_softmax(row.memory.data(), begin, end, keys, &reference, &sum, false);
      const T peak = *std::max_element(scores.begin() + begin, scores.begin() + end);
      const bool moves = reference_before == -infinity<T> || peak - reference_before > T(8);
      CHECK(reference == (moves ? peak : reference_before));
      ErrorShare error;
      const bool kept = !moves || reference_before == -infinity<T>;
      const Real distance = kept ? 0 : Real{reference_before} - Real{reference};
      error.add<Real>(factor, std::exp2(distance), u * std::exp2(distance) * (4 + std::abs(distance)));
      Real total = Real{sum_before} * Real{factor};
      bool zero = true;
      for (int j = 0; j < row.memory.size(); ++j) {
        const T weight = row.memory.data()[j];
        if (j < begin || j >= end) {
          zero = zero && weight == T(0);
          continue;
        }
        const Real exponent = Real{scores[static_cast<std::size_t>(j)]} - Real{reference};
        error.add<Real>(weight, std::exp2(exponent), u * std::exp2(exponent) * (4 + std::abs(exponent)));
        total += weight;
      }
      error.add<Real>(sum, total, u * (keys + 2) * total);
      CAPTURE(keys);
      CAPTURE(offset);
      CHECK(zero);
      CHECK(error.largest() <= 1);
    }
  }
}

TEST_CASE_TEMPLATE("row_softmax: the reference moves for more than 8, dead rows and special scores", T, float, double) {
  struct Case {
    const char* name;
    T reference;
    std::vector<T> scores;
    T expected_reference, expected_factor;
  };
  const T none = -infinity<T>;
  for (const Case& step : std::vector<Case>{
           {"exactly 8 above", T(2), {T(1), T(10)}, T(2), T(1)},
           {"9 above", T(2), {T(1), T(11)}, T(11), T(1) / T(512)},
           {"far above", T(-1e30), {T(1), T(3)}, T(3), T(0)},
           {"all -1e30", none, {T(-1e30), T(-1e30), T(-1e30)}, T(-1e30), T(1)},
           {"all lowest", none, {std::numeric_limits<T>::lowest()}, std::numeric_limits<T>::lowest(), T(1)},
           {"dead", none, {none, none, none}, none, T(1)},
           {"nothing in this step", T(4), {none, none}, T(4), T(1)}}) {
    CAPTURE(std::string(step.name));
    const ScoreRow<T> row(step.scores);
    T reference = step.reference, sum = T(1);
    std::feclearexcept(FE_ALL_EXCEPT);
    const T factor = kernels<T>().row_softmax(row.memory.data(), 0, row.keys, row.keys, &reference, &sum, false);
    CHECK(std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW) == 0);
    CHECK(reference == step.expected_reference);
    CHECK(factor == step.expected_factor);
    T expected_sum = factor;
    for (int j = 0; j < row.keys; ++j) expected_sum += row.memory.data()[j];
    CHECK(sum == doctest::Approx(expected_sum));
    if (step.reference == none && step.expected_reference != none) CHECK(row.memory.data()[0] == T(1));
  }
  for (const T bad : {quiet_nan<T>, infinity<T>}) {
    for (int where = 0; where < 20; ++where) {
      std::vector<T> scores(20, T(1));
      scores[static_cast<std::size_t>(where)] = bad;
      const ScoreRow<T> row(scores);
      T reference = none, sum = T(0);
      kernels<T>().row_softmax(row.memory.data(), 0, 20, 20, &reference, &sum, false);
      REQUIRE(std::isnan(sum));
      // A later step does not heal it.
      const ScoreRow<T> later({T(1), T(50)});
      kernels<T>().row_softmax(later.memory.data(), 0, 2, 2, &reference, &sum, false);
      REQUIRE(std::isnan(sum));
    }
  }
}

TEST_CASE_TEMPLATE("row_softmax: an empty range changes nothing", T, float, double) {
  for (const int at : {0, 3, 7}) {
    const ScoreRow<T> row(std::vector<T>(7, quiet_nan<T>));
    T reference = T(3), sum = T(2);
    CHECK(kernels<T>().row_softmax(row.memory.data(), at, at, 7, &reference, &sum, false) == T(1));
    CHECK(reference == T(3));
    CHECK(sum == T(2));
    CHECK(std::all_of(row.memory.data(), row.memory.data() + row.memory.size(), [](T x) { return x == T(0); }));
  }
}

TEST_CASE_TEMPLATE("row_softmax: excluded keys are marked on request, attended ones are not", T, float, double) {
  for (const bool mark : {false, true}) {
    const ScoreRow<T> row({T(1), T(2), -infinity<T>, T(3), T(-500), T(4)});
    T reference = -infinity<T>, sum = T(0);
    kernels<T>().row_softmax(row.memory.data(), 1, 5, row.keys, &reference, &sum, mark);
    for (const int key : {0, 2, 5}) {
      CHECK(row.memory.data()[key] == T(0));
      CHECK(std::signbit(row.memory.data()[key]) == mark);
    }
    for (const int key : {1, 3, 4}) CHECK(!std::signbit(row.memory.data()[key]));
  }
}

TEST_CASE_TEMPLATE("row_weights: weights of a range, 0 elsewhere", T, float, double) {
  using Real = Wide<T>;
  Random random(54);
  const T inverse = T(0.37);
  for (const T reference : {T(3), T(-70)}) {
    for (int keys = 1; keys <= 40; ++keys) {
      std::vector<T> scores;
      for (int j = 0; j < keys; ++j) scores.push_back(reference + static_cast<T>(3 * random.normal()));
      scores[static_cast<std::size_t>(keys / 2)] = -infinity<T>;
      for (const auto& [begin, end] : {std::pair{0, keys}, std::pair{keys / 4, keys - keys / 3}}) {
        const ScoreRow<T> row(scores);
        std::fill(row.memory.data(), row.memory.data() + begin, quiet_nan<T>);
        kernels<T>().row_weights(row.memory.data(), begin, end, keys, reference, inverse);
        ErrorShare error;
        for (int j = 0; j < keys; ++j) {
          const Real exponent = Real{scores[static_cast<std::size_t>(j)]} - Real{reference};
          const Real exact = j < begin || j >= end || j == keys / 2 ? 0 : std::exp2(exponent) * Real{inverse};
          error.add<Real>(row.memory.data()[j], exact, rounding_unit<T> * exact * (5 + std::abs(exponent)));
        }
        CHECK(error.largest() <= 1);
      }
    }
  }
  const ScoreRow<T> dead({-infinity<T>, -infinity<T>});
  kernels<T>().row_weights(dead.memory.data(), 0, 2, 2, -infinity<T>, T(0));
  CHECK(same_bits(copied(dead.memory.data(), 2), {T(0), T(0)}));
}

TEST_CASE_TEMPLATE("row_adjust: what lies behind the last score is neither used nor changed", T, float, double) {
  const int lanes = kernels<T>().lanes;
  for (int keys = 1; keys <= 2 * lanes; ++keys) {
    std::vector<T> scores(static_cast<std::size_t>(3 * lanes), std::numeric_limits<T>::signaling_NaN());
    std::fill_n(scores.begin(), keys, T(0.5));
    const std::vector<T> behind(scores.begin() + keys, scores.end());
    const T slope = T(0.25);
    std::feclearexcept(FE_ALL_EXCEPT);
    const bool excluded =
        kernels<T>().row_adjust(scores.data(), keys, {.softcap = T(2), .slope = slope, .distance = T(-3)});
    CHECK(std::fetestexcept(FE_INVALID) == 0);
    CHECK_FALSE(excluded);
    CHECK(same_bits(std::vector<T>(scores.begin() + keys, scores.end()), behind));
    for (int j = 0; j < keys; ++j) {
      const double expected = 2 * std::tanh(0.25) + 0.25 * (j - 3);
      CHECK(std::abs(static_cast<double>(scores[static_cast<std::size_t>(j)]) - expected) <=
            8 * std::numeric_limits<T>::epsilon());
    }
  }
}

}  // namespace
}  // namespace headwise::test
