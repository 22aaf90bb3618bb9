// Prints matrices as aligned columns.
#pragma once

#include <cstdint>
#include <cstdio>

#include "headwise/tensor.hpp"

namespace examples {

inline void print(const char* title, const headwise::TensorView<const double, 2>& matrix) {
  std::printf("%s\n", title);
  for (std::int64_t row = 0; row < matrix.extent(0); ++row) {
    for (std::int64_t column = 0; column < matrix.extent(1); ++column) std::printf(" %10.6f", matrix(row, column));
    std::printf("\n");
  }
}

/// The matrix of one batch entry.
inline void print(const char* title, const headwise::TensorView<const double, 3>& tokens) {
  print(title, headwise::TensorView<const double, 2>{
                   tokens.data, {tokens.extent(1), tokens.extent(2)}, {tokens.stride(1), tokens.stride(2)}});
}

/// One matrix per head of one batch entry.
inline void print(const char* title, const headwise::TensorView<const double, 4>& heads) {
  for (std::int64_t head = 0; head < heads.extent(1); ++head) {
    std::printf("head %lld, ", static_cast<long long>(head));
    print(title,
          headwise::TensorView<const double, 3>{
              &heads(0, head, 0, 0), {1, heads.extent(2), heads.extent(3)}, {0, heads.stride(2), heads.stride(3)}});
  }
}

}  // namespace examples
