#include "drivers/kv_cache.hpp"

#include <algorithm>

#include "drivers/rotary.hpp"
#include "platform/parallel.hpp"

namespace headwise::detail {
namespace {

template <class T>
void copy_row(const T* from, std::int64_t stride, std::int64_t features, T* to) {
  if (stride == 1) {
    std::copy_n(from, features, to);
  } else {
    for (std::int64_t i = 0; i < features; ++i) to[i] = from[i * stride];
  }
}

/// \param slot of token t in sequence b
template <class T>
void copy_token(const TensorView<const T, 4>& from, std::int64_t b, std::int64_t t, const TensorView<T, 4>& slots,
                std::int64_t slot) {
  if (slots.extent(3) == 0) return;
  for (std::int64_t h = 0; h < slots.extent(1); ++h) {
    copy_row(&from(b, h, t, 0), from.stride(3), slots.extent(3), &slots(b, h, slot, 0));
  }
}

}  // namespace

template <class T>
void store_tokens(const NewTokens<T>& tokens, const std::optional<RotaryOptions>& rotary,
                  const std::optional<RotaryTable<T>>& table) {
  const std::int64_t batch = tokens.key_slots.extent(0), num_heads = tokens.key_slots.extent(1);
  const std::int64_t capacity = tokens.key_slots.extent(2), head_dim = tokens.key_slots.extent(3);
  const std::int64_t token_elements = num_heads * (head_dim + tokens.value_slots.extent(3));
  const std::int64_t task_tokens =
      std::max(rotary_task_elements / std::max(token_elements, std::int64_t{1}), std::int64_t{1});
  const auto tasks_of = [&](std::int64_t count) { return (count + task_tokens - 1) / task_tokens; };

  std::optional<RowRotation<T>> rotation;
  int threads = 1;
  if (rotary) {
    const int wanted = rotary->num_threads > 0 ? rotary->num_threads : default_num_threads();
    const std::int64_t most_tasks = tasks_of(std::min(tokens.key.extent(2), capacity));
    threads = static_cast<int>(std::clamp<std::int64_t>(most_tasks, 1, wanted));
    rotation.emplace(*rotary, head_dim, table, threads);
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t end = tokens.count(b), begin = std::max(end - capacity, std::int64_t{0});
    const std::int64_t first_position = tokens.lengths[static_cast<std::size_t>(b)];
    parallel_for(threads, tasks_of(end - begin), [&](int thread, std::int64_t task) {
      const std::int64_t first = begin + task * task_tokens, last = std::min(end, first + task_tokens);
      for (std::int64_t t = first; t < last; ++t) {
        const std::int64_t position = first_position + t, slot = position % capacity;
        copy_token(tokens.key, b, t, tokens.key_slots, slot);
        copy_token(tokens.value, b, t, tokens.value_slots, slot);
        if (!rotation) continue;
        rotation->turn_to(thread, position);
        for (std::int64_t h = 0; h < num_heads; ++h) rotation->rotate(thread, &tokens.key_slots(b, h, slot, 0), 1);
      }
    });
  }
}

template void store_tokens(const NewTokens<float>&, const std::optional<RotaryOptions>&,
                           const std::optional<RotaryTable<float>>&);
template void store_tokens(const NewTokens<double>&, const std::optional<RotaryOptions>&,
                           const std::optional<RotaryTable<double>>&);

}  // namespace headwise::detail
