// The linear projections of the layer, over all rows of a batch: by BLAS, or by a kernel of headwise's own where BLAS is
// slow (plan/projection_plan.hpp).
#pragma once

#include <array>
#include <cstddef>
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

/// What pack_weight() returns. The projection satisfies what project() asks.
template <class T>
Projection<T> packed_projection(const Projection<T>& projection);

/// Inputs and outputs of a packed projection when it was packed.
template <class T>
std::array<std::int64_t, 2> packed_extents(const Projection<T>& projection);

/// Workspace of run_projection for up to `rows` rows (batch · tokens).
template <class T>
std::size_t projection_workspace_bytes(std::int64_t rows, const Projection<T>& projection, int num_threads);

/// output[b, t, :] = input[b, t, :]·W + bias, over whatever output held. The arguments satisfy what project() asks.
/// \param workspace projection_workspace_bytes() bytes, aligned as a Workspace is
template <class T>
void run_projection(const TensorView<const T, 3>& input, const Projection<T>& projection,
                    const TensorView<T, 3>& output, int num_threads, std::byte* workspace);

extern template std::optional<WeightLayout> weight_layout(const Projection<float>&);
extern template std::optional<WeightLayout> weight_layout(const Projection<double>&);
extern template Projection<float> packed_projection(const Projection<float>&);
extern template Projection<double> packed_projection(const Projection<double>&);
extern template std::array<std::int64_t, 2> packed_extents(const Projection<float>&);
extern template std::array<std::int64_t, 2> packed_extents(const Projection<double>&);
extern template std::size_t projection_workspace_bytes(std::int64_t, const Projection<float>&, int);
extern template std::size_t projection_workspace_bytes(std::int64_t, const Projection<double>&, int);
extern template void run_projection(const TensorView<const float, 3>&, const Projection<float>&,
                                    const TensorView<float, 3>&, int, std::byte*);
extern template void run_projection(const TensorView<const double, 3>&, const Projection<double>&,
                                    const TensorView<double, 3>&, int, std::byte*);

}  // namespace headwise::detail
