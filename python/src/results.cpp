#include "results.hpp"

namespace headwise::python {
namespace {

/// What is needed of NumPy; never freed, as the interpreter may end before the library's destructors.
struct NumPy {
  nb::handle empty, zeros, float32, float64;
};

const NumPy& numpy() {
  static const NumPy objects = [] {
    const nb::module_ module = nb::module_::import_("numpy");
    const auto keep = [&module](const char* name) { return nb::object(module.attr(name)).release(); };
    return NumPy{keep("empty"), keep("zeros"), keep("float32"), keep("float64")};
  }();
  return objects;
}

nb::object new_array(ElementType type, std::initializer_list<std::int64_t> extents, bool zeroed) {
  const nb::object shape = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(extents.size())));
  Py_ssize_t axis = 0;
  for (const std::int64_t extent : extents) PyTuple_SET_ITEM(shape.ptr(), axis++, PyLong_FromLongLong(extent));
  const nb::handle make = zeroed ? numpy().zeros : numpy().empty;
  return make(shape, type == ElementType::float64 ? numpy().float64 : numpy().float32);
}

}  // namespace

void find_numpy() { numpy(); }

Result::Result(ElementType type, std::initializer_list<std::int64_t> extents, bool zeroed)
    : object_(new_array(type, extents, zeroed)), given_(false) {
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
