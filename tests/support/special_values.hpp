/// \file
/// Values that few tensors hold and every one may.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "headwise/tensor.hpp"
#include "support/attention_case.hpp"

namespace headwise::test {

/// Up to three elements of a tensor become NaN, an infinity, 0, the smallest number or, in a bias, the lowest. No large
/// numbers elsewhere: products that overflow do so in the tensors' type only, not in the reference's. `source` chooses:
/// Random or Bytes.
template <class T, class Source>
void add_special_values(AttentionTensors<T>& tensors, Source& source) {
  using Limits = std::numeric_limits<T>;
  std::vector<T> specials{Limits::quiet_NaN(), Limits::denorm_min(), T(0), Limits::infinity(), -Limits::infinity()};
  std::vector<TensorView<T, 4>> views{tensors.query(), tensors.key(), tensors.value()};
  if (tensors.options().bias) views.push_back(tensors.options().bias->view);
  const std::size_t chosen = source.index(views.size());
  if (chosen == 3) specials.push_back(Limits::lowest());
  const TensorView<T, 4>& view = views[chosen];
  for (std::int64_t count = source.below(4); count > 0 && !view.empty(); --count) {
    std::array<std::int64_t, 4> at{};
    for (std::size_t axis = 0; axis < 4; ++axis) at[axis] = source.below(view.extents[axis]);
    view(at[0], at[1], at[2], at[3]) = specials[source.index(specials.size())];
  }
}

}  // namespace headwise::test
