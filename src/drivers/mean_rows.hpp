// A rectangle of mean_weights that one task owns: cleared, added to head by head, divided.
#pragma once

#include <cstdint>

#include "headwise/tensor.hpp"
#include "plan/key_blocks.hpp"

namespace headwise::detail {

template <class T>
class MeanRows {
 public:
  MeanRows(const TensorView<T, 3>& mean, std::int64_t batch, KeyRange queries, KeyRange keys)
      : mean_(mean), batch_(batch), queries_(queries), keys_(keys) {}

  void clear() const {
    for_elements([](T& element) { element = T(0); });
  }

  void divide(std::int64_t num_heads) const {
    const T share = T(1) / static_cast<T>(num_heads);
    for_elements([share](T& element) { element *= share; });
  }

 private:
  template <class Function>
  void for_elements(Function&& function) const {
    for (std::int64_t i = queries_.begin; i < queries_.end; ++i) {
      T* row = mean_.data + batch_ * mean_.stride(0) + i * mean_.stride(1);
      for (std::int64_t j = keys_.begin; j < keys_.end; ++j) function(row[j * mean_.stride(2)]);
    }
  }

  const TensorView<T, 3>& mean_;
  const std::int64_t batch_;
  const KeyRange queries_;
  const KeyRange keys_;
};

}  // namespace headwise::detail
