// Panels of a matrix product, against sums in a wider type: every register tile, partial vectors, both starts.
#include <doctest/doctest.h>

#include "kernels/kernel_test.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

constexpr int most_rows = 35;  // more than two of the largest register tiles

/// Operands and result of which every row ends at an unreadable page or a gap.
template <class T>
struct Product {
  Product(int column_count, int inner_count)
      : columns(column_count),
        inner(inner_count),
        width((columns + kernels<T>().lanes - 1) / kernels<T>().lanes * kernels<T>().lanes),
        left(std::int64_t{most_rows} * inner, Placement::before_guard),
        right(std::int64_t{inner} * width, Placement::before_guard),
        start(width, Placement::before_guard),
        result(most_rows * stride() - 1, Placement::before_guard) {
    Random random(3);
    for (const auto* operand : {&left, &right, &start}) fill_normal(random, *operand);
    for (int i = 0; i < inner; ++i) std::fill(right.data() + i * width + columns, right.data() + (i + 1) * width, T(0));
  }

  /// An element of poison between the rows.
  std::int64_t stride() const { return columns + 1; }

  T before(int row, int column) const { return static_cast<T>(row) - T(0.25) * static_cast<T>(column); }

  /// The last `rows` rows, so that the last one ends at an unreadable page.
  void multiply(int rows, bool from_start) {
    result.poison();
    first = most_rows - rows;
    for (int r = first; r < most_rows; ++r) {
      for (int c = 0; c < columns && !from_start; ++c) result.data()[r * stride() + c] = before(r, c);
    }
    kernels<T>().multiply_panel({.left = left.data() + std::int64_t{first} * inner,
                                 .left_stride = inner,
                                 .rows = rows,
                                 .inner = inner,
                                 .right = right.data(),
                                 .right_stride = width,
                                 .start = from_start ? start.data() : nullptr,
                                 .result = result.data() + first * stride(),
                                 .result_stride = stride(),
                                 .columns = columns,
                                 .ahead = {right.data() + right.size(), 1 << 20},  // prefetching never faults
                                 .ahead_rows = 3});
  }

  double worst_share(bool from_start) const {
    ErrorShare share;
    for (int r = first; r < most_rows; ++r) {
      for (int c = 0; c < columns; ++c) {
        const Wide<T> begin = from_start ? start.data()[c] : before(r, c);
        Wide<T> sum = begin, magnitude = std::abs(begin);
        for (int i = 0; i < inner; ++i) {
          const Wide<T> term = Wide<T>(left.data()[r * inner + i]) * Wide<T>(right.data()[i * width + c]);
          sum += term;
          magnitude += std::abs(term);
        }
        // A rounding for each product and sum.
        share.add(Wide<T>(result.data()[r * stride() + c]), sum,
                  (2 * inner + 1) * Wide<T>(std::numeric_limits<T>::epsilon()) / 2 * magnitude);
      }
    }
    return share.largest();
  }

  bool gaps_untouched() const {
    for (std::int64_t i = 0; i < result.size(); ++i) {
      const bool outside = i < first * stride() || i % stride() == columns;
      if (outside && !is_poison(result.data()[i])) return false;
    }
    return true;
  }

  int columns, inner, width, first = 0;
  GuardedBuffer<T> left, right, start, result;
};

}  // namespace

TEST_CASE_TEMPLATE("multiply_panel: any number of rows, columns and products", T, float, double) {
  for (const int inner : {1, 5, 16, 37}) {
    for (int columns = 1; columns <= kernels<T>().tile_rows; ++columns) {
      Product<T> product(columns, inner);
      for (const int rows : {1, 2, 3, 5, 7, 12, 16, 31, most_rows}) {
        for (const bool from_start : {true, false}) {
          CAPTURE(inner);
          CAPTURE(columns);
          CAPTURE(rows);
          CAPTURE(from_start);
          product.multiply(rows, from_start);
          REQUIRE(product.worst_share(from_start) <= 1);
          REQUIRE(product.gaps_untouched());
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("multiply_panel: a row's bits do not depend on how many rows there are", T, float, double) {
  Product<T> product(kernels<T>().tile_rows - 1, 29);
  product.multiply(most_rows, true);
  const std::vector<T> all = copied(product.result.data(), product.result.size());
  for (int rows = 1; rows < most_rows; ++rows) {
    product.multiply(rows, true);
    const std::int64_t begin = product.first * product.stride(), count = product.result.size() - begin;
    CAPTURE(rows);
    REQUIRE(same_bits(copied(product.result.data() + begin, count), copied(all.data() + begin, count)));
  }
}

}  // namespace headwise::test
