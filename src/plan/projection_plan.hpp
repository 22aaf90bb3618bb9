// Decisions about projections: which matrix products are BLAS's and which are computed by headwise's own kernel, and how
// the latter are cut. Pure functions.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "plan/tile_plan.hpp"

namespace headwise::detail {

/// Rows from which an OpenBLAS with kernels for the processor's vectors is ahead, by 1 to 3 % of peak. With fewer its
/// copies of the weights weigh more: 8 rows × 768 × 2304 19 against 25 % of peak, 128 × 512 × 1536 70 against 76 %,
/// 64 × 64 × 64 53 against 81 % (AVX-512, OpenBLAS 0.3.21).
constexpr std::int64_t blas_rows = 512;

/// Whether headwise computes a product itself. An OpenBLAS older than the processor takes it for one of 2004 and computes
/// on a fifth of its speed: 0.3.21, Debian 12's, does so on Emerald Rapids.
constexpr bool multiplies_itself(std::int64_t rows, int kernel_vector_bytes, int blas_vector_bytes) {
  return rows < blas_rows || blas_vector_bytes < kernel_vector_bytes;
}

/// Up to which number of rows a weight is read where it lies instead of packed in panels. 768 × 2304 on Zen 1, transposed:
/// 1 row 3.2 times as fast, 2 2.6, 4 1.9, 8 1.3, 12 equal; else 1 row 2.3, 4 1.9, 8 1.5, 16 1.1, 24 equal (4096 × 4096:
/// 3.7, 3.6, 2.6, 1.9, 1.5).
constexpr std::int64_t few_rows(bool transposed) { return transposed ? 8 : 16; }

/// What computes a product: BLAS, or headwise by panels of columns or by rows of the weight.
enum class ProductPath { blas, panels, rows };

/// How a weight lies and what vectors there are.
struct ProductTraits {
  bool packed;      ///< in panels already
  bool transposed;  ///< [outputs, inputs]
  std::size_t element_size;
  int kernel_vector_bytes, blas_vector_bytes;
};

/// \param inner positive
constexpr ProductPath product_path(std::int64_t rows, std::int64_t columns, std::int64_t inner,
                                   const ProductTraits& traits) {
  if (traits.packed) return ProductPath::panels;
  const std::int64_t row_bytes = (traits.transposed ? inner : columns) * static_cast<std::int64_t>(traits.element_size);
  const bool whole_vectors = row_bytes % traits.kernel_vector_bytes == 0;
  if (rows <= few_rows(traits.transposed) && whole_vectors && inner <= most_features) return ProductPath::rows;
  return multiplies_itself(rows, traits.kernel_vector_bytes, traits.blas_vector_bytes) ? ProductPath::panels
                                                                                        : ProductPath::blas;
}

/// Threads for a product.
constexpr int product_threads(std::int64_t rows, std::int64_t columns, std::int64_t inner, int num_threads) {
  const double products = static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(inner);
  return products >= serial_work ? num_threads : 1;
}

/// The widest panel of any instruction set.
constexpr int most_panel_columns = 64;

/// How a product is cut: tasks of a panel of columns × a block of rows; a panel is packed in pieces of `inner`.
struct PanelPlan {
  std::int64_t rows;     ///< of a block
  std::int64_t blocks;
  std::int64_t columns;  ///< of a panel
  std::int64_t panels;
  int inner;
  int threads;
  int most_threads;  ///< of this product or one of fewer rows
  bool packed;       ///< the panels are there; else each is packed by the task that needs it

  std::int64_t tasks() const { return blocks * panels; }
};

/// \param panel_columns of the kernel's widest panel
/// \param packed whether the panels are there already
inline PanelPlan plan_panels(std::int64_t rows, std::int64_t columns, std::int64_t inner, int panel_columns,
                             std::size_t element_size, int num_threads, bool packed) {
  // A piece of 64 columns is 192 KiB: shorter ones read and write the result more often, 128 … 512 floats lose up to 5 %
  // at 1024 rows. For few rows packing is what counts, and a piece that stays in the first level gains 2 to 3 %.
  const std::int64_t most_inner = (rows < 256 && !packed ? 512 : 3072) / static_cast<std::int64_t>(element_size);
  // Rows of 768 floats fill three quarters of a second-level cache of 2 MiB.
  constexpr std::int64_t most_rows = 512, fewest_rows = 64;
  // A product without rows or columns has no panel either, but parts need a length.
  PanelPlan plan{.rows = std::clamp<std::int64_t>(rows, 1, most_rows),
                 .blocks = 1,
                 .columns = std::clamp<std::int64_t>(columns, 1, panel_columns),
                 .panels = parts_of(columns, panel_columns),
                 .inner = static_cast<int>(parts_of(inner, parts_of(inner, most_inner))),
                 .threads = 1,
                 .most_threads = 1,
                 .packed = packed};
  const std::int64_t most_tasks = parts_of(std::max<std::int64_t>(rows, 1), fewest_rows) * std::max<std::int64_t>(plan.panels, 1);
  plan.most_threads =
      static_cast<int>(std::min<std::int64_t>(product_threads(rows, columns, inner, num_threads), most_tasks));
  const std::int64_t wanted = plan.most_threads > 1 ? 4 * std::int64_t{plan.most_threads} : 1;  // tasks
  while (parts_of(rows, plan.rows) * plan.panels < wanted && plan.rows >= 2 * fewest_rows) plan.rows /= 2;
  plan.blocks = parts_of(rows, plan.rows);
  plan.threads = static_cast<int>(std::min<std::int64_t>(plan.most_threads, plan.tasks()));
  return plan;
}

/// Fewest columns of a task of the rows' path, so that there are at most so many threads.
constexpr std::int64_t least_task_columns = 64;
constexpr int row_product_threads(std::int64_t columns, int num_threads) {
  const std::int64_t most = parts_of(columns < 1 ? 1 : columns, least_task_columns);
  return num_threads < most ? num_threads : static_cast<int>(most);
}

/// Columns of a task of the rows' path: those of a transposed weight are rows to read; else a page of each row, or less
/// where threads would have nothing to do.
constexpr std::int64_t row_product_columns(std::int64_t columns, bool transposed, int threads) {
  constexpr std::int64_t most = 1024, least = least_task_columns;
  if (transposed) return least;
  const std::int64_t wanted = threads > 1 ? parts_of(columns, std::int64_t{2} * threads) : columns;
  return std::clamp((wanted + least - 1) / least * least, least, most);
}

}  // namespace headwise::detail
