#include "headwise/merge.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "api/validate_views.hpp"
#include "drivers/merge.hpp"

namespace headwise {
inline namespace v0 {
namespace {

using detail::Axis;

template <class T>
void validate_merge(std::span<const PartialAttention<T>> parts, const TensorView<T, 4>& output,
                    const std::optional<TensorView<T, 3>>& logsumexp) {
  if (parts.empty()) detail::refuse("parts.size()", 0, "at least 1");
  if (parts.data() == nullptr) {
    detail::refuse("parts.data()", "null", "a pointer to " + std::to_string(parts.size()) + " parts");
  }
  const std::array<const char*, 4> meanings{"batch", "num_heads", "query_length", "value_dim"};
  std::array<Axis, 4> axes{};
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    axes[axis] = {meanings[axis], output.extents[axis]};
    if (output.extents[axis] >= 0) continue;
    detail::refuse("output.extent(" + std::to_string(axis) + ")", output.extents[axis], "at least 0");
  }
  const Axis rows[] = {axes[0], axes[1], axes[2]}, elements[] = {axes[0], axes[1], axes[2], axes[3]};
  if (logsumexp) detail::expect_extents("logsumexp", *logsumexp, rows);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    detail::expect_extents({"parts", i, "output"}, parts[i].output, elements);
    detail::expect_extents({"parts", i, "logsumexp"}, parts[i].logsumexp, rows);
  }

  detail::MemoryCheck memory;
  memory.add_output("output", output);
  memory.add_output("logsumexp", logsumexp);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    memory.add_input({"parts", i, "output"}, parts[i].output);
    memory.add_input({"parts", i, "logsumexp"}, parts[i].logsumexp);
  }
}

}  // namespace

template <class T>
void merge_attention(std::type_identity_t<std::span<const PartialAttention<T>>> parts, TensorView<T, 4> output,
                     std::type_identity_t<std::optional<TensorView<T, 3>>> logsumexp) {
  validate_merge<T>(parts, output, logsumexp);
  // Without value features, logsumexp may still be asked for.
  if (output.empty() && (!logsumexp || logsumexp->empty())) return;
  detail::run_merge(parts, output, logsumexp);
}

template void merge_attention<float>(std::span<const PartialAttention<float>>, TensorView<float, 4>,
                                     std::optional<TensorView<float, 3>>);
template void merge_attention<double>(std::span<const PartialAttention<double>>, TensorView<double, 4>,
                                      std::optional<TensorView<double, 3>>);

}  // namespace v0
}  // namespace headwise
