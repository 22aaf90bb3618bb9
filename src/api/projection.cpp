#include "drivers/projection.hpp"

#include "api/error.hpp"
#include "api/validate_layer.hpp"
#include "platform/parallel.hpp"
#include "platform/workspace.hpp"

namespace headwise {
inline namespace v0 {

template <class T>
void project(std::type_identity_t<TensorView<const T, 3>> input, const Projection<T>& projection,
             TensorView<T, 3> output, int num_threads) {
  detail::validate_projection(input, projection, output, num_threads);
  // Resolved once: what OpenMP would use may change in between.
  const int threads = num_threads > 0 ? num_threads : detail::default_num_threads();
  const std::int64_t rows = output.extent(0) * output.extent(1);
  const detail::Workspace workspace({}, detail::projection_workspace_bytes(rows, projection, threads));
  detail::run_projection(input, projection, output, threads, workspace.data());
}

template <class T>
Projection<T> pack_weight(const Projection<T>& projection) {
  detail::validate_packable(projection);
  return detail::packed_projection(projection);
}

template <class T>
TensorView<T, 4> split_heads(const TensorView<T, 3>& tokens, std::int64_t num_heads) {
  const std::int64_t features = tokens.extent(2);
  if (num_heads < 1 || features % num_heads != 0) {
    detail::refuse("num_heads", num_heads, "a divisor of tokens.extent(2) (" + std::to_string(features) + ")");
  }
  const std::int64_t dim = features / num_heads;
  return {tokens.data,
          {tokens.extent(0), num_heads, tokens.extent(1), dim},
          {tokens.stride(0), dim * tokens.stride(2), tokens.stride(1), tokens.stride(2)}};
}

template void project<float>(TensorView<const float, 3>, const Projection<float>&, TensorView<float, 3>, int);
template void project<double>(TensorView<const double, 3>, const Projection<double>&, TensorView<double, 3>, int);
template Projection<float> pack_weight(const Projection<float>&);
template Projection<double> pack_weight(const Projection<double>&);
template TensorView<float, 4> split_heads(const TensorView<float, 3>&, std::int64_t);
template TensorView<double, 4> split_heads(const TensorView<double, 3>&, std::int64_t);
template TensorView<const float, 4> split_heads(const TensorView<const float, 3>&, std::int64_t);
template TensorView<const double, 4> split_heads(const TensorView<const double, 3>&, std::int64_t);

}  // namespace v0
}  // namespace headwise
