/// \file
/// The keyword arguments of a rotation, shared by rotary_embedding and KvCache.append.
#pragma once

#include <nanobind/nanobind.h>

#include <optional>

#include "array.hpp"
#include "headwise/rotary.hpp"

namespace headwise::python {

/// layout, rotary_dim, base, cosine, sine and num_threads; T is the type of what is rotated.
template <class T>
class RotaryArguments {
 public:
  /// \throws nb::type_error, nb::value_error naming the argument or the unknown keyword
  RotaryArguments(const char* function, const nb::kwargs& keywords);

  const RotaryOptions& options() const { return options_; }
  bool are_defaults() const;
  const std::optional<RotaryTable<T>>& table() const { return table_; }

 private:
  RotaryOptions options_;
  OptionalArray cosine_, sine_;
  std::optional<RotaryTable<T>> table_;
};

extern template class RotaryArguments<float>;
extern template class RotaryArguments<double>;

}  // namespace headwise::python
