/// \file
/// Arguments of Python as memory: NumPy arrays and whatever else has the buffer protocol, and DLPack tensors on the
/// CPU. Nothing is copied. Errors name the argument: TypeError for what is no array of the wanted type on the CPU,
/// ValueError for wrong addresses, ranks and strides.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>

#include "headwise/tensor.hpp"

namespace headwise::python {

namespace nb = nanobind;

enum class ElementType { float32, float64, boolean, uint8, int32, int64, other };

template <class T>
constexpr ElementType element_type_of() {
  if (std::is_same_v<T, float>) return ElementType::float32;
  if (std::is_same_v<T, double>) return ElementType::float64;
  if (std::is_same_v<T, std::int64_t>) return ElementType::int64;
  return ElementType::uint8;
}

/// "headwise: <name> is <value>, expected <expectation>" as TypeError and as ValueError.
[[noreturn]] void refuse_type(const char* name, const std::string& value, const std::string& expectation);
[[noreturn]] void refuse_value(const char* name, const std::string& value, const std::string& expectation);

/// torch where the program has imported it, else None.
nb::object torch_module();

/// Whether outputs are to be torch tensors, too, else NumPy arrays.
bool is_torch_tensor(nb::handle object);

/// Name of an object's type for error texts; for arrays the name of their elements' type.
std::string kind_of(nb::handle object);

/// An argument's memory, which stays where it is as long as this lives. Needs the GIL but for view().
class Array {
 public:
  static constexpr int maximum_rank = 4;

  /// \param name of the argument; must outlive this
  /// \throws nb::type_error unless the object is an array on the CPU
  /// \throws nb::value_error unless its elements are aligned
  Array(nb::handle object, const char* name);

  const char* name() const { return name_; }
  ElementType type() const { return type_; }
  int rank() const { return rank_; }
  /// Of the leading maximum_rank axes.
  std::span<const std::int64_t> extents() const {
    return std::span(extents_).first(static_cast<std::size_t>(std::min(rank_, maximum_rank)));
  }
  std::int64_t extent(int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
  std::int64_t stride(int axis) const { return strides_[static_cast<std::size_t>(axis)]; }  ///< in elements
  nb::handle object() const { return object_; }
  /// The first element; T's type is not checked.
  template <class T>
  T* data() const {
    return static_cast<T*>(data_);
  }

  /// \param axes the expected axes, e.g. "(batch, heads, length, dim)"
  /// \throws nb::value_error
  void expect_rank(int rank, const char* axes) const;
  /// \param reason appended to the expected type, e.g. " (the type of query)"
  /// \throws nb::type_error
  void expect_type(ElementType type, const char* reason = "") const;
  /// \throws nb::value_error if the array is read-only
  void expect_writable() const;

  /// The array with leading axes of extent 1 added up to Rank, which is at least rank(). T's type is not checked.
  template <class T, int Rank>
  TensorView<T, Rank> view() const {
    TensorView<T, Rank> view;
    view.data = data<T>();
    for (int axis = 0; axis < Rank; ++axis) {
      const auto to = static_cast<std::size_t>(axis), from = static_cast<std::size_t>(axis - (Rank - rank_));
      const bool present = axis >= Rank - rank_;
      view.extents[to] = present ? extents_[from] : 1;
      view.strides[to] = present ? strides_[from] : 0;
    }
    return view;
  }

 private:
  struct Buffer {
    Buffer() = default;
    ~Buffer() { PyBuffer_Release(&view); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    Py_buffer view{};
  };

  bool read_buffer();
  void read_tensor();
  void expect_aligned() const;

  nb::object object_;
  const char* name_;
  Buffer buffer_;
  nb::ndarray<nb::ro> tensor_;
  void* data_ = nullptr;
  ElementType type_ = ElementType::other;
  bool writable_ = true;
  int rank_ = 0;
  std::array<std::int64_t, maximum_rank> extents_{}, strides_{};
};

/// An argument that may be None. `arrays` of a call are members of this type, so that they live as long as the call.
using OptionalArray = std::optional<Array>;

/// float32 or float64, from whatever numpy.dtype() takes.
/// \throws nb::type_error
ElementType element_type_named(nb::handle dtype);

/// float32 or float64.
/// \throws nb::type_error
ElementType floating_type(const Array& array);

}  // namespace headwise::python
