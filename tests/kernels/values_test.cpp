// Weighted sums of values of a tile, against sums in a wider type: every register tile, per-row key limits, and what
// happens to the rows that are there already.
#include <doctest/doctest.h>

#include <random>

#include "kernels/kernel_test.hpp"
#include "support/environment.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

constexpr int most_vectors = 16;

/// Weights, values and rows of output of the largest tile; smaller ones use the last rows and features, so that they,
/// too, end at unreadable pages.
template <class T>
struct Block {
  explicit Block(int key_count)
      : keys(key_count),
        tile_rows(kernels<T>().tile_rows),
        features(most_vectors * kernels<T>().lanes),
        weights(std::int64_t{keys} * tile_rows, Placement::before_guard),
        values(std::int64_t{keys} * features, Placement::before_guard),
        output(std::int64_t{tile_rows} * row_gap(), Placement::before_guard),
        factor(tile_rows, Placement::before_guard),
        inverse(tile_rows, Placement::before_guard) {
    Random random(41);
    for (const auto* operand : {&weights, &values, &factor, &inverse}) fill_normal(random, *operand);
    for (const auto* positive : {&weights, &factor, &inverse}) {
      for (std::int64_t i = 0; i < positive->size(); ++i) positive->data()[i] = std::abs(positive->data()[i]);
    }
    for (int r = 0; r < tile_rows; ++r) output_rows.push_back(output.data() + r * row_gap() + kernels<T>().lanes);
    reset_output();
  }

  /// Rows of output lie a vector apart.
  std::int64_t row_gap() const { return features + kernels<T>().lanes; }

  T before(int row, int feature) const { return static_cast<T>(row - 3) + T(0.125) * static_cast<T>(feature); }
  void reset_output() {
    output.poison();
    for (int r = 0; r < tile_rows; ++r) {
      for (int f = 0; f < features; ++f) output_rows[static_cast<std::size_t>(r)][f] = before(r, f);
    }
  }

  /// The last `vectors` feature vectors of the first `rows` rows.
  detail::ValueArguments<T, T> arguments(int rows, int vectors) {
    offset = features - vectors * kernels<T>().lanes;
    pointers = output_rows;
    for (T*& row : pointers) row += offset;
    return {.weights = weights.data(),
            .row_stride = tile_rows,
            .keys = keys,
            .value = {values.data() + offset, features},
            .value_vectors = vectors,
            .output = pointers.data(),
            .rows = rows,
            .first_key = nullptr,
            .last_key = nullptr,
            .first = true,
            .factor = nullptr,
            .inverse = nullptr};
  }

  T weight(int key, int row) const { return weights.data()[key * tile_rows + row]; }

  int keys, tile_rows, features, offset = 0;
  GuardedBuffer<T> weights, values, output, factor, inverse;
  std::vector<T*> output_rows, pointers;
};

/// What a plain loop gives for one element, and how large its terms are.
template <class Real>
struct Sum {
  Real value;
  Real magnitude;
};

template <class T>
Sum<Wide<T>> plain_sum(const Block<T>& block, const detail::ValueArguments<T, T>& arguments, int row, int feature) {
  using Real = Wide<T>;
  Sum<Real> sum{0, 0};
  const auto add = [&](T a, T b) {
    sum.value += Real{a} * Real{b};
    sum.magnitude += std::abs(Real{a} * Real{b});
  };
  const int begin = arguments.first_key == nullptr ? 0 : arguments.first_key[row];
  const int end = arguments.last_key == nullptr ? block.keys : arguments.last_key[row];
  if (!arguments.first) add(block.before(row, feature), arguments.factor[row]);
  for (int j = begin; j < end; ++j) add(block.weight(j, row), block.values.data()[j * block.features + feature]);
  const Real inverse = arguments.inverse == nullptr ? 1 : Real{arguments.inverse[row]};
  return {sum.value * inverse, sum.magnitude * inverse};
}

/// Checks the rows and features that the arguments name, and that all others are what they were.
template <class T>
void check_output(const Block<T>& block, const detail::ValueArguments<T, T>& arguments) {
  using Real = Wide<T>;
  ErrorShare error;
  bool untouched = true;
  for (int r = 0; r < block.tile_rows; ++r) {
    const T* row = block.output_rows[static_cast<std::size_t>(r)];
    for (int f = 0; f < block.features; ++f) {
      if (r >= arguments.rows || f < block.offset) {
        untouched = untouched && row[f] == block.before(r, f);
        continue;
      }
      const Sum<Real> sum = plain_sum(block, arguments, r, f);
      error.add<Real>(row[f], sum.value, rounding_unit<T> * static_cast<Real>(block.keys + 3) * sum.magnitude);
    }
    for (int gap = 1; gap <= kernels<T>().lanes; ++gap) untouched = untouched && is_poison(row[-gap]);
  }
  CAPTURE(arguments.rows);
  CAPTURE(arguments.value_vectors);
  CHECK(error.largest() <= 1);
  CHECK(untouched);
}

template <class T>
std::vector<T> output_row(const detail::ValueArguments<T, T>& arguments, int row) {
  return copied(arguments.output[row], std::int64_t{arguments.value_vectors} * kernels<T>().lanes);
}

TEST_CASE_TEMPLATE("values: every number of rows and feature vectors", T, float, double) {
  Block<T> block(6);
  for (int vectors = 1; vectors <= most_vectors; ++vectors) {
    for (int rows = 1; rows <= block.tile_rows; rows += reduced_grid() && rows > 8 ? 7 : 1) {
      block.reset_output();
      const auto arguments = block.arguments(rows, vectors);
      kernels<T>().values(arguments);
      check_output(block, arguments);
    }
  }
}

TEST_CASE_TEMPLATE("values: a row's bits depend neither on its neighbours nor on its place", T, float, double) {
  Block<T> block(17);
  std::vector<int> first(static_cast<std::size_t>(block.tile_rows)), last(first);
  for (int r = 0; r < block.tile_rows; ++r) {
    first[static_cast<std::size_t>(r)] = r * 9 / block.tile_rows;
    last[static_cast<std::size_t>(r)] = 9 + r * 9 / block.tile_rows;
    for (int j = 0; j < block.keys; ++j) {
      const bool attended = j >= first[static_cast<std::size_t>(r)] && j < last[static_cast<std::size_t>(r)];
      if (!attended) block.weights.data()[j * block.tile_rows + r] = T(0);
    }
  }
  for (int vectors = 1; vectors <= most_vectors; ++vectors) {
    auto together = block.arguments(block.tile_rows, vectors);
    together.first = false;
    together.first_key = first.data();
    together.last_key = last.data();
    together.factor = block.factor.data();
    together.inverse = block.inverse.data();
    block.reset_output();
    kernels<T>().values(together);
    check_output(block, together);
    bool same = true;
    for (int r = 0; r < block.tile_rows; ++r) {
      const std::vector<T> expected = output_row(together, r);
      auto alone = together;
      alone.rows = 1;
      for (const auto member : {&detail::ValueArguments<T, T>::weights, &detail::ValueArguments<T, T>::factor,
                                &detail::ValueArguments<T, T>::inverse}) {
        alone.*member += r;
      }
      alone.first_key += r;
      alone.last_key += r;
      alone.output += r;
      for (int f = block.offset; f < block.features; ++f) {
        block.output_rows[static_cast<std::size_t>(r)][f] = block.before(r, f);
      }
      kernels<T>().values(alone);
      same = same && same_bits(output_row(together, r), expected);
    }
    CHECK(same);
  }
}

TEST_CASE_TEMPLATE("values: factor, inverse and limits, alone and together", T, float, double) {
  Block<T> block(5);
  const std::vector<int> first(static_cast<std::size_t>(block.tile_rows), 1);
  std::vector<int> last(static_cast<std::size_t>(block.tile_rows), 4);
  last[0] = 1;  // nothing attended
  for (int r = 0; r < block.tile_rows; ++r) {
    block.weights.data()[r] = block.weights.data()[4 * block.tile_rows + r] = T(0);
  }
  for (int j = 0; j < block.keys; ++j) block.weights.data()[j * block.tile_rows] = T(0);
  for (int choice = 0; choice < 16; ++choice) {
    auto arguments = block.arguments(block.tile_rows, 3);
    arguments.first = (choice & 1) != 0;
    if (!arguments.first) arguments.factor = block.factor.data();
    if ((choice & 2) != 0) arguments.inverse = block.inverse.data();
    if ((choice & 4) != 0) arguments.first_key = first.data();
    if ((choice & 8) != 0) arguments.last_key = last.data();
    CAPTURE(choice);
    block.reset_output();
    kernels<T>().values(arguments);
    check_output(block, arguments);
    std::vector<std::vector<T>> rows;
    for (int r = 0; r < block.tile_rows; ++r) rows.push_back(output_row(arguments, r));
    // The careful kernel ignores limits: −0 excludes.
    for (std::int64_t i = 0; i < block.weights.size(); ++i) {
      T& weight = block.weights.data()[i];
      if (weight == T(0)) weight = T(-0.0);
    }
    block.reset_output();
    kernels<T>().values_careful(arguments);
    bool same = true;
    for (int r = 0; r < block.tile_rows; ++r) {
      same = same && same_bits(output_row(arguments, r), rows[static_cast<std::size_t>(r)]);
    }
    CHECK(same);
  }
}

TEST_CASE_TEMPLATE("values: rows accumulated elsewhere give the bits of rows in place, and are left alone", T, float, double) {
  Block<T> block(7);
  for (int vectors = 1; vectors <= most_vectors; ++vectors) {
    auto arguments = block.arguments(block.tile_rows, vectors);
    arguments.first = false;
    arguments.factor = block.factor.data();
    arguments.inverse = block.inverse.data();
    for (const auto kernel : {kernels<T>().values, kernels<T>().values_careful}) {
      block.reset_output();
      std::vector<std::vector<T>> accumulated;
      for (int r = 0; r < block.tile_rows; ++r) accumulated.push_back(output_row(arguments, r));
      const std::vector<std::vector<T>> before = accumulated;
      std::vector<const T*> rows;
      for (const std::vector<T>& row : accumulated) rows.push_back(row.data());
      arguments.accumulated = nullptr;
      kernel(arguments);
      const std::vector<T> expected = copied(block.output.data(), block.output.size());
      block.reset_output();
      for (int r = 0; r < block.tile_rows; ++r) std::fill_n(arguments.output[r], vectors, quiet_nan<T>);
      arguments.accumulated = rows.data();
      kernel(arguments);
      CHECK(same_bits(copied(block.output.data(), block.output.size()), expected));
      CHECK(accumulated == before);
    }
  }
}

TEST_CASE_TEMPLATE("values_careful: the bits of values, for every number of feature vectors", T, float, double) {
  Block<T> block(19);
  for (int vectors = 1; vectors <= most_vectors; ++vectors) {
    const auto arguments = block.arguments(block.tile_rows, vectors);
    block.reset_output();
    kernels<T>().values(arguments);
    const std::vector<T> expected = copied(block.output.data(), block.output.size());
    block.reset_output();
    kernels<T>().values_careful(arguments);
    CHECK(same_bits(copied(block.output.data(), block.output.size()), expected));
  }
}

TEST_CASE_TEMPLATE("values_careful: excluded values that are not finite are never used", T, float, double) {
  for (const T bad : {quiet_nan<T>, infinity<T>, -infinity<T>}) {
    Block<T> block(6);
    const auto arguments = block.arguments(block.tile_rows, 2);
    // Even rows exclude key 2, odd ones attend it; its last feature is bad.
    for (int r = 0; r < block.tile_rows; r += 2) block.weights.data()[2 * block.tile_rows + r] = T(-0.0);
    T& value = block.values.data()[2 * block.features + block.features - 1];
    const T good = value;
    kernels<T>().values_careful(arguments);
    const std::vector<T> expected = copied(block.output.data(), block.output.size());
    value = bad;
    block.reset_output();
    kernels<T>().values_careful(arguments);
    value = good;
    bool contained = true, used = true;
    for (int r = 0; r < block.tile_rows; ++r) {
      T& last = arguments.output[r][2 * kernels<T>().lanes - 1];
      if (r % 2 == 1) {
        used = used && !std::isfinite(last);
        last = expected[static_cast<std::size_t>(&last - block.output.data())];
      }
      contained = contained && std::isfinite(last);
    }
    CHECK(used);
    CHECK(contained);
    CHECK(same_bits(copied(block.output.data(), block.output.size()), expected));
  }
}

TEST_CASE_TEMPLATE("values: values beyond a row's limits that are not finite are never used", T, float, double) {
  for (int vectors = 1; vectors <= most_vectors; ++vectors) {
    for (const T bad : {quiet_nan<T>, infinity<T>, -infinity<T>}) {
      Block<T> block(20);
      std::vector<int> first, last;
      for (int r = 0; r < block.tile_rows; ++r) {
        first.push_back(std::min(r / 3, 8));
        last.push_back(std::min(6 + r / 2, 20));
        for (int j = 0; j < block.keys; ++j) {
          if (j < first.back() || j >= last.back()) block.weights.data()[j * block.tile_rows + r] = T(0);
        }
      }
      auto arguments = block.arguments(block.tile_rows, vectors);
      arguments.first = vectors % 2 == 0;
      arguments.factor = block.factor.data();
      for (const bool begins : {false, true}) {
        for (const bool ends : {false, true}) {
          if (!begins && !ends) continue;
          arguments.first_key = begins ? first.data() : nullptr;
          arguments.last_key = ends ? last.data() : nullptr;
          for (const int key : {0, 2, 9, 14, 19}) {
            block.reset_output();
            kernels<T>().values(arguments);
            const std::vector<T> good_output = copied(block.output.data(), block.output.size());
            T& value = block.values.data()[key * block.features + block.features - 1];
            const T good = value;
            value = bad;
            block.reset_output();
            kernels<T>().values(arguments);
            value = good;
            bool used = true;
            for (int r = 0; r < block.tile_rows; ++r) {
              const bool attends = (!begins || key >= first[static_cast<std::size_t>(r)]) &&
                                   (!ends || key < last[static_cast<std::size_t>(r)]);
              if (!attends) continue;
              T& element = arguments.output[r][vectors * kernels<T>().lanes - 1];
              used = used && !std::isfinite(element);
              element = good_output[static_cast<std::size_t>(&element - block.output.data())];
            }
            CAPTURE(vectors);
            CAPTURE(key);
            CHECK(used);
            CHECK(same_bits(copied(block.output.data(), block.output.size()), good_output));
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("values: negative and zero strides of the values", T, float, double) {
  Block<T> block(7);
  auto arguments = block.arguments(3, most_vectors);
  arguments.value = {block.values.data() + 6 * block.features, -block.features};
  kernels<T>().values(arguments);
  const std::vector<T> backwards = output_row(arguments, 1);
  Block<T> turned(7);
  for (int j = 0; j < 7; ++j) {
    std::copy_n(block.values.data() + (6 - j) * block.features, block.features,
                turned.values.data() + j * block.features);
  }
  const auto forwards = turned.arguments(3, most_vectors);
  kernels<T>().values(forwards);
  check_output(turned, forwards);
  CHECK(same_bits(output_row(forwards, 1), backwards));
  arguments.value.stride = 0;
  kernels<T>().values(arguments);
  Block<T> equal(7);
  for (int j = 0; j < 7; ++j) {
    std::copy_n(block.values.data() + 6 * block.features, block.features, equal.values.data() + j * block.features);
  }
  const auto repeated = equal.arguments(3, most_vectors);
  kernels<T>().values(repeated);
  CHECK(same_bits(output_row(repeated, 1), output_row(arguments, 1)));
}

}  // namespace
}  // namespace headwise::test
