// Masks and biases of a block, against plain loops: every number of rows and keys, strides, limits, guard pages.
#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <vector>

#include "kernels/kernel_test.hpp"

namespace headwise::test {
namespace {

using detail::BlockCoverage;

/// Key counts below, at and beyond one and two words of bits, and a whole block.
constexpr std::array key_counts{1, 3, 16, 31, 32, 33, 63, 64, 65, 96, 97, 160};

/// One byte sequence per row in a buffer of its own that ends at an unreadable page.
class MaskRows {
 public:
  /// `quarters`: how many of four bytes are true.
  MaskRows(int rows, int keys, std::int64_t stride, std::int64_t quarters, std::uint64_t seed) {
    Random random(seed);
    const std::int64_t reach = (keys - 1) * std::abs(stride);
    for (int r = 0; r < rows; ++r) {
      buffers_.push_back(std::make_unique<GuardedBuffer<std::uint8_t>>(reach + 1, Placement::before_guard));
      std::uint8_t* first = buffers_.back()->data() + (stride < 0 ? reach : 0);
      for (int j = 0; j < keys; ++j) {
        // Bytes with the sign bit, without the lowest bit …: any but zero is true.
        first[j * stride] = random.below(4) < quarters ? static_cast<std::uint8_t>(1 << (j % 8)) : std::uint8_t{0};
      }
      first_.push_back(first);
    }
  }
  const std::uint8_t* const* data() const { return first_.data(); }

 private:
  std::vector<std::unique_ptr<GuardedBuffer<std::uint8_t>>> buffers_;
  std::vector<const std::uint8_t*> first_;
};

template <class T>
bool bit(const detail::KeyBits<T>* attended, int row_stride, int row, int key) {
  constexpr int bits = detail::bits_per_word<T>;
  return (attended[key / bits * row_stride + row] >> (key % bits) & 1) != 0;
}

/// Packs and compares every bit and the coverage with `attends(row, key)`.
template <class T, class Attends>
void check_mask(detail::MaskArguments<T> mask, const Attends& attends) {
  const int words = (mask.keys + detail::bits_per_word<T> - 1) / detail::bits_per_word<T>;
  const GuardedBuffer<detail::KeyBits<T>> attended(std::int64_t{words} * mask.row_stride, Placement::before_guard);
  const BlockCoverage coverage = kernels<T>().pack_mask(mask, attended.data());
  bool any_attended = false, any_excluded = false;
  for (int row = 0; row < mask.row_stride; ++row) {
    for (int key = 0; key < words * detail::bits_per_word<T>; ++key) {
      const bool expected = row < mask.num_rows && key < mask.keys && attends(row, key);
      if (bit<T>(attended.data(), mask.row_stride, row, key) != expected) {
        FAIL("row " << row << ", key " << key << ": expected " << expected);
      }
      if (row >= mask.num_rows || key >= mask.keys) continue;
      any_attended = any_attended || expected;
      any_excluded = any_excluded || !expected;
    }
  }
  CHECK(coverage.any_attended == any_attended);
  CHECK(coverage.any_excluded == any_excluded);
}

TEST_CASE_TEMPLATE("pack_mask: bits of mask, padding and limits, and what they cover", T, float, double) {
  const int tile_rows = kernels<T>().tile_rows;
  for (const int keys : key_counts) {
    for (const std::int64_t stride : {1, 2, -1}) {
      for (const int quarters : {0, 2, 4}) {
        const int rows = stride == 1 ? tile_rows : tile_rows - 1;
        const MaskRows mask(rows, keys, stride, quarters, 3), padding(1, keys, stride, 4 - quarters, 4);
        std::vector<int> first(static_cast<std::size_t>(rows)), last(static_cast<std::size_t>(rows));
        for (int r = 0; r < rows; ++r) {
          first[static_cast<std::size_t>(r)] = std::min(keys, std::max(0, r - 9));
          last[static_cast<std::size_t>(r)] = std::min(keys, r + 20);
        }
        CAPTURE(keys);
        CAPTURE(stride);
        CAPTURE(quarters);
        for (int parts = 0; parts < 8; ++parts) {
          const bool masked = (parts & 1) != 0, padded = (parts & 2) != 0, limited = (parts & 4) != 0;
          CAPTURE(parts);
          check_mask<T>({.rows = masked ? mask.data() : nullptr,
                         .key_stride = stride,
                         .padding = padded ? padding.data()[0] : nullptr,
                         .padding_stride = stride,
                         .first_key = limited ? first.data() : nullptr,
                         .last_key = limited ? last.data() : nullptr,
                         .num_rows = rows,
                         .keys = keys,
                         .row_stride = tile_rows,
                         .prefetch_next = masked},
                        [&](int row, int key) {
                          const auto r = static_cast<std::size_t>(row);
                          return (!masked || mask.data()[row][key * stride] != 0) &&
                                 (!padded || padding.data()[0][key * stride] == 0) &&
                                 (!limited || (key >= first[r] && key < last[r]));
                        });
        }
      }
    }
  }
}

/// Adds a bias to scores that are 0 in every other row, the same for all keys of the others, and compares every one of them, the
/// maxima, and what the kernels say of −∞.
template <class T>
void check_bias(const std::vector<const T*>& bias, std::int64_t key_stride, int keys, T unit, bool masked) {
  using Real = Wide<T>;
  const int rows = static_cast<int>(bias.size());
  Random random(6);
  Tile<T> tile(rows, 1, keys);
  std::fill_n(tile.query.data(), tile.query.size(), T(0));
  for (int r = 1; r < tile.row_stride; r += 2) tile.query.data()[r] = static_cast<T>(random.normal());
  if (masked) {
    std::vector<detail::KeyRange> range;
    for (int r = 0; r < rows; ++r) range.push_back({0, (r + 1) * keys / rows});
    tile.attend(range);
  }
  // Moved by an offset, as blocks behind the first are.
  const std::int64_t offset = 7;
  std::vector<const T*> moved;
  for (const T* row : bias) moved.push_back(row - offset);
  const T key = T(1);
  detail::BlockArguments<T, T> block = tile.block({&key, 0});
  block.adjustment.bias = moved.data();
  block.adjustment.bias_offset = offset;
  block.adjustment.bias_stride = key_stride;
  block.adjustment.bias_rows = rows;
  block.adjustment.unit = unit;
  // A step before the bias, whose maxima must not count.
  const std::vector<T> zeros(static_cast<std::size_t>(tile.row_stride));
  if (masked) block.adjustment.slope = block.adjustment.distance = zeros.data();
  const bool excludes = tile.spans.empty() ? false : kernels<T>().scores(block);
  bool any_attended = false, any_excluded = false, maxima = true;
  ErrorShare error;
  constexpr T most = std::numeric_limits<T>::max();
  for (int row = 0; row < rows; ++row) {
    T largest = -infinity<T>;
    bool numbers = true;
    for (int j = 0; j < keys; ++j) {
      const T given = bias[static_cast<std::size_t>(row)][j * key_stride], got = tile.score(j, row);
      any_attended = any_attended || given != -infinity<T>;
      if (!tile.covers(j, row)) continue;
      any_excluded = any_excluded || given == -infinity<T>;
      if (tile.excludes(j, row)) {
        if (got != -infinity<T>) FAIL("row " << row << ", key " << j << " is excluded but became " << got);
        continue;
      }
      largest = std::max(largest, got);
      numbers = numbers && !std::isnan(got);
      const T score = tile.query.data()[row];
      bool good = true;
      if (std::isnan(given)) {
        good = std::isnan(got);
      } else if (std::isinf(given)) {
        good = got == given;
      } else if (std::abs(given) > most / unit) {
        // A finite product that overflows is the largest number, give or take the rounding of the quotient.
        good = std::isfinite(got) && std::abs(got) >= most * (T(1) - 4 * std::numeric_limits<T>::epsilon()) &&
               std::signbit(got) == std::signbit(given);
      } else {
        const Real product = Real{given} * Real{unit}, sum = Real{score} + product;
        error.add<Real>(got, sum, rounding_unit<T> * (std::abs(product) + std::abs(sum)));
      }
      if (!good) FAIL("row " << row << ", key " << j << ": " << given << " became " << got);
    }
    maxima = maxima && (!numbers || tile.state.maximum[row] == largest);
  }
  CHECK(error.largest() <= 1);
  CHECK(maxima);
  CHECK(excludes == any_excluded);
  CHECK(kernels<T>().bias_excludes_all(moved.data(), offset, key_stride, keys, rows) == !any_attended);
}

TEST_CASE_TEMPLATE("bias: added, finite where the bias is, and what it excludes", T, float, double) {
  const T unit = static_cast<T>(1.4426950408889634);
  const int tile_rows = kernels<T>().tile_rows;
  enum class Contents { normal, special, excluded };
  for (const int keys : key_counts) {
    for (const Contents contents : {Contents::normal, Contents::special, Contents::excluded}) {
      for (const std::int64_t key_stride : {1, 2, -1}) {
        // Rows apart by a whole row, by one element as a relative bias and its transpose have them, and all the same.
        for (const std::int64_t row_step : {1000, 1, -1, 0}) {
          for (const int rows : {1, kernels<T>().lanes, tile_rows - 1, tile_rows}) {
            Random random(5);
            const std::int64_t reach = (keys - 1) * std::abs(key_stride) + (rows - 1) * std::abs(row_step);
            const GuardedBuffer<T> memory(reach + 1, Placement::before_guard);
            fill_normal(random, memory);
            if (contents == Contents::excluded) std::fill_n(memory.data(), memory.size(), -infinity<T>);
            if (contents == Contents::special) {
              const T values[] = {-infinity<T>,
                                  infinity<T>,
                                  quiet_nan<T>,
                                  std::numeric_limits<T>::lowest(),
                                  std::numeric_limits<T>::max(),
                                  T(-1e4)};
              for (std::int64_t i = 0; i < memory.size(); i += 5) memory.data()[i] = values[i / 5 % 6];
            }
            const T* first = memory.data() + (key_stride < 0 ? keys - 1 : 0) + (row_step < 0 ? rows - 1 : 0);
            std::vector<const T*> bias;
            for (int r = 0; r < rows; ++r) bias.push_back(first + r * row_step);
            CAPTURE(keys);
            CAPTURE(key_stride);
            CAPTURE(row_step);
            CAPTURE(rows);
            check_bias(bias, key_stride, keys, unit, false);
            check_bias(bias, key_stride, keys, unit, true);
            if (rows == tile_rows) check_bias(bias, key_stride, keys, T(1), false);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace headwise::test
