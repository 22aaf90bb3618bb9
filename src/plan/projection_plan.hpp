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

constexpr std::int64_t parts_of(std::int64_t length, std::int64_t part) { return (length + part - 1) / part; }

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
  const double products = static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(inner);
  if (products >= serial_work) plan.most_threads = num_threads;
  const std::int64_t wanted = plan.most_threads > 1 ? 4 * std::int64_t{plan.most_threads} : 1;  // tasks
  while (parts_of(rows, plan.rows) * plan.panels < wanted && plan.rows >= 2 * fewest_rows) plan.rows /= 2;
  plan.blocks = parts_of(rows, plan.rows);
  plan.threads = static_cast<int>(std::min<std::int64_t>(plan.most_threads, plan.tasks()));
  return plan;
}

}  // namespace headwise::detail
