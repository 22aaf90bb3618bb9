#include "numbers.hpp"

#include <climits>
#include <string>
#include <string_view>
#include <type_traits>

namespace headwise::python {
namespace {

template <class T>
T as_element(nb::handle object, const char* name) {
  if constexpr (std::is_integral_v<T>) {
    return as_integer(object, name);
  } else {
    return static_cast<T>(as_number(object, name));
  }
}

}  // namespace

bool as_bool(nb::handle object, const char* name) {
  if (object.ptr() == Py_True) return true;
  if (object.ptr() == Py_False) return false;
  if (std::string_view(Py_TYPE(object.ptr())->tp_name).starts_with("numpy.bool")) {
    return PyObject_IsTrue(object.ptr()) == 1;
  }
  refuse_type(name, kind_of(object), "True or False");
}

std::string_view as_text(nb::handle object, const char* name) {
  if (!PyUnicode_Check(object.ptr())) refuse_type(name, kind_of(object), "a string");
  Py_ssize_t size = 0;
  const char* const characters = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
  if (characters != nullptr) return {characters, static_cast<std::size_t>(size)};
  PyErr_Clear();  // half of a surrogate pair
  refuse_value(name, nb::cast<std::string>(nb::repr(object)), "text that UTF-8 can encode");
}

double as_number(nb::handle object, const char* name) {
  const double number = PyFloat_AsDouble(object.ptr());
  if (number != -1 || PyErr_Occurred() == nullptr) return number;
  const bool overflow = PyErr_ExceptionMatches(PyExc_OverflowError) != 0;
  PyErr_Clear();
  if (overflow) refuse_value(name, "too large", "a number that float64 holds");
  refuse_type(name, kind_of(object), "a number");
}

std::int64_t as_integer(nb::handle object, const char* name) {
  const nb::object index = nb::steal(PyNumber_Index(object.ptr()));
  if (!index.is_valid()) {
    PyErr_Clear();
    refuse_type(name, kind_of(object), "an integer");
  }
  const long long number = PyLong_AsLongLong(index.ptr());
  if (number == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    refuse_value(name, nb::cast<std::string>(nb::str(index)), "an integer of 64 bits");
  }
  return number;
}

int as_thread_count(nb::handle object) {
  const std::int64_t count = as_integer(object, "num_threads");
  if (count < INT_MIN || count > INT_MAX) {
    refuse_value("num_threads", std::to_string(count), "at most " + std::to_string(INT_MAX));
  }
  return static_cast<int>(count);
}

template <class T>
Numbers<T>::Numbers(nb::handle object, const char* name) : name_(name) {
  if (!PyList_Check(object.ptr()) && !PyTuple_Check(object.ptr())) {
    read_array(array_.emplace(object, name));
    return;
  }
  for (nb::handle item : object) {
    const std::string item_name = std::string(name) + "[" + std::to_string(copy_.size()) + "]";
    copy_.push_back(as_element<T>(item, item_name.c_str()));
  }
  span_ = copy_;
}

template <class T>
void Numbers<T>::expect_count(std::int64_t count, const char* of) const {
  if (static_cast<std::int64_t>(span_.size()) == count) return;
  refuse_value(("number of " + std::string(name_)).c_str(), std::to_string(span_.size()),
               std::to_string(count) + " (" + of + ")");
}

template <class T>
void Numbers<T>::read_array(const Array& array) {
  array.expect_rank(1, "(one number each)");
  const auto copy = [this](const auto& view) {
    for (std::int64_t i = 0; i < view.extent(0); ++i) copy_.push_back(static_cast<T>(view(i)));
    span_ = copy_;
  };
  if (std::is_integral_v<T> && array.type() == ElementType::int32) return copy(array.view<const std::int32_t, 1>());
  array.expect_type(element_type_of<T>(), std::is_integral_v<T> ? " or int32" : " (the type of the other arrays)");
  const auto view = array.view<const T, 1>();
  // Integers become addresses: another thread could change them after they were checked.
  if (std::is_integral_v<T> || view.stride(0) != 1) return copy(view);
  span_ = {view.data, static_cast<std::size_t>(view.extent(0))};
}

template class Numbers<std::int64_t>;
template class Numbers<float>;
template class Numbers<double>;

}  // namespace headwise::python
