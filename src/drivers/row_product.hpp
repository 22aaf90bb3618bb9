// Products of few rows, by the kernels that decode has for keys and values: they read every row of the right factor
// once, where it lies. An element's sum is in the same order however the product is cut and whatever rows are beside its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "drivers/panel_product.hpp"
#include "plan/projection_plan.hpp"
#include "platform/blas.hpp"
#include "platform/parallel.hpp"
#include "platform/workspace.hpp"

namespace headwise::detail {

/// Left rows one after the other, and the columns that each thread computes.
template <class T>
struct RowProductMemory {
  RowProductMemory(Carver carver, std::int64_t rows, std::int64_t inner, std::int64_t columns, int threads)
      : left(carver.take<T>(static_cast<std::size_t>(rows * inner))),
        sums(carver.take<T>(static_cast<std::size_t>(rows * columns * threads))),
        bytes(carver.used()) {}

  T *left, *sums;
  std::size_t bytes;
};

template <class T>
std::size_t row_product_bytes(std::int64_t rows, std::int64_t inner, std::int64_t columns, bool transposed,
                              int num_threads) {
  const int most_threads = row_product_threads(columns, num_threads);
  const std::int64_t task_columns = row_product_columns(columns, transposed, most_threads);
  return RowProductMemory<T>(Carver(), rows, inner, task_columns, most_threads).bytes;
}

/// C = A·B + bias, over whatever C held.
/// \param num_threads at most that many
/// \param memory row_product_bytes() for so many rows or more, and for num_threads
template <class T>
void multiply_by_rows(const GemmArguments<T>& product, std::span<const T> bias, int num_threads, std::byte* memory) {
  const auto& kernels = panel_kernels<T>();
  const auto rows = static_cast<int>(product.rows), inner = static_cast<int>(product.inner);
  const int most_threads = row_product_threads(product.columns, num_threads);
  const std::int64_t task_columns = row_product_columns(product.columns, product.b_transposed, most_threads);
  const RowProductMemory<T> buffers(Carver(memory), rows, inner, task_columns, most_threads);
  const int threads = product_threads(rows, product.columns, inner, most_threads);
  for (int r = 0; r < rows; ++r) std::copy_n(product.a + r * product.a_stride, inner, buffers.left + r * product.inner);
  parallel_for(threads, parts_of(product.columns, task_columns), [&](int thread, std::int64_t task) {
    const std::int64_t first = task * task_columns, columns = std::min(task_columns, product.columns - first);
    const auto width = static_cast<int>(task_columns);
    T* const sums = buffers.sums + thread * rows * task_columns;
    if (product.b_transposed) {
      kernels.row_scores(buffers.left, inner, rows, {product.b + first * product.b_stride, product.b_stride},
                         static_cast<int>(columns), inner / kernels.lanes, sums, width);
    }
    for (int r = 0; r < rows; ++r) {
      T* const row = sums + r * task_columns;
      for (std::int64_t c = 0; c < columns; ++c) {
        const T start = bias.empty() ? T(0) : bias[static_cast<std::size_t>(first + c)];
        row[c] = product.b_transposed ? row[c] + start : start;
      }
    }
    if (!product.b_transposed) {
      kernels.add_rows(buffers.left, inner, rows, {product.b + first, product.b_stride}, inner,
                       static_cast<int>(columns) / kernels.lanes, sums, width);
    }
    for (int r = 0; r < rows; ++r) {
      std::copy_n(sums + r * task_columns, columns, product.c + r * product.c_stride + first);
    }
  });
}

}  // namespace headwise::detail
