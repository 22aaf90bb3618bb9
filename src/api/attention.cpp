#include "headwise/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "api/call_shape.hpp"
#include "api/validate.hpp"
#include "drivers/decode.hpp"
#include "drivers/prefill.hpp"
#include "kernels/dispatch.hpp"
#include "plan/tile_plan.hpp"
#include "platform/parallel.hpp"
#include "platform/task_environment.hpp"
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

/// The stride of an axis with at most one element may hold anything; the drivers get 0, which broadcasts inputs and is
/// safe to multiply; likewise where the pointer is null, as it may be of a view without elements. `last`: the stride of
/// such a last axis.
template <class T, int Rank>
void make_strides_plain(TensorView<T, Rank>& view, std::int64_t last = 0) {
  const std::int64_t unused = view.data == nullptr ? std::numeric_limits<std::int64_t>::max() : 1;
#pragma GCC unroll 4
  for (std::size_t axis = 0; axis < Rank; ++axis) {
    if (view.extents[axis] <= unused) view.strides[axis] = axis + 1 == Rank ? last : 0;
  }
}

template <class View>
void make_strides_plain(std::optional<View>& view) {
  if (view) make_strides_plain(*view);
}

template <class T, class KV>
AttentionArguments<T, KV> with_plain_strides(const AttentionArguments<T, KV>& given) {
  AttentionArguments<T, KV> arguments = given;
  // A single feature lies next to the one that is not there: the fast path.
  make_strides_plain(arguments.query, 1);
  make_strides_plain(arguments.key, 1);
  make_strides_plain(arguments.value, 1);
  make_strides_plain(arguments.output, 1);
  make_strides_plain(arguments.mask);
  make_strides_plain(arguments.bias);
  make_strides_plain(arguments.key_padding_mask);
  make_strides_plain(arguments.logsumexp);
  make_strides_plain(arguments.weights);
  make_strides_plain(arguments.mean_weights);
  make_strides_plain(arguments.scores);
  return arguments;
}

/// Multiply-adds of a call, to decide whether threads pay.
double work(const AttentionShape& shape) {
  return static_cast<double>(shape.batch) * static_cast<double>(shape.num_heads) *
         static_cast<double>(shape.query_length) * static_cast<double>(shape.key_length) *
         static_cast<double>(shape.head_dim + shape.value_dim);
}

/// Which kernels the sequences of a call take; only ragged batches mix them.
struct Paths {
  bool row_dot;
  bool query_tile;
};

template <class T, class KV>
Paths paths_of(const AttentionCall<T, KV>& call) {
  Paths paths{false, false};
  const std::int64_t sequences = call.is_ragged() ? call.shape.batch : 1;
  for (std::int64_t b = 0; b < sequences; ++b) {
    const bool row_dot = call.path(call.sequence(b)) == KernelPath::row_dot;
    paths.row_dot = paths.row_dot || row_dot;
    paths.query_tile = paths.query_tile || !row_dot;
  }
  return paths;
}

/// What a plan's workspace must hold beside the drivers' own: saved rows of the mean weights.
template <class T>
std::size_t saved_bytes(const AttentionShape& shape) {
  detail::Carver carver;
  const auto rows = static_cast<std::size_t>(shape.batch * shape.num_heads * shape.query_length);
  carver.take<T>(rows);
  carver.take<T>(rows);
  return carver.used();
}

/// What a workspace must have for any call of a shape.
template <class T, class KV>
std::size_t most_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, int num_threads) {
  const std::size_t decode = detail::decode_workspace_bytes(shape, kernels, num_threads);
  const std::size_t prefill = detail::prefill_workspace_bytes(shape, kernels, num_threads);
  return detail::workspace_mark_bytes + std::max(decode, prefill) + saved_bytes<T>(shape);
}

/// Computes a checked call; `memory` holds what workspace_of says.
template <class T, class KV>
void compute(const AttentionCall<T, KV>& call, std::byte* memory) {
  detail::Carver carver(memory);
  detail::SavedRows<T> saved{};
  if (call.arguments.mean_weights) {
    const auto rows = static_cast<std::size_t>(call.shape.batch * call.shape.num_heads * call.shape.query_length);
    saved = {carver.take<T>(rows), carver.take<T>(rows)};
  }
  const Paths paths = paths_of(call);
  if (paths.row_dot) detail::run_decode(call, memory + carver.used());
  if (paths.query_tile) detail::run_prefill(call, saved, memory + carver.used());
  if (paths.query_tile && call.arguments.mean_weights) detail::run_mean_weights(call, saved, memory + carver.used());
}

/// Bytes that compute() needs.
template <class T, class KV>
std::size_t bytes_of(const AttentionCall<T, KV>& call) {
  const Paths paths = paths_of(call);
  std::size_t bytes = 0;
  if (paths.row_dot) bytes = detail::decode_workspace_bytes(call);
  if (paths.query_tile) {
    bytes = std::max(bytes, detail::prefill_workspace_bytes(call));
  }
  return bytes + (call.arguments.mean_weights ? saved_bytes<T>(call.shape) : 0);
}

}  // namespace

template <class T, class KV>
AttentionPlan<T, KV>::AttentionPlan(const AttentionShape& shape, const AttentionOptions& options)
    : shape_(shape), options_(options), kernels_(detail::kernel_table<T, KV>(detail::active_instruction_set())) {
  detail::validate_shape(shape);
  detail::validate_options<T>(options);
  if (options_.num_threads == 0) options_.num_threads = detail::default_num_threads();
  workspace_bytes_ = has_no_rows(shape) ? 0 : most_bytes(shape, *kernels_, options_.num_threads);
}

template <class T, class KV>
KernelPath AttentionPlan<T, KV>::path(std::int64_t query_length, std::int64_t) const {
  const std::int64_t group = shape_.num_kv_heads == 0 ? 1 : shape_.num_heads / shape_.num_kv_heads;
  return detail::choose_path(detail::folded_rows(query_length, group), kernels_->lanes);
}

template <class T, class KV>
void AttentionPlan<T, KV>::run(const AttentionArguments<T, KV>& arguments, std::span<std::byte> workspace) const {
  detail::validate_arguments(shape_, options_, arguments);
  const bool allocates = workspace.data() == nullptr && workspace.empty();
  if (!allocates) detail::validate_workspace(workspace, workspace_bytes());
  if (has_no_rows(shape_)) return;
  const bool rows_only = !arguments.logsumexp && !arguments.weights && !arguments.mean_weights && !arguments.scores;
  if (shape_.value_dim == 0 && rows_only) return;
  const detail::TaskEnvironment environment;  // the default scale is computed here
  AttentionShape shape = shape_;
  // A ragged call and one over runs know their own lengths; else the key view tells this call's.
  if (arguments.query_starts.empty() && arguments.key_runs.empty()) shape.key_length = arguments.key.extent(2);
  const AttentionArguments<T, KV> plain = with_plain_strides(arguments);
  const AttentionCall<T, KV> call{.shape = shape,
                                  .options = options_,
                                  .arguments = plain,
                                  .kernels = *kernels_,
                                  .scale = options_.scale.value_or(1 / std::sqrt(static_cast<double>(shape.head_dim))),
                                  .num_threads = work(shape) < detail::serial_work ? 1 : options_.num_threads};
  const detail::Workspace memory(workspace, allocates ? bytes_of(call) : 0);
  compute(call, memory.data());
}

template <class T, class KV>
void attention(const AttentionArguments<T, KV>& arguments, const AttentionOptions& options) {
  AttentionPlan<T, KV>(detail::shape_of(arguments), options).run(arguments);
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
