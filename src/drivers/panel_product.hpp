// Matrix products by headwise's own kernel: panels of the right factor are packed into workspace and multiplied by the
// rows of the left one, which are read in place. An element's sum is in the same order however the product is cut.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/dispatch.hpp"
#include "plan/projection_plan.hpp"
#include "plan/tile_plan.hpp"
#include "platform/blas.hpp"
#include "platform/parallel.hpp"
#include "platform/workspace.hpp"

namespace headwise::detail {

template <class T>
const KernelTable<T, T>& panel_kernels() {
  return *kernel_table<T, T>(active_instruction_set());
}

/// \param num_threads positive
template <class T>
PanelPlan panels_of(std::int64_t rows, std::int64_t columns, std::int64_t inner, int num_threads, bool packed) {
  return plan_panels(rows, columns, inner, panel_kernels<T>().tile_rows, sizeof(T), num_threads, packed);
}

/// The columns of a panel that the kernel computes: whole vectors.
template <class T>
int padded_columns(int columns) {
  return static_cast<int>(padded(columns, panel_kernels<T>().lanes));
}

/// panel[i][c] = B[first + i][column + c] for `inner` rows of B, 0 beyond its columns.
template <class T>
void pack_panel(const GemmArguments<T>& product, std::int64_t column, int columns, std::int64_t first, int inner,
                T* panel) {
  const int width = padded_columns<T>(columns);
  if (!product.b_transposed) {
    const T* const source = product.b + first * product.b_stride + column;
    panel_kernels<T>().pack_rows(source, product.b_stride, 1, inner, columns, panel, width);
    return;
  }
  std::array<const T*, most_panel_columns> rows;
  for (int i = 0; i < columns; ++i) {
    rows[static_cast<std::size_t>(i)] = product.b + (column + i) * product.b_stride + first;
  }
  panel_kernels<T>().pack_query(rows.data(), 1, columns, inner, T(1), panel, width);
}

/// What a thread needs to compute panels.
template <class T>
struct PanelMemory {
  PanelMemory(Carver& carver, const PanelPlan& plan)
      : right(carver.take<T>(plan.packed ? 0 : static_cast<std::size_t>(panel_kernels<T>().tile_rows * plan.inner))),
        start(carver.take<T>(static_cast<std::size_t>(panel_kernels<T>().tile_rows))) {}

  T* right;
  T* start;
};

template <class T>
std::size_t panel_bytes(const PanelPlan& plan) {
  Carver carver;
  PanelMemory<T>(carver, plan);
  return carver.used();
}

/// Computes the panels of a product, one by one, on one thread.
template <class T>
class PanelWorker {
 public:
  PanelWorker(const GemmArguments<T>& product, std::span<const T> bias, const T* packed, const PanelPlan& plan,
              PanelMemory<T> memory)
      : product_(product), bias_(bias), packed_(packed), plan_(plan), memory_(memory) {}

  void operator()(std::int64_t task) const {
    const std::int64_t row = task / plan_.panels * plan_.rows, column = task % plan_.panels * plan_.columns;
    const int columns = static_cast<int>(std::min(plan_.columns, product_.columns - column));
    const int width = padded_columns<T>(columns);
    std::fill_n(memory_.start, width, T(0));
    if (!bias_.empty()) std::copy_n(bias_.data() + column, columns, memory_.start);
    for (std::int64_t first = 0; first < product_.inner; first += plan_.inner) {
      const int inner = static_cast<int>(std::min<std::int64_t>(plan_.inner, product_.inner - first));
      PanelArguments<T> panel{.left = product_.a + row * product_.a_stride + first,
                              .left_stride = product_.a_stride,
                              .rows = static_cast<int>(std::min(plan_.rows, product_.rows - row)),
                              .inner = inner,
                              .right = plan_.packed ? packed_ + column * product_.inner + first * width : memory_.right,
                              .right_stride = width,
                              .start = first == 0 ? memory_.start : nullptr,
                              .result = product_.c + row * product_.c_stride + column,
                              .result_stride = product_.c_stride,
                              .columns = columns,
                              .ahead = {nullptr, 0},
                              .ahead_rows = 0};
      if (!plan_.packed) pack_panel(product_, column, columns, first, inner, memory_.right);
      prefetch_next(panel, column, first + inner);
      panel_kernels<T>().multiply_panel(panel);
    }
  }

 private:
  /// What this thread reads or packs next, if it may be found by rows: the same columns from row `next` of B on, or the
  /// next panel's.
  void prefetch_next(PanelArguments<T>& panel, std::int64_t column, std::int64_t next) const {
    const std::int64_t next_column = column + plan_.threads * plan_.columns;
    const bool same_panel = next < product_.inner;
    if (!same_panel && next_column >= product_.columns) return;
    if (plan_.packed) {
      const T* const next_piece = panel.right + panel.inner * panel.right_stride;
      panel.ahead = {same_panel ? next_piece : packed_ + next_column * product_.inner, panel.inner};
      panel.ahead_rows = panel.right_stride;
    } else if (product_.b_transposed) {
      panel.ahead = {product_.b + (same_panel ? column * product_.b_stride + next : next_column * product_.b_stride),
                     product_.b_stride};
      panel.ahead_rows =
          same_panel ? panel.columns : static_cast<int>(std::min(plan_.columns, product_.columns - next_column));
    }
  }

  const GemmArguments<T>& product_;
  std::span<const T> bias_;
  const T* packed_;
  const PanelPlan& plan_;
  PanelMemory<T> memory_;
};

/// C = A·B + bias, over whatever C held, with panel_bytes() · most_threads of memory.
/// \param packed B's panels one after the other where the plan says so, as PackedWeight makes them
template <class T>
void multiply_by_panels(const GemmArguments<T>& product, std::span<const T> bias, const T* packed,
                        const PanelPlan& plan, std::byte* memory) {
  const std::size_t bytes = panel_bytes<T>(plan);
  parallel_workers(plan.threads, plan.tasks(), [&](int thread) {
    Carver carver(memory + bytes * static_cast<std::size_t>(thread));
    return PanelWorker<T>(product, bias, packed, plan, PanelMemory<T>(carver, plan));
  });
}

}  // namespace headwise::detail
