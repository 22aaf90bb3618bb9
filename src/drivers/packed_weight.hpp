// A weight matrix in the order in which the panel kernel reads it, and the bias that goes with it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "drivers/panel_product.hpp"
#include "platform/blas.hpp"
#include "platform/task_environment.hpp"
#include "platform/workspace.hpp"

namespace headwise::detail {

/// Panels of as many columns as the kernel takes, one after the other: panel[input][column], the last one padded with
/// zeros to whole vectors.
template <class T>
class PackedWeight {
 public:
  /// \param product its right factor, columns and inner extent
  PackedWeight(const GemmArguments<T>& product, std::span<const T> bias)
      : extents_{product.inner, product.columns}, bias_count_(bias.size()), memory_({}, carve(Carver(), product.columns, product.inner)) {
    carve(Carver(memory_.data()), product.columns, product.inner);
    const TaskEnvironment environment;
    std::copy(bias.begin(), bias.end(), bias_);
    const int panel_columns = panel_kernels<T>().tile_rows;
    for (std::int64_t column = 0; column < product.columns; column += panel_columns) {
      const int columns = static_cast<int>(std::min<std::int64_t>(panel_columns, product.columns - column));
      for (std::int64_t first = 0; first < product.inner; first += most_inner) {
        const int inner = static_cast<int>(std::min<std::int64_t>(most_inner, product.inner - first));
        pack_panel(product, column, columns, first, inner,
                   panels_ + column * product.inner + first * padded_columns<T>(columns));
      }
    }
  }

  const T* panels() const { return panels_; }
  /// Inputs and outputs of the map.
  const std::array<std::int64_t, 2>& extents() const { return extents_; }
  std::span<const T> bias() const { return {bias_, bias_count_}; }

 private:
  static constexpr std::int64_t most_inner = 1 << 20;  // what a kernel's int holds with any panel's width

  std::size_t carve(Carver carver, std::int64_t columns, std::int64_t inner) {
    const std::int64_t padded = (columns + most_panel_columns - 1) / most_panel_columns * most_panel_columns;
    panels_ = carver.take<T>(static_cast<std::size_t>(padded * inner));
    bias_ = carver.take<T>(bias_count_);
    return carver.used();
  }

  std::array<std::int64_t, 2> extents_;
  std::size_t bias_count_;
  T* panels_;
  T* bias_;
  Workspace memory_;
};

}  // namespace headwise::detail
