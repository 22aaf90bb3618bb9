#include "array.hpp"

#include <algorithm>
#include <bit>
#include <charconv>

namespace headwise::python {
namespace {

std::string message(const char* name, const std::string& value, const std::string& expectation) {
  return "headwise: " + std::string(name) + " is " + value + ", expected " + expectation;
}

constexpr const char* array_expectation = "an array of float32 or float64 on the CPU (NumPy, or any with DLPack)";

const char* text_of(ElementType type) {
  switch (type) {
    case ElementType::float32: return "float32";
    case ElementType::float64: return "float64";
    case ElementType::boolean: return "bool";
    case ElementType::uint8: return "bool or uint8";
    case ElementType::int32: return "int32";
    case ElementType::int64: return "int64";
    case ElementType::other: break;
  }
  return "another type";
}

std::uintptr_t size_of(ElementType type) {
  switch (type) {
    case ElementType::float32:
    case ElementType::int32: return 4;
    case ElementType::float64:
    case ElementType::int64: return 8;
    default: return 1;
  }
}

/// A format of the struct module, native order only.
ElementType type_of_format(const char* format, Py_ssize_t item_size) {
  if (format == nullptr) return ElementType::uint8;
  if (format[0] == '@' || format[0] == '=') ++format;
  if (format[0] == '\0' || format[1] != '\0') return ElementType::other;
  switch (format[0]) {
    case 'f': return ElementType::float32;
    case 'd': return ElementType::float64;
    case '?': return ElementType::boolean;
    case 'B': return ElementType::uint8;
    case 'i':
    case 'l':
    case 'q': return item_size == 8 ? ElementType::int64 : ElementType::int32;
    default: return ElementType::other;
  }
}

ElementType type_of_dlpack(nb::dlpack::dtype type) {
  if (type == nb::dtype<float>()) return ElementType::float32;
  if (type == nb::dtype<double>()) return ElementType::float64;
  if (type == nb::dtype<bool>()) return ElementType::boolean;
  if (type == nb::dtype<std::uint8_t>()) return ElementType::uint8;
  if (type == nb::dtype<std::int32_t>()) return ElementType::int32;
  if (type == nb::dtype<std::int64_t>()) return ElementType::int64;
  return ElementType::other;
}

/// The object's DLPack capsule.
nb::object capsule_of(nb::handle object, const char* name) {
  std::string reason = "its __dlpack__ gives no tensor";
  try {
    nb::object capsule = object.attr("__dlpack__")();
    if (PyCapsule_CheckExact(capsule.ptr())) return capsule;
  } catch (nb::python_error& error) {
    reason = nb::cast<std::string>(nb::str(error.value()));
  }
  refuse_type(name, kind_of(object) + " that gives no data (" + reason + ")", array_expectation);
}

/// Refuses tensors of other devices before their data is asked for.
void expect_processor(nb::handle object, const char* name) {
  std::string device;
  try {
    const nb::object type_and_number = object.attr("__dlpack_device__")(), type = type_and_number[0];
    if (PyLong_AsLongLong(type.ptr()) == nb::device::cpu::value) return;
    if (PyErr_Occurred() != nullptr) throw nb::python_error();
    device = "on device " + nb::cast<std::string>(nb::str(nb::getattr(object, "device", type_and_number)));
  } catch (nb::python_error& error) {
    device = "on an unknown device (" + nb::cast<std::string>(nb::str(error.value())) + ")";
  }
  refuse_type(name, device, array_expectation);
}

}  // namespace

nb::object torch_module() {
  PyObject* const torch = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
  return torch == nullptr ? nb::none() : nb::borrow(torch);
}

bool is_torch_tensor(nb::handle object) {
  if (PyObject_CheckBuffer(object.ptr())) return false;
  const nb::object torch = torch_module();
  return !torch.is_none() && nb::isinstance(object, torch.attr("Tensor"));
}

void refuse_type(const char* name, const std::string& value, const std::string& expectation) {
  throw nb::type_error(message(name, value, expectation).c_str());
}

void refuse_value(const char* name, const std::string& value, const std::string& expectation) {
  throw nb::value_error(message(name, value, expectation).c_str());
}

std::string kind_of(nb::handle object) {
  if (object.is_none()) return "None";
  const nb::object element_type = nb::getattr(object, "dtype", nb::none());
  if (!element_type.is_none()) return nb::cast<std::string>(nb::str(element_type));
  return "of type " + nb::cast<std::string>(nb::str(nb::handle(object.type()).attr("__name__")));
}

Array::Array(nb::handle object, const char* name) : object_(nb::borrow(object)), name_(name) {
  if (!read_buffer()) read_tensor();
  expect_aligned();
}

/// False where the object has no buffer; then nothing is held.
bool Array::read_buffer() {
  if (!PyObject_CheckBuffer(object_.ptr())) return false;
  Py_buffer& buffer = buffer_.view;
  if (PyObject_GetBuffer(object_.ptr(), &buffer, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
    PyErr_Clear();  // element types that the struct module does not know, e.g. bfloat16
    refuse_type(name_, kind_of(object_), array_expectation);
  }
  data_ = buffer.buf;
  const Py_ssize_t item_size = std::max<Py_ssize_t>(buffer.itemsize, 1);
  type_ = type_of_format(buffer.format, buffer.itemsize);
  writable_ = buffer.readonly == 0;
  rank_ = buffer.ndim;
  for (int axis = 0; axis < rank_ && axis < maximum_rank; ++axis) {
    const auto at = static_cast<std::size_t>(axis);
    extents_[at] = buffer.shape[axis];
    const Py_ssize_t bytes = buffer.strides[axis];
    // Elements have 4 or 8 bytes as a rule: a shift takes a cycle, a division 40 on some processors.
    const bool is_power = std::has_single_bit(static_cast<std::size_t>(item_size));
    strides_[at] = is_power ? bytes >> std::countr_zero(static_cast<std::size_t>(item_size)) : bytes / item_size;
    if (strides_[at] * item_size != bytes && extents_[at] > 1) {
      const std::string expected = "a multiple of " + std::to_string(item_size) + " bytes (one element)";
      const std::string value = std::to_string(bytes) + " bytes";
      refuse_value((std::string(name_) + ".strides[" + std::to_string(axis) + "]").c_str(), value, expected);
    }
  }
  return true;
}

void Array::read_tensor() {
  if (!nb::hasattr(object_, "__dlpack__")) refuse_type(name_, kind_of(object_), array_expectation);
  bool read = false;
  if (is_torch_tensor(object_)) {
    // torch's own function takes a tenth of the time of __dlpack__, but leaves these checks to its caller.
    if (nb::cast<bool>(object_.attr("requires_grad"))) {
      refuse_type(name_, "a tensor that requires gradients", "its detach(): headwise computes no gradients");
    }
    if (nb::cast<bool>(object_.attr("is_neg")())) refuse_type(name_, "a lazily negated tensor", "its resolve_neg()");
    try {
      read = nb::try_cast(torch_module().attr("utils").attr("dlpack").attr("to_dlpack")(object_), tensor_);
    } catch (nb::python_error&) {  // below __dlpack__ tells why
    }
  }
  if (!read) {
    expect_processor(object_, name_);
    if (!nb::try_cast(capsule_of(object_, name_), tensor_)) {
      refuse_type(name_, kind_of(object_) + " in a DLPack capsule of an unknown kind", array_expectation);
    }
  }
  if (tensor_.device_type() != nb::device::cpu::value) refuse_type(name_, "on another device", array_expectation);
  data_ = const_cast<void*>(static_cast<const void*>(tensor_.data()));
  type_ = type_of_dlpack(tensor_.dtype());
  rank_ = static_cast<int>(tensor_.ndim());
  for (int axis = 0; axis < rank_ && axis < maximum_rank; ++axis) {
    const auto at = static_cast<std::size_t>(axis);
    extents_[at] = static_cast<std::int64_t>(tensor_.shape(at));
    strides_[at] = tensor_.stride(at);
  }
}

/// Strides count elements: with an aligned first element all are.
void Array::expect_aligned() const {
  const auto address = reinterpret_cast<std::uintptr_t>(data_);
  const std::uintptr_t size = size_of(type_);  // a power of two
  if ((address & (size - 1)) == 0) return;
  std::array<char, 16> digits;
  char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), address, 16).ptr;
  refuse_value((std::string(name_) + ".data").c_str(), "0x" + std::string(digits.data(), end),
               "an address aligned to " + std::to_string(size) + " bytes");
}

void Array::expect_rank(int rank, const char* axes) const {
  if (rank_ == rank) return;
  refuse_value(("number of axes of " + std::string(name_)).c_str(), std::to_string(rank_),
               std::to_string(rank) + " " + axes);
}

void Array::expect_type(ElementType type, const char* reason) const {
  if (type_ == type || (type == ElementType::uint8 && type_ == ElementType::boolean)) return;
  refuse_type(name_, kind_of(object_), std::string(text_of(type)) + reason);
}

void Array::expect_writable() const {
  if (!writable_) refuse_value(name_, "read-only", "an array that may be written");
}

ElementType element_type_named(nb::handle dtype) {
  std::string name;
  try {
    name = nb::cast<std::string>(nb::module_::import_("numpy").attr("dtype")(dtype).attr("name"));
  } catch (nb::python_error&) {
    name = nb::cast<std::string>(nb::repr(dtype));
  }
  if (name == "float32") return ElementType::float32;
  if (name == "float64") return ElementType::float64;
  refuse_type("dtype", name, "float32 or float64");
}

ElementType floating_type(const Array& array) {
  if (array.type() != ElementType::float32 && array.type() != ElementType::float64) {
    refuse_type(array.name(), kind_of(array.object()), "float32 or float64");
  }
  return array.type();
}

}  // namespace headwise::python
