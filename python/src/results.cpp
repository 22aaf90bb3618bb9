#include "results.hpp"

#include <string_view>

namespace headwise::python {
namespace {

/// An attribute of a module, looked up once. Never freed: the interpreter may end before the library's destructors.
nb::handle attribute_of(const char* module, const char* name) {
  return nb::object(nb::module_::import_(module).attr(name)).release();
}

nb::object empty_array(ElementType type, std::initializer_list<std::int64_t> extents) {
  static const nb::handle empty = attribute_of("numpy", "empty");
  static const nb::handle types[] = {attribute_of("numpy", "float32"), attribute_of("numpy", "float64")};
  const nb::object shape = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(extents.size())));
  Py_ssize_t axis = 0;
  for (const std::int64_t extent : extents) PyTuple_SET_ITEM(shape.ptr(), axis++, PyLong_FromLongLong(extent));
  return empty(shape, types[type == ElementType::float64 ? 1 : 0]);
}

}  // namespace

bool is_torch_tensor(nb::handle object) {
  if (PyObject_CheckBuffer(object.ptr())) return false;
  const nb::object modules = nb::module_::import_("sys").attr("modules");
  const nb::object torch = modules.attr("get")("torch");
  return !torch.is_none() && nb::isinstance(object, torch.attr("Tensor"));
}

Result::Result(ElementType type, std::initializer_list<std::int64_t> extents)
    : object_(empty_array(type, extents)), given_(false) {
  array_.emplace(object_, "output");
}

Result::Result(nb::handle given, const char* name, ElementType type) : object_(nb::borrow(given)), given_(true) {
  array_.emplace(object_, name);
  array_->expect_type(type, " (the type of query)");
  array_->expect_writable();
}

nb::object Result::object(bool as_torch_tensor) const {
  if (given_ || !as_torch_tensor) return object_;
  return nb::module_::import_("torch").attr("from_numpy")(object_);
}

}  // namespace headwise::python
