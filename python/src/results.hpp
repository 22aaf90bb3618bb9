/// \file
/// Outputs that headwise allocates.
#pragma once

#include <nanobind/nanobind.h>

#include <initializer_list>
#include <optional>

#include "array.hpp"

namespace headwise::python {

/// Looks up what results need of NumPy. To be called while the module is imported: later, a thread could wait for this
/// with the GIL that it takes.
void find_numpy();

/// A new array or one that the caller gave.
class Result {
 public:
  /// A new NumPy array of float32 or float64, uninitialised unless `zeroed`.
  Result(ElementType type, std::initializer_list<std::int64_t> extents, bool zeroed = false);
  /// The caller's array. \throws nb::type_error, nb::value_error unless it has `type` and may be written
  Result(nb::handle given, const char* name, ElementType type);

  const Array& array() const { return *array_; }
  bool is_given() const { return given_; }
  /// What the caller gets; a new array as a torch tensor over the same memory where asked for.
  nb::object object(bool as_torch_tensor) const;

 private:
  nb::object object_;
  bool given_;
  OptionalArray array_;
};

}  // namespace headwise::python
