// Copies into workspace tiles, against plain loops.
#include <doctest/doctest.h>

#include "kernels/kernel_test.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

/// Rows in memory of their own, features `stride` apart; the last feature of every row ends at an unreadable page.
template <class T>
class SeparateRows {
 public:
  SeparateRows(int rows, int features, std::int64_t stride) {
    Random random(7);
    const std::int64_t reach = (features - 1) * (stride < 0 ? -stride : stride);
    for (int r = 0; r < rows; ++r) {
      buffers_.push_back(std::make_unique<GuardedBuffer<T>>(reach + 1, Placement::before_guard));
      T* first = buffers_.back()->data() + (stride < 0 ? reach : 0);
      for (int f = 0; f < features; ++f) first[f * stride] = static_cast<T>(random.normal());
      first_.push_back(first);
    }
  }
  const T* const* data() const { return first_.data(); }

 private:
  std::vector<std::unique_ptr<GuardedBuffer<T>>> buffers_;
  std::vector<const T*> first_;
};

TEST_CASE_TEMPLATE("pack_query: transposed, scaled, 0 in lanes without a row", T, float, double) {
  const int tile_rows = kernels<T>().tile_rows;
  const T factor = T(0.3);
  for (const int head_dim : {1, 2, 3, 4, 5, 8, 17, 64}) {
    for (const std::int64_t stride : {1, 2, -1, -3}) {
      const SeparateRows<T> query(tile_rows, head_dim, stride);
      for (int rows = 1; rows <= tile_rows; ++rows) {
        const Tile<T> tile(rows, head_dim, 1);
        kernels<T>().pack_query(query.data(), stride, rows, head_dim, factor, tile.query.data(), tile.row_stride);
        std::vector<T> expected;
        for (int d = 0; d < head_dim; ++d) {
          for (int r = 0; r < tile.row_stride; ++r) {
            expected.push_back(r < rows ? query.data()[r][d * stride] * factor : T(0));
          }
        }
        CAPTURE(head_dim);
        CAPTURE(stride);
        CAPTURE(rows);
        REQUIRE(same_bits(copied(tile.query.data(), tile.query.size()), expected));
      }
    }
  }
}

TEST_CASE_TEMPLATE("pack_query: lanes up to a given row stride are 0", T, float, double) {
  const int row_stride = kernels<T>().tile_rows;
  const SeparateRows<T> query(1, 3, 1);
  const GuardedBuffer<T> packed(3 * row_stride, Placement::before_guard);
  kernels<T>().pack_query(query.data(), 1, 1, 3, T(1), packed.data(), row_stride);
  for (int i = 0; i < 3 * row_stride; ++i) {
    REQUIRE(packed.data()[i] == (i % row_stride == 0 ? query.data()[0][i / row_stride] : T(0)));
  }
}

TEST_CASE_TEMPLATE("pack_rows: any strides, features padded with 0", T, float, double) {
  Random random(8);
  constexpr int features = 5, rows = 4;
  for (const std::int64_t row_stride : {5, 16, 0, -16}) {
    for (const std::int64_t feature_stride : {1, 3, 0, -3}) {
      const std::int64_t row_reach = 3 * std::abs(row_stride), feature_reach = 4 * std::abs(feature_stride);
      const GuardedBuffer<T> source(row_reach + feature_reach + 1, Placement::before_guard);
      fill_normal(random, source);
      const T* first = source.data() + (row_stride < 0 ? row_reach : 0) + (feature_stride < 0 ? feature_reach : 0);
      for (const int target_stride : {5, 8, 16}) {
        const GuardedBuffer<T> target(rows * target_stride, Placement::before_guard);
        kernels<T>().pack_rows(first, row_stride, feature_stride, rows, features, target.data(), target_stride);
        std::vector<T> expected;
        for (int i = 0; i < rows * target_stride; ++i) {
          const int row = i / target_stride, feature = i % target_stride;
          expected.push_back(feature < features ? first[row * row_stride + feature * feature_stride] : T(0));
        }
        REQUIRE(same_bits(copied(target.data(), target.size()), expected));
      }
    }
  }
}

TEST_CASE_TEMPLATE("all_finite: finds a single element that is not, reads no gap", T, float, double) {
  const T lowest = std::numeric_limits<T>::lowest(), largest = std::numeric_limits<T>::max();
  for (const int features : {1, 3, 4, 16, 19, 33}) {
    constexpr int rows = 3;
    const std::int64_t stride = features + 2;
    const GuardedBuffer<T> memory((rows - 1) * stride + features, Placement::before_guard);
    for (int i = 0; i < rows * features; ++i) {
      memory.data()[i / features * stride + i % features] = i % 2 == 0 ? lowest : largest;
    }
    const auto all_finite = [&] { return kernels<T>().all_finite(memory.data(), stride, rows, features); };
    CHECK(all_finite());
    for (int i = 0; i < rows * features; ++i) {
      T& element = memory.data()[i / features * stride + i % features];
      const T before = element;
      for (const T bad : {quiet_nan<T>, infinity<T>, -infinity<T>}) {
        element = bad;
        REQUIRE_FALSE(all_finite());
      }
      element = before;
    }
    CHECK(kernels<T>().all_finite(memory.data() + memory.size(), stride, 0, features));
    CHECK(kernels<T>().all_finite(memory.data() + memory.size(), stride, rows, 0));
    CHECK(kernels<T>().all_finite(memory.data() + (rows - 1) * stride, -stride, rows, features));
    CHECK(kernels<T>().all_finite(memory.data(), 0, rows, features));
  }
}

}  // namespace
}  // namespace headwise::test
