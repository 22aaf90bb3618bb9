#include "results.hpp"

namespace headwise::python {
namespace {

nb::object empty_array(ElementType type, std::initializer_list<std::int64_t> extents) {
  static const nb::handle empty = attribute_of("numpy", "empty");
  static const nb::handle types[] = {attribute_of("numpy", "float32"), attribute_of("numpy", "float64")};
  const nb::object shape = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(extents.size())));
  Py_ssize_t axis = 0;
  for (const std::int64_t extent : extents) PyTuple_SET_ITEM(shape.ptr(), axis++, PyLong_FromLongLong(extent));
  return empty(shape, types[type == ElementType::float64 ? 1 : 0]);
}

}  // namespace

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
  return torch_module().attr("from_numpy")(object_);
}

}  // namespace headwise::python
