#include "drivers/rotary.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "platform/parallel.hpp"

namespace headwise::detail {
namespace {

std::int64_t pairs_of(const RotaryOptions& options, std::int64_t dim) {
  return (options.rotary_dim == 0 ? dim : options.rotary_dim) / 2;
}

/// Frequencies, then cosines and sines of every thread.
template <class T>
std::size_t rotation_bytes(std::int64_t pairs, int num_threads) {
  const auto count = static_cast<std::size_t>(pairs);
  return round_to_alignment(count * sizeof(double)) +
         2 * static_cast<std::size_t>(num_threads) * round_to_alignment(count * sizeof(T));
}

/// Rotates the pairs (first[i·step], second[i·step]).
template <class T, class Step>
void rotate_pairs(T* first, T* second, Step step, const T* cosine, const T* sine, std::int64_t pairs) {
  for (std::int64_t i = 0; i < pairs; ++i) {
    const T x = first[i * step], y = second[i * step];
    first[i * step] = x * cosine[i] - y * sine[i];
    second[i * step] = x * sine[i] + y * cosine[i];
  }
}

}  // namespace

template <class T>
RowRotation<T>::RowRotation(const RotaryOptions& options, std::int64_t dim, const std::optional<RotaryTable<T>>& table,
                            int num_threads)
    : layout_(options.layout),
      pairs_(pairs_of(options, dim)),
      table_(table),
      memory_({}, rotation_bytes<T>(pairs_, num_threads)) {
  const auto count = static_cast<std::size_t>(pairs_);
  Carver carver(memory_.data());
  frequencies_ = carver.take<double>(count);
  turns_.reserve(static_cast<std::size_t>(num_threads));
  for (int thread = 0; thread < num_threads; ++thread) {
    turns_.push_back({std::nullopt, carver.take<T>(count), carver.take<T>(count)});
  }
  if (table) return;
  const TaskEnvironment environment;
  for (std::int64_t i = 0; i < pairs_; ++i) {
    frequencies_[i] = std::pow(options.base, -static_cast<double>(i) / static_cast<double>(pairs_));
  }
}

template <class T>
void RowRotation<T>::turn_to(int thread, std::int64_t position) {
  Turn& turn = turns_[static_cast<std::size_t>(thread)];
  if (turn.position == position) return;
  turn.position = position;
  for (std::int64_t i = 0; i < pairs_; ++i) {
    if (table_) {
      turn.cosine[i] = table_->cosine(position, i);
      turn.sine[i] = table_->sine(position, i);
    } else {
      const double angle = static_cast<double>(position) * frequencies_[i];
      turn.cosine[i] = static_cast<T>(std::cos(angle));
      turn.sine[i] = static_cast<T>(std::sin(angle));
    }
  }
}

template <class T>
void RowRotation<T>::rotate(int thread, T* row, std::int64_t stride) const {
  const Turn& turn = turns_[static_cast<std::size_t>(thread)];
  const bool half_split = layout_ == RotaryLayout::half_split;
  T* const second = row + (half_split ? pairs_ : 1) * stride;
  const auto rotate_with = [&](auto step) { rotate_pairs(row, second, step, turn.cosine, turn.sine, pairs_); };
  // A step known to the compiler lets it use vectors.
  if (stride != 1) {
    rotate_with(half_split ? stride : 2 * stride);
  } else if (half_split) {
    rotate_with(std::integral_constant<std::int64_t, 1>());
  } else {
    rotate_with(std::integral_constant<std::int64_t, 2>());
  }
}

template <class T>
void run_rotary(const TensorView<T, 4>& x, const TensorView<const std::int64_t, 2>& positions,
                const RotaryOptions& options, const std::optional<RotaryTable<T>>& table) {
  const std::int64_t batch = x.extent(0), num_heads = x.extent(1), dim = x.extent(3);
  const std::int64_t rows = batch * x.extent(2);
  const std::int64_t task_rows = std::max<std::int64_t>(rotary_task_elements / (num_heads * dim), 1);
  const std::int64_t tasks = (rows + task_rows - 1) / task_rows;
  const int wanted = options.num_threads > 0 ? options.num_threads : default_num_threads();
  const int threads = static_cast<int>(std::min<std::int64_t>(wanted, tasks));
  RowRotation<T> rotation(options, dim, table, threads);
  parallel_for(threads, tasks, [&](int thread, std::int64_t task) {
    const std::int64_t end = std::min(rows, (task + 1) * task_rows);
    for (std::int64_t row = task * task_rows; row < end; ++row) {
      // The batch entries of a token one after the other: they often share its position.
      const std::int64_t b = row % batch, t = row / batch;
      rotation.turn_to(thread, positions(b, t));
      for (std::int64_t h = 0; h < num_heads; ++h) rotation.rotate(thread, &x(b, h, t, 0), x.stride(3));
    }
  });
}

template class RowRotation<float>;
template class RowRotation<double>;
template void run_rotary(const TensorView<float, 4>&, const TensorView<const std::int64_t, 2>&, const RotaryOptions&,
                         const std::optional<RotaryTable<float>>&);
template void run_rotary(const TensorView<double, 4>&, const TensorView<const std::int64_t, 2>&, const RotaryOptions&,
                         const std::optional<RotaryTable<double>>&);

}  // namespace headwise::detail
