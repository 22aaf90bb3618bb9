// The linear projections of the layer: BLAS calls over all rows of a batch.
#pragma once

#include <cstdint>
#include <optional>

#include "headwise/multi_head_attention.hpp"
#include "headwise/tensor.hpp"

namespace headwise::detail {

/// A weight matrix as BLAS takes it: the right factor, row-major [inputs, outputs], or its transpose.
struct WeightLayout {
  bool transposed;
  std::int64_t stride;  ///< elements from one row to the next
};

/// How BLAS can read the weight, or nothing where none of its strides is 1 or its rows overlap. An axis of extent 1
/// may have any stride.
template <class T>
std::optional<WeightLayout> weight_layout(const Projection<T>& projection);

/// output[b, t, :] = input[b, t, :]·W + bias, over whatever output held. The arguments satisfy what project() asks.
template <class T>
void run_projection(const TensorView<const T, 3>& input, const Projection<T>& projection,
                    const TensorView<T, 3>& output, int num_threads);

extern template std::optional<WeightLayout> weight_layout(const Projection<float>&);
extern template std::optional<WeightLayout> weight_layout(const Projection<double>&);
extern template void run_projection(const TensorView<const float, 3>&, const Projection<float>&,
                                    const TensorView<float, 3>&, int);
extern template void run_projection(const TensorView<const double, 3>&, const Projection<double>&,
                                    const TensorView<double, 3>&, int);

}  // namespace headwise::detail
