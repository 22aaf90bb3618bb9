/// \file
/// Numbers, flags and short lists of Python, each refused by name: TypeError for a wrong type, ValueError for a value
/// that does not fit.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "array.hpp"

namespace headwise::python {

bool as_bool(nb::handle object, const char* name);
/// \return characters that live as long as the object
std::string_view as_text(nb::handle object, const char* name);
double as_number(nb::handle object, const char* name);
std::int64_t as_integer(nb::handle object, const char* name);
/// num_threads
int as_thread_count(nb::handle object);

/// One number per head, sequence or output: a one-dimensional array of T, or a list or tuple of Python numbers. T is
/// float, double or std::int64_t (int32 arrays are widened). Dense arrays of floating-point numbers are not copied.
template <class T>
class Numbers {
 public:
  Numbers(nb::handle object, const char* name);
  /// \param of what there are `count` of, for the error text
  /// \throws nb::value_error
  void expect_count(std::int64_t count, const char* of) const;
  std::span<const T> span() const { return span_; }

 private:
  void read_array(const Array& array);

  const char* name_;
  OptionalArray array_;
  std::vector<T> copy_;
  std::span<const T> span_;
};

extern template class Numbers<std::int64_t>;
extern template class Numbers<float>;
extern template class Numbers<double>;

}  // namespace headwise::python
