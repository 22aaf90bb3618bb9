#include "headwise/attention.hpp"

#include <cmath>
#include <numbers>

#include "api/validate.hpp"
#include "drivers/decode.hpp"
#include "drivers/prefill.hpp"
#include "kernels/dispatch.hpp"
#include "plan/tile_plan.hpp"
#include "platform/parallel.hpp"
#include "platform/workspace.hpp"

namespace headwise {
inline namespace v0 {
namespace {

using detail::AttentionCall;
using detail::KernelTable;

/// No row at all: nothing is computed and nothing written.
bool has_no_rows(const AttentionShape& shape) {
  return shape.batch == 0 || shape.num_heads == 0 || shape.query_length == 0;
}

/// The stride of an axis with at most one element may hold anything; the drivers get one that is safe to multiply.
template <class T, int Rank>
TensorView<T, Rank> with_plain_strides(TensorView<T, Rank> view) {
  for (std::size_t axis = 0; axis < Rank; ++axis) {
    if (view.extents[axis] <= 1) view.strides[axis] = axis + 1 == Rank ? 1 : 0;
  }
  return view;
}

template <class T, class KV>
AttentionArguments<T, KV> with_plain_strides(AttentionArguments<T, KV> arguments) {
  arguments.query = with_plain_strides(arguments.query);
  arguments.key = with_plain_strides(arguments.key);
  arguments.value = with_plain_strides(arguments.value);
  arguments.output = with_plain_strides(arguments.output);
  if (arguments.logsumexp) arguments.logsumexp = with_plain_strides(*arguments.logsumexp);
  if (arguments.weights) arguments.weights = with_plain_strides(*arguments.weights);
  return arguments;
}

template <class T, class KV>
KernelPath path_of(const AttentionShape& shape, std::int64_t query_length, const KernelTable<T, KV>& kernels) {
  const std::int64_t group = shape.num_kv_heads == 0 ? 1 : shape.num_heads / shape.num_kv_heads;
  return detail::choose_path(detail::folded_rows(query_length, group), kernels.lanes);
}

/// Multiply-adds of a call, to decide whether threads pay.
double work(const AttentionShape& shape) {
  return static_cast<double>(shape.batch) * static_cast<double>(shape.num_heads) *
         static_cast<double>(shape.query_length) * static_cast<double>(shape.key_length) *
         static_cast<double>(shape.head_dim + shape.value_dim);
}

template <class T, class KV>
AttentionShape shape_of(const AttentionArguments<T, KV>& arguments) {
  return {.batch = arguments.query.extent(0),
          .num_heads = arguments.query.extent(1),
          .num_kv_heads = arguments.key.extent(1),
          .query_length = arguments.query.extent(2),
          .key_length = arguments.key.extent(2),
          .head_dim = arguments.query.extent(3),
          .value_dim = arguments.value.extent(3)};
}

}  // namespace

template <class T, class KV>
AttentionPlan<T, KV>::AttentionPlan(const AttentionShape& shape, const AttentionOptions& options)
    : shape_(shape), options_(options), kernels_(detail::kernel_table<T, KV>(detail::active_instruction_set())) {
  detail::validate_shape(shape);
  detail::validate_options(options);
  if (options_.num_threads == 0) options_.num_threads = detail::default_num_threads();
}

template <class T, class KV>
std::size_t AttentionPlan<T, KV>::workspace_bytes() const {
  if (has_no_rows(shape_)) return 0;
  return path_of(shape_, shape_.query_length, *kernels_) == KernelPath::row_dot
             ? detail::decode_workspace_bytes(shape_, *kernels_, options_.num_threads)
             : detail::prefill_workspace_bytes(shape_, *kernels_, options_.num_threads);
}

template <class T, class KV>
KernelPath AttentionPlan<T, KV>::path(std::int64_t query_length, std::int64_t) const {
  return path_of(shape_, query_length, *kernels_);
}

template <class T, class KV>
void AttentionPlan<T, KV>::run(const AttentionArguments<T, KV>& arguments, std::span<std::byte> workspace) const {
  detail::validate_arguments(shape_, options_, arguments);
  const bool allocates = workspace.data() == nullptr && workspace.empty();
  if (!allocates) detail::validate_workspace(workspace, workspace_bytes());
  if (has_no_rows(shape_)) return;
  if (shape_.value_dim == 0 && !arguments.logsumexp && !arguments.weights) return;
  AttentionShape shape = shape_;
  shape.key_length = arguments.key.extent(2);
  const AttentionArguments<T, KV> plain = with_plain_strides(arguments);
  const double scale = options_.scale.value_or(1 / std::sqrt(static_cast<double>(shape.head_dim)));
  const AttentionCall<T, KV> call{.shape = shape,
                                  .options = options_,
                                  .arguments = plain,
                                  .kernels = *kernels_,
                                  .scale = scale * std::numbers::log2e,
                                  .num_threads = work(shape) < detail::serial_work ? 1 : options_.num_threads};
  if (path_of(shape, shape.query_length, *kernels_) == KernelPath::row_dot) {
    const detail::Workspace memory(workspace,
                                   detail::decode_workspace_bytes(shape, *kernels_, call.num_threads));
    detail::run_decode(call, memory.data());
  } else {
    const detail::Workspace memory(workspace, detail::prefill_workspace_bytes(call));
    detail::run_prefill(call, memory.data());
  }
}

template <class T, class KV>
void attention(const AttentionArguments<T, KV>& arguments, const AttentionOptions& options) {
  AttentionPlan<T, KV>(shape_of(arguments), options).run(arguments);
}

template <class T, class KV>
void attention(std::type_identity_t<TensorView<const T, 4>> query, std::type_identity_t<TensorView<const KV, 4>> key,
               std::type_identity_t<TensorView<const KV, 4>> value, TensorView<T, 4> output,
               const AttentionOptions& options) {
  attention<T, KV>(AttentionArguments<T, KV>{.query = query, .key = key, .value = value, .output = output}, options);
}

template class AttentionPlan<float>;
template class AttentionPlan<double>;
template void attention<float>(TensorView<const float, 4>, TensorView<const float, 4>, TensorView<const float, 4>,
                               TensorView<float, 4>, const AttentionOptions&);
template void attention<double>(TensorView<const double, 4>, TensorView<const double, 4>, TensorView<const double, 4>,
                                TensorView<double, 4>, const AttentionOptions&);
template void attention<float>(const AttentionArguments<float>&, const AttentionOptions&);
template void attention<double>(const AttentionArguments<double>&, const AttentionOptions&);

}  // namespace v0
}  // namespace headwise
