/// \file
/// [batch, tokens, features] tensors in the layouts that projections read and write.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "support/guarded_buffer.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

/// Where the rows of [batch, tokens, features] lie.
enum class Rows {
  dense,
  gaps,         ///< between rows, at one stride over the whole batch
  batch_gaps,   ///< between batch entries
  tokens_first  ///< [tokens, batch, features] in memory
};

inline constexpr std::array all_rows{Rows::dense, Rows::gaps, Rows::batch_gaps, Rows::tokens_first};

/// A tensor of its own memory, all poison, that ends at an unreadable page.
template <class T>
Tensor<T, 3> make_rows(Rows rows, const std::array<std::int64_t, 3>& extents) {
  const auto& [batch, tokens, features] = extents;
  const std::int64_t row = rows == Rows::gaps ? features + 5 : features;
  const std::int64_t entry = rows == Rows::batch_gaps ? tokens * row + 7 : tokens * row;
  TensorView<T, 3> view{nullptr, extents, {entry, row, 1}};
  if (rows == Rows::tokens_first) view.strides = {features, batch * features, 1};
  std::int64_t size = view.empty() ? 0 : 1;
  for (int axis = 0; axis < 3 && !view.empty(); ++axis) size += (view.extent(axis) - 1) * view.stride(axis);
  auto buffer = std::make_shared<GuardedBuffer<T>>(size, Placement::before_guard);
  view.data = buffer->data();
  return {buffer, view};
}

}  // namespace headwise::test
