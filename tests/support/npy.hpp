// A small reader of NumPy's .npy files: little-endian f4, f8 or i8 in C order; anything else is a clear error.
// Format: numpy/lib/format.py, versions 1.0 to 3.0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace headwise::test {

struct NpyArray {
  std::vector<std::int64_t> shape;
  std::variant<std::vector<float>, std::vector<double>, std::vector<std::int64_t>> elements;

  /// The elements converted to T, in C order.
  template <class T>
  std::vector<T> as() const {
    return std::visit(
        [](const auto& stored) {
          std::vector<T> converted;
          converted.reserve(stored.size());
          for (const auto element : stored) converted.push_back(static_cast<T>(element));
          return converted;
        },
        elements);
  }
};

/// \throws std::runtime_error saying what is wrong with the bytes.
NpyArray parse_npy(std::span<const std::byte> bytes);

/// \throws std::runtime_error naming the file and what is wrong with it.
NpyArray load_npy(const std::string& path);

}  // namespace headwise::test
