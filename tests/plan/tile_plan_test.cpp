// The pure functions that decide about tiles, as tables.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

#include "kernels/kernel_table.hpp"
#include "plan/tile_plan.hpp"

namespace headwise::test {
namespace {

TEST_CASE("tile_plan: the path of a number of rows") {
  struct Case {
    std::int64_t rows;
    int lanes;
    KernelPath expected;
  };
  for (const Case& c : {Case{1, 2, KernelPath::row_dot},
                        {2, 2, KernelPath::query_tile},
                        {2, 4, KernelPath::row_dot},
                        {3, 4, KernelPath::query_tile},
                        {4, 8, KernelPath::row_dot},
                        {5, 8, KernelPath::query_tile},
                        {1, 16, KernelPath::row_dot},
                        {8, 16, KernelPath::row_dot},
                        {9, 16, KernelPath::query_tile},
                        {std::int64_t{1} << 40, 16, KernelPath::query_tile}}) {
    CAPTURE(c.rows);
    CAPTURE(c.lanes);
    CHECK(detail::choose_path(c.rows, c.lanes) == c.expected);
  }
}

TEST_CASE("tile_plan: rows of a key/value head") {
  CHECK(detail::folded_rows(7, 1) == 7);
  CHECK(detail::folded_rows(7, 4) == 28);
  CHECK(detail::folded_rows(std::int64_t{1} << 33, 8) == std::int64_t{1} << 36);
}

TEST_CASE("tile_plan: whole vectors that hold so many elements") {
  for (const int lanes : {2, 4, 8, 16}) {
    for (std::int64_t elements = 0; elements < 70; ++elements) {
      CAPTURE(lanes);
      CAPTURE(elements);
      CHECK(detail::vectors_for(elements, lanes) == (elements + lanes - 1) / lanes);
      CHECK(detail::padded(elements, lanes) == detail::vectors_for(elements, lanes) * lanes);
    }
  }
  CHECK(detail::padded((std::int64_t{1} << 40) - 1, 16) == std::int64_t{1} << 40);
}

TEST_CASE("tile_plan: tiles cover all rows once, and share the rest where that changes no bit") {
  for (const int lanes : {2, 4, 8, 16}) {
    const int tile_rows = 4 * lanes;
    for (std::int64_t rows = 1; rows <= 5 * tile_rows + 1; ++rows) {
      for (const bool balanced : {false, true}) {
        std::int64_t next = 0;
        for (std::int64_t tile = 0; tile < detail::count_tiles(rows, tile_rows); ++tile) {
          const detail::TileRows range = detail::tile_range(rows, tile, tile_rows, lanes, balanced);
          CAPTURE(rows);
          CAPTURE(tile);
          REQUIRE(range.first == next);
          REQUIRE(range.count >= 1);
          REQUIRE(range.count <= tile_rows);
          if (!balanced) REQUIRE(range.first == tile * tile_rows);
          next += range.count;
        }
        REQUIRE(next == rows);
      }
    }
  }
  CHECK(detail::tile_range(77, 0, 64, 16, true).count == 48);
  CHECK(detail::tile_range(77, 0, 64, 16, false).count == 64);
  CHECK(detail::tile_range(128, 0, 64, 16, true).count == 64);
  CHECK(detail::tile_range(50, 0, 64, 16, true).count == 50);
}

TEST_CASE("tile_plan: rows that lie far apart") {
  struct Case {
    std::int64_t stride, features, element_size;
    bool expected;
  };
  for (const Case& c : {Case{64, 64, 4, false},
                        {511, 64, 4, false},
                        {512, 64, 4, true},
                        {-511, 64, 4, false},
                        {-512, 64, 4, true},
                        {255, 64, 8, false},
                        {256, 64, 8, true},
                        {0, 64, 4, false},
                        {1024, 1024, 4, false},  // side by side, however long
                        {-1024, 1024, 4, false},
                        {1025, 1024, 4, true},
                        {std::numeric_limits<std::int64_t>::max(), 64, 4, true}}) {
    CAPTURE(c.stride);
    CAPTURE(c.features);
    CAPTURE(c.element_size);
    CHECK(detail::rows_are_far(c.stride, c.features, c.element_size) == c.expected);
  }
}

TEST_CASE("tile_plan: tiles that share copies are few enough for their queries and outputs to stay in the second level") {
  CHECK(detail::tiles_together(64, 2, 4) == detail::most_tiles_together);
  CHECK(detail::tiles_together(64, 128, 4) == detail::most_tiles_together);
  CHECK(detail::tiles_together(64, 512, 4) == 8);
  CHECK(detail::tiles_together(32, 512, 8) == 8);
  CHECK(detail::tiles_together(64, 2048, 4) == 2);
  CHECK(detail::tiles_together(64, std::int64_t{1} << 40, 8) == 1);
}

TEST_CASE("tile_plan: outputs that are fetched before they are written") {
  constexpr double small = 512 * 1024, large = 2048 * 1024;  // second levels
  CHECK_FALSE(detail::is_fetched(0, small));
  CHECK_FALSE(detail::is_fetched(4.0 * 8 * 64 * 64, small));
  CHECK(detail::is_fetched(4.0 * 8 * 128 * 64, small));
  CHECK_FALSE(detail::is_fetched(4.0 * 8 * 128 * 64, large));
  CHECK(detail::is_fetched(4.0 * 8 * 512 * 64, large));
  CHECK(detail::is_fetched(0x1p60, large));
}

TEST_CASE("tile_plan: chunks of keys are whole steps, and those whole sums of the kernels") {
  CHECK(detail::chunk_keys % detail::step_keys == 0);
  CHECK(detail::step_keys % detail::row_sum_keys == 0);
}

}  // namespace
}  // namespace headwise::test
