// Rotary embedding: rows of features rotated by the angles of their position.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "headwise/rotary.hpp"
#include "platform/workspace.hpp"

namespace headwise::detail {

/// Elements of one task: some 20 µs, which pay for a parallel region. Fewer stay on the calling thread.
constexpr std::int64_t rotary_task_elements = 1 << 15;

/// Rotates rows. Every thread turns to a position of its own, so that its cosines and sines are found once for the rows
/// of all heads. Allocates when it is made, and never again.
template <class T>
class RowRotation {
 public:
  /// \param dim features of a row; options and table are valid for it
  /// \throws std::bad_alloc
  RowRotation(const RotaryOptions& options, std::int64_t dim, const std::optional<RotaryTable<T>>& table,
              int num_threads);

  /// Readies the cosines and sines of a position, which is inside the table if there is one.
  void turn_to(int thread, std::int64_t position);

  /// Rotates a row by the position that the thread turned to.
  void rotate(int thread, T* row, std::int64_t stride) const;

 private:
  struct Turn {
    std::optional<std::int64_t> position;
    T* cosine;  ///< [pairs]
    T* sine;    ///< [pairs]
  };

  RotaryLayout layout_;
  std::int64_t pairs_;
  std::optional<RotaryTable<T>> table_;
  Workspace memory_;
  double* frequencies_;  ///< [pairs] base^(−2i/rotary_dim)
  std::vector<Turn> turns_;
};

/// What rotary_embedding() promises; positions are [batch, tokens], also with a batch stride of 0.
template <class T>
void run_rotary(const TensorView<T, 4>& x, const TensorView<const std::int64_t, 2>& positions,
                const RotaryOptions& options, const std::optional<RotaryTable<T>>& table);

extern template class RowRotation<float>;
extern template class RowRotation<double>;
extern template void run_rotary(const TensorView<float, 4>&, const TensorView<const std::int64_t, 2>&,
                                const RotaryOptions&, const std::optional<RotaryTable<float>>&);
extern template void run_rotary(const TensorView<double, 4>&, const TensorView<const std::int64_t, 2>&,
                                const RotaryOptions&, const std::optional<RotaryTable<double>>&);

}  // namespace headwise::detail
