// The pure functions that decide about projections, as tables.
#include "plan/projection_plan.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>

namespace headwise::test {

TEST_CASE("projection_plan: which products are BLAS's") {
  struct Case {
    std::int64_t rows;
    int kernel_bytes, blas_bytes;
    bool own;
  };
  for (const Case& c : {Case{1, 64, 64, true},
                        {1, 16, 64, true},
                        {511, 64, 64, true},
                        {512, 64, 64, false},
                        {512, 64, 32, true},
                        {100000, 64, 16, true},
                        {100000, 16, 16, false},
                        {100000, 16, 64, false}}) {
    CAPTURE(c.rows);
    CAPTURE(c.kernel_bytes);
    CAPTURE(c.blas_bytes);
    CHECK(detail::multiplies_itself(c.rows, c.kernel_bytes, c.blas_bytes) == c.own);
  }
}

TEST_CASE("projection_plan: few rows go by rows of the weight if those are whole vectors, packed weights by panels") {
  struct Case {
    std::int64_t rows, columns, inner;
    bool packed, transposed;
    detail::ProductPath path;
  };
  using enum detail::ProductPath;
  for (const Case& c : {Case{1, 65, 64, false, true, rows},
                        {8, 65, 64, false, true, rows},
                        {9, 65, 64, false, true, panels},
                        {8, 64, 65, false, true, panels},
                        {8, 64, 8, false, true, panels},
                        {8, 64, std::int64_t{1} << 24, false, true, rows},
                        {8, 64, (std::int64_t{1} << 24) + 16, false, true, panels},
                        {8, 64, (std::int64_t{1} << 24) + 16, false, false, panels},
                        {16, 64, 65, false, false, rows},
                        {17, 64, 65, false, false, panels},
                        {16, 65, 64, false, false, panels},
                        {8, 64, 64, true, true, panels},
                        {8, 64, 64, true, false, panels},
                        {511, 64, 64, false, true, panels},
                        {512, 64, 64, false, true, blas},
                        {512, 64, 64, true, false, panels}}) {
    CAPTURE(c.rows);
    CAPTURE(c.columns);
    CAPTURE(c.inner);
    CHECK(detail::product_path(c.rows, c.columns, c.inner, {c.packed, c.transposed, 4, 64, 64}) == c.path);
  }
  CHECK(detail::product_path(512, 64, 64, {false, true, 4, 64, 32}) == panels);
}

TEST_CASE("projection_plan: columns of a task of few rows") {
  CHECK(detail::row_product_columns(2304, true, 2) == 64);
  CHECK(detail::row_product_columns(2304, false, 1) == 1024);
  CHECK(detail::row_product_columns(2304, false, 2) == 576);
  CHECK(detail::row_product_columns(70, false, 1) == 128);
  CHECK(detail::row_product_columns(8, false, 64) == 64);
  CHECK(detail::row_product_columns(0, false, 2) == 64);
}

TEST_CASE("projection_plan: threads of few rows have columns to compute") {
  CHECK(detail::row_product_threads(2304, 2) == 2);
  CHECK(detail::row_product_threads(2304, std::numeric_limits<int>::max()) == 36);
  CHECK(detail::row_product_threads(65, 64) == 2);
  CHECK(detail::row_product_threads(0, 64) == 1);
}

TEST_CASE("projection_plan: blocks and panels cover the product, pieces are alike, threads have enough to do") {
  for (const std::int64_t rows : {8, 64, 127, 128, 500, 513, 4096}) {
    for (const std::int64_t columns : {1, 63, 64, 65, 768, 2304}) {
      for (const std::int64_t inner : {1, 767, 768, 769, 4096}) {
        for (const int threads : {1, 2, 64}) {
          const bool packed = threads == 2;
          CAPTURE(rows);
          CAPTURE(columns);
          CAPTURE(inner);
          CAPTURE(threads);
          const detail::PanelPlan plan = detail::plan_panels(rows, columns, inner, 64, 4, threads, packed);
          CHECK(plan.rows >= std::min<std::int64_t>(rows, 64));
          CHECK(plan.blocks == (rows + plan.rows - 1) / plan.rows);
          CHECK(plan.panels == (columns + 63) / 64);
          const std::int64_t most_inner = rows < 256 && !packed ? 128 : 768;
          CHECK(plan.inner <= most_inner);
          CHECK((inner + plan.inner - 1) / plan.inner == (inner + most_inner - 1) / most_inner);
          CHECK(plan.threads <= plan.most_threads);
          CHECK(plan.threads <= plan.tasks());
          const std::int64_t most_tasks = (rows + 63) / 64 * plan.panels;  // of these rows or fewer
          CHECK(plan.tasks() <= most_tasks);
          CHECK(plan.most_threads == (rows * columns * inner < 400000 ? 1 : std::min<std::int64_t>(threads, most_tasks)));
        }
      }
    }
  }
}

TEST_CASE("projection_plan: a product without rows or columns has no tasks") {
  CHECK(detail::plan_panels(0, 64, 64, 64, 4, 2, false).tasks() == 0);
  CHECK(detail::plan_panels(64, 0, 64, 64, 4, 2, false).tasks() == 0);
}

}  // namespace headwise::test
