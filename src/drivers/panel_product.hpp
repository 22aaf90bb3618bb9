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
#include "platform/blas.hpp"
#include "platform/parallel.hpp"
#include "platform/workspace.hpp"

namespace headwise::detail {

template <class T>
const KernelTable<T, T>& panel_kernels() {
  return *kernel_table<T, T>(active_instruction_set());
}

/// Whether headwise computes the product with so many rows itself.
template <class T>
bool by_own_kernel(std::int64_t rows, std::int64_t inner) {
  return inner > 0 && multiplies_itself(rows, panel_kernels<T>().lanes * static_cast<int>(sizeof(T)), blas_vector_bytes());
}

template <class T>
PanelPlan panels_of(std::int64_t rows, std::int64_t columns, std::int64_t inner, int num_threads) {
  const int threads = num_threads > 0 ? num_threads : default_num_threads();
  return plan_panels(rows, columns, inner, panel_kernels<T>().tile_rows, sizeof(T), threads);
}

/// What a thread needs to compute panels.
template <class T>
struct PanelMemory {
  PanelMemory(Carver& carver, const PanelPlan& plan)
      : right(carver.take<T>(static_cast<std::size_t>(panel_kernels<T>().tile_rows * plan.inner))),
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
  PanelWorker(const GemmArguments<T>& product, std::span<const T> bias, const PanelPlan& plan, PanelMemory<T> memory)
      : product_(product), bias_(bias), plan_(plan), memory_(memory) {}

  void operator()(std::int64_t task) const {
    const std::int64_t row = task / plan_.panels * plan_.rows, column = task % plan_.panels * plan_.columns;
    const int columns = static_cast<int>(std::min(plan_.columns, product_.columns - column));
    const int lanes = panel_kernels<T>().lanes, width = (columns + lanes - 1) / lanes * lanes;
    std::fill_n(memory_.start, width, T(0));
    if (!bias_.empty()) std::copy_n(bias_.data() + column, columns, memory_.start);
    // What this thread packs next, if it may be found by rows: the same columns further on, or the next panel's.
    const std::int64_t next = column + plan_.threads * plan_.columns;
    for (std::int64_t first = 0; first < product_.inner; first += plan_.inner) {
      const int inner = static_cast<int>(std::min<std::int64_t>(plan_.inner, product_.inner - first));
      pack(column, columns, first, inner, width);
      PanelArguments<T> panel{.left = product_.a + row * product_.a_stride + first,
                              .left_stride = product_.a_stride,
                              .rows = static_cast<int>(std::min(plan_.rows, product_.rows - row)),
                              .inner = inner,
                              .right = memory_.right,
                              .right_stride = width,
                              .start = first == 0 ? memory_.start : nullptr,
                              .result = product_.c + row * product_.c_stride + column,
                              .result_stride = product_.c_stride,
                              .columns = columns,
                              .ahead = {nullptr, 0},
                              .ahead_rows = 0};
      if (product_.b_transposed && first + inner < product_.inner) {
        panel.ahead = {product_.b + column * product_.b_stride + first + inner, product_.b_stride};
        panel.ahead_rows = columns;
      } else if (product_.b_transposed && next < product_.columns) {
        panel.ahead = {product_.b + next * product_.b_stride, product_.b_stride};
        panel.ahead_rows = static_cast<int>(std::min(plan_.columns, product_.columns - next));
      }
      panel_kernels<T>().multiply_panel(panel);
    }
  }

 private:
  /// right[i][column] of the panel, 0 beyond its columns.
  void pack(std::int64_t column, int columns, std::int64_t first, int inner, int width) const {
    if (!product_.b_transposed) {
      panel_kernels<T>().pack_rows(product_.b + first * product_.b_stride + column, product_.b_stride, 1, inner, columns,
                             memory_.right, width);
      return;
    }
    std::array<const T*, most_panel_columns> rows;
    for (int i = 0; i < columns; ++i) {
      rows[static_cast<std::size_t>(i)] = product_.b + (column + i) * product_.b_stride + first;
    }
    panel_kernels<T>().pack_query(rows.data(), 1, columns, inner, T(1), memory_.right, width);
  }

  const GemmArguments<T>& product_;
  std::span<const T> bias_;
  const PanelPlan& plan_;
  PanelMemory<T> memory_;
};

/// C = A·B + bias, over whatever C held, with panel_bytes() · most_threads of memory.
template <class T>
void multiply_by_panels(const GemmArguments<T>& product, std::span<const T> bias, const PanelPlan& plan,
                        std::byte* memory) {
  const std::size_t bytes = panel_bytes<T>(plan);
  parallel_workers(plan.threads, plan.tasks(), [&](int thread) {
    Carver carver(memory + bytes * static_cast<std::size_t>(thread));
    return PanelWorker<T>(product, bias, plan, PanelMemory<T>(carver, plan));
  });
}

}  // namespace headwise::detail
