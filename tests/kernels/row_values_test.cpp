// Few rows against many keys: weighted sums of values, and the merging of partial results.
#include <doctest/doctest.h>

#include <cfenv>

#include "kernels/kernel_test.hpp"
#include "support/environment.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

TEST_CASE_TEMPLATE("row_values: every number of queries and feature vectors; rows are independent", T, float, double) {
  using Real = Wide<T>;
  Random random(61);
  constexpr int most_queries = 9, most_vectors = 17, weight_stride = 150;
  for (int vectors = 1; vectors <= most_vectors; vectors += reduced_grid() ? 4 : 1) {
    const int features = vectors * kernels<T>().lanes, accumulator_stride = features + 2;
    const GuardedBuffer<T> factor(most_queries, Placement::before_guard);
    const GuardedBuffer<T> before(most_queries * accumulator_stride, Placement::before_guard);
    fill_normal(random, factor);
    fill_normal(random, before);
    for (const int keys : {0, 1, 2, 7, 17, 64, 150}) {
      const GuardedBuffer<T> weights((most_queries - 1) * weight_stride + keys, Placement::before_guard);
      const GuardedBuffer<T> value(std::int64_t{keys} * features, Placement::before_guard);
      fill_normal(random, weights);
      fill_normal(random, value);
      const GuardedBuffer<T> single(before.size(), Placement::before_guard);
      std::copy_n(before.data(), before.size(), single.data());
      ErrorShare error;
      for (int q = 0; q < most_queries; ++q) {
        T* sum = single.data() + q * accumulator_stride;
        const T* weight = weights.data() + q * weight_stride;
        kernels<T>().row_values(weight, weight_stride, 1, factor.data() + q, {value.data(), features}, keys, vectors,
                                sum, accumulator_stride);
        for (int f = 0; f < features; ++f) {
          Real exact = Real{before.data()[q * accumulator_stride + f]} * Real{factor.data()[q]};
          Real magnitude = std::abs(exact);
          for (int j = 0; j < keys; ++j) {
            const Real product = Real{weight[j]} * Real{value.data()[j * features + f]};
            exact += product;
            magnitude += std::abs(product);
          }
          const int roundings = std::min(keys, detail::row_sum_keys) + keys / detail::row_sum_keys + 2;
          error.add<Real>(sum[f], exact, rounding_unit<T> * static_cast<Real>(roundings) * magnitude);
        }
      }
      CAPTURE(vectors);
      CAPTURE(keys);
      CHECK(error.largest() <= 1);
      bool same = true;
      for (int queries = 1; queries <= most_queries; ++queries) {
        const GuardedBuffer<T> together(before.size(), Placement::before_guard);
        std::copy_n(before.data(), before.size(), together.data());
        kernels<T>().row_values(weights.data(), weight_stride, queries, factor.data(), {value.data(), features}, keys,
                                vectors, together.data(), accumulator_stride);
        const std::int64_t done = queries * accumulator_stride, rest = before.size() - done;
        same = same && same_bits(copied(together.data(), done), copied(single.data(), done)) &&
               same_bits(copied(together.data() + done, rest), copied(before.data() + done, rest));
      }
      CHECK(same);
    }
  }
}

TEST_CASE_TEMPLATE("row_values: zero and negative strides of the values", T, float, double) {
  Random random(62);
  const int features = 3 * kernels<T>().lanes;
  constexpr int keys = 10;
  const GuardedBuffer<T> weights(keys, Placement::before_guard), value(keys * features, Placement::before_guard);
  fill_normal(random, weights);
  fill_normal(random, value);
  const auto run = [&](const GuardedBuffer<T>& weight, detail::Rows<T> rows) {
    const GuardedBuffer<T> sum(features, Placement::before_guard);
    std::fill_n(sum.data(), features, T(1));
    const T factor = T(0);
    kernels<T>().row_values(weight.data(), keys, 1, &factor, rows, keys, 3, sum.data(), features);
    return copied(sum.data(), features);
  };
  const GuardedBuffer<T> turned(keys * features, Placement::before_guard);
  const GuardedBuffer<T> equal(keys * features, Placement::before_guard);
  for (int j = 0; j < keys; ++j) {
    std::copy_n(value.data() + (keys - 1 - j) * features, features, turned.data() + j * features);
    std::copy_n(value.data(), features, equal.data() + j * features);
  }
  CHECK(same_bits(run(weights, {value.data() + (keys - 1) * features, -features}),
                  run(weights, {turned.data(), features})));
  CHECK(same_bits(run(weights, {value.data(), 0}), run(weights, {equal.data(), features})));
}

TEST_CASE_TEMPLATE("add_rows: one sum goes on from the accumulator, key by key", T, float, double) {
  Random random(65);
  constexpr int keys = 40, queries = 3, vectors = 3;
  const int features = vectors * kernels<T>().lanes;
  const std::vector<T> weights = normal<T>(random, queries * keys), value = normal<T>(random, keys * features);
  std::vector<T> at_once = normal<T>(random, queries * features), one_by_one = at_once;
  const auto add = [&](int first, int count, T* sums) {
    kernels<T>().add_rows(weights.data() + first, keys, queries, {value.data() + first * features, features}, count,
                          vectors, sums, features);
  };
  add(0, keys, at_once.data());
  for (int j = 0; j < keys; ++j) add(j, 1, one_by_one.data());
  CHECK(same_bits(at_once, one_by_one));
}

/// Positive weights of 3 rows × 40 keys, values, and what was accumulated before.
template <class T>
struct WeightedRows {
  WeightedRows() {
    for (T& weight : weights) weight = std::abs(weight);
  }

  template <class Kernel>
  std::vector<T> sums(Kernel kernel) const {
    std::vector<T> result = before;
    kernel(weights.data(), keys, rows, factor.data(), {value.data(), features}, keys, vectors, result.data(), features);
    return result;
  }

  static constexpr int rows = 3, keys = 40, vectors = 3;
  const int features = vectors * kernels<T>().lanes;
  Random random{64};
  std::vector<T> weights = normal<T>(random, rows * keys), value = normal<T>(random, keys * features);
  std::vector<T> before = normal<T>(random, rows * features);
  std::vector<T> factor{T(1), T(0.37), T(0)};
};

TEST_CASE_TEMPLATE("row_values_careful: the bits of row_values, also where keys are excluded", T, float, double) {
  WeightedRows<T> block;
  CHECK(same_bits(block.sums(kernels<T>().row_values_careful), block.sums(kernels<T>().row_values)));
  // All of one sum, others of another.
  for (std::size_t j = 3; j < 33; j += j < 15 ? 5 : 1) block.weights[block.keys + j] = T(0);
  const std::vector<T> expected = block.sums(kernels<T>().row_values);
  for (T& weight : block.weights) weight = weight == T(0) ? T(-0.0) : weight;
  CHECK(same_bits(block.sums(kernels<T>().row_values_careful), expected));
}

TEST_CASE_TEMPLATE("row_values_careful: excluded values that are not finite are never used", T, float, double) {
  WeightedRows<T> block;
  block.weights[17] = T(-0.0);                // of row 0
  block.weights[2 * block.keys + 17] = T(0);  // of row 2: attended, underflowed
  const std::vector<T> expected = block.sums(kernels<T>().row_values_careful);
  for (const T bad : {quiet_nan<T>, infinity<T>, -infinity<T>}) {
    block.value[static_cast<std::size_t>(17 * block.features)] = bad;
    const std::vector<T> sums = block.sums(kernels<T>().row_values_careful);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const bool uses = i > 0 && i % static_cast<std::size_t>(block.features) == 0;
      CAPTURE(i);
      CHECK(std::isfinite(sums[i]) != uses);
      if (!uses) CHECK(sums[i] == expected[i]);
    }
  }
}

/// Partial results of one row: references, sums and accumulators, part after part.
template <class T>
struct Parts {
  Parts(const std::vector<T>& references, int feature_vectors)
      : count(static_cast<int>(references.size())),
        vectors(feature_vectors),
        features(vectors * kernels<T>().lanes),
        reference((count - 1) * part_stride + 1, Placement::before_guard),
        sum(reference.size(), Placement::before_guard),
        accumulator((count - 1) * accumulator_stride() + features, Placement::before_guard) {
    Random random(63);
    fill_normal(random, accumulator);
    // Between them lie those of other rows, which may be read.
    std::fill_n(reference.data(), reference.size(), T(0));
    std::fill_n(sum.data(), sum.size(), T(0));
    for (int p = 0; p < count; ++p) {
      const T own = references[static_cast<std::size_t>(p)];
      reference.data()[p * part_stride] = own;
      sum.data()[p * part_stride] = own == -infinity<T> ? T(0) : static_cast<T>(1 + std::abs(random.normal()));
      if (own == -infinity<T>) std::fill_n(accumulator.data() + p * accumulator_stride(), features, T(0));
    }
  }

  std::int64_t accumulator_stride() const { return 2 * features + 3; }
  void merge() const {
    kernels<T>().merge_parts(reference.data(), sum.data(), accumulator.data(), count, part_stride,
                             accumulator_stride(), vectors);
  }

  static constexpr std::int64_t part_stride = 3;
  int count, vectors, features;
  GuardedBuffer<T> reference, sum, accumulator;
};

TEST_CASE_TEMPLATE("merge_parts: relative to the largest reference, in order, dead parts without effect", T, float,
                   double) {
  using Real = Wide<T>;
  const T none = -infinity<T>;
  const std::vector<std::vector<T>> cases{{T(3)},
                                          {T(3), T(3)},
                                          {T(-5), T(2.5), T(1)},
                                          {T(40), T(-60), T(39.5), T(7)},
                                          {none, T(1), none},
                                          {T(1), none, none, T(2)},
                                          {T(-1e30), T(2)},
                                          {T(-1e30), T(-1e30)},
                                          {none, none, none}};
  for (const std::vector<T>& references : cases) {
    for (const int vectors : {1, 2, 5}) {
      CAPTURE(references[0]);
      CAPTURE(references.size());
      CAPTURE(vectors);
      const Parts<T> before(references, vectors), parts(references, vectors);
      std::feclearexcept(FE_ALL_EXCEPT);
      parts.merge();
      CHECK(std::fetestexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW) == 0);
      const T largest = *std::max_element(references.begin(), references.end());
      CHECK(parts.reference.data()[0] == largest);
      // factor[p] = 2^(reference[p] − largest)
      std::vector<Real> factor, allowed;
      for (const T reference : references) {
        const Real exponent = reference == largest ? 0 : Real{reference} - Real{largest};
        factor.push_back(std::exp2(exponent));
        const Real roundings = static_cast<Real>(KernelErrorModel::exp_error + before.count + 2) + std::abs(exponent);
        allowed.push_back(exponent < -1000 ? 0 : rounding_unit<T> * roundings * factor.back());
      }
      ErrorShare error;
      const auto check = [&](T actual, const T* part, std::int64_t stride) {
        Real exact = 0, bound = std::numeric_limits<T>::min();
        for (std::size_t p = 0; p < references.size(); ++p) {
          const Real addend = part[static_cast<std::int64_t>(p) * stride];
          exact += addend * factor[p];
          bound += std::abs(addend) * allowed[p];
        }
        error.add<Real>(actual, exact, bound);
      };
      check(parts.sum.data()[0], before.sum.data(), before.part_stride);
      for (int f = 0; f < parts.features; ++f) {
        check(parts.accumulator.data()[f], before.accumulator.data() + f, before.accumulator_stride());
      }
      CHECK(error.largest() <= 1);
    }
  }
}

TEST_CASE_TEMPLATE("merge_parts: a NaN row stays NaN", T, float, double) {
  for (int bad = 0; bad < 3; ++bad) {
    const Parts<T> parts({T(1), T(2), T(-infinity<T>)}, 1);
    parts.reference.data()[bad * parts.part_stride] = quiet_nan<T>;
    parts.sum.data()[bad * parts.part_stride] = quiet_nan<T>;
    std::fill_n(parts.accumulator.data() + bad * parts.accumulator_stride(), parts.features, quiet_nan<T>);
    parts.merge();
    CHECK(std::isnan(parts.sum.data()[0]));
    CHECK(std::isnan(parts.accumulator.data()[0]));
  }
}

}  // namespace
}  // namespace headwise::test
