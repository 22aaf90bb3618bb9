// Products of few rows with a transposed right factor, by the kernel that decode has for queries and keys: it reads
// every row of the factor once, where it lies. An element's sum is in the same order however the product is cut and
// whatever rows are beside its own.
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

/// Columns of the product that a task computes.
constexpr std::int64_t row_product_columns = 64;

/// Left rows one after the other, and columns that each thread computes.
template <class T>
struct RowProductMemory {
  RowProductMemory(Carver carver, std::int64_t rows, std::int64_t inner, int threads)
      : left(carver.take<T>(static_cast<std::size_t>(rows * inner))),
        sums(carver.take<T>(static_cast<std::size_t>(rows * row_product_columns * threads))),
        bytes(carver.used()) {}

  T *left, *sums;
  std::size_t bytes;
};

/// C = A·B + bias, over whatever C held.
/// \param threads at most that many
/// \param memory as much as RowProductMemory says
template <class T>
void multiply_by_rows(const GemmArguments<T>& product, std::span<const T> bias, int threads, std::byte* memory) {
  const auto& kernels = panel_kernels<T>();
  const auto rows = static_cast<int>(product.rows), inner = static_cast<int>(product.inner);
  const RowProductMemory<T> buffers(Carver(memory), product.rows, product.inner, threads);
  for (int r = 0; r < rows; ++r) std::copy_n(product.a + r * product.a_stride, inner, buffers.left + r * product.inner);
  const std::int64_t tasks = parts_of(product.columns, row_product_columns);
  parallel_for(threads, tasks, [&](int thread, std::int64_t task) {
    const std::int64_t first = task * row_product_columns;
    const std::int64_t columns = std::min(row_product_columns, product.columns - first);
    T* const sums = buffers.sums + thread * product.rows * row_product_columns;
    kernels.row_scores(buffers.left, inner, rows, {product.b + first * product.b_stride, product.b_stride},
                       static_cast<int>(columns), inner / kernels.lanes, sums, row_product_columns);
    for (int r = 0; r < rows; ++r) {
      const T* const row = sums + r * row_product_columns;
      T* const result = product.c + r * product.c_stride + first;
      if (bias.empty()) {
        std::copy_n(row, columns, result);
      } else {
        for (std::int64_t c = 0; c < columns; ++c) result[c] = row[c] + bias[static_cast<std::size_t>(first + c)];
      }
    }
  });
}

}  // namespace headwise::detail
