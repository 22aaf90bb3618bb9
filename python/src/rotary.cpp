#include "rotary.hpp"

#include <string>
#include <string_view>
#include <vector>

#include "bindings.hpp"
#include "numbers.hpp"

namespace headwise::python {
namespace {

RotaryLayout layout_of(nb::handle name) {
  const std::string_view given = PyUnicode_Check(name.ptr()) ? as_text(name, "layout") : "";
  if (given == "half_split") return RotaryLayout::half_split;
  if (given == "interleaved") return RotaryLayout::interleaved;
  refuse_value("layout", nb::cast<std::string>(nb::repr(name)), "\"half_split\" or \"interleaved\"");
}

void rotate(nb::handle x, nb::handle positions, const nb::kwargs& keywords) {
  const Array tokens(x, "x");
  tokens.expect_writable();
  const auto compute = [&]<class T>() {
    tokens.expect_rank(4, "(batch, heads, tokens, dim)");
    const Array numbers(positions, "positions");
    numbers.expect_type(ElementType::int64);
    if (numbers.rank() > 2) numbers.expect_rank(2, "(batch, tokens), or 1");
    // Copied: another thread could change them while they are used.
    const auto view = numbers.view<const std::int64_t, 2>();
    std::vector<std::int64_t> copy;
    for (std::int64_t b = 0; b < view.extent(0); ++b) {
      for (std::int64_t t = 0; t < view.extent(1); ++t) copy.push_back(view(b, t));
    }
    const RotaryArguments<T> arguments("rotary_embedding", keywords);
    const nb::gil_scoped_release without_lock;
    rotary_embedding<T>(tokens.view<T, 4>(), TensorView<const std::int64_t, 2>::contiguous(copy.data(), view.extents),
                        arguments.options(), arguments.table());
  };
  floating_type(tokens) == ElementType::float32 ? compute.operator()<float>() : compute.operator()<double>();
}

}  // namespace

template <class T>
RotaryArguments<T>::RotaryArguments(const char* function, const nb::kwargs& keywords) {
  const auto read_table = [](OptionalArray& array, nb::handle object, const char* name) {
    array.emplace(object, name);
    array->expect_type(element_type_of<T>(), " (the type of what is rotated)");
    array->expect_rank(2, "(positions, rotary_dim / 2)");
  };
  for (const auto& [key, value] : keywords) {
    const std::string name(as_text(key, "a keyword"));
    if (name == "layout") {
      options_.layout = layout_of(value);
    } else if (name == "rotary_dim") {
      options_.rotary_dim = as_integer(value, "rotary_dim");
    } else if (name == "base") {
      options_.base = as_number(value, "base");
    } else if (name == "num_threads") {
      options_.num_threads = as_thread_count(value);
    } else if (name == "cosine") {
      if (!value.is_none()) read_table(cosine_, value, "cosine");
    } else if (name == "sine") {
      if (!value.is_none()) read_table(sine_, value, "sine");
    } else {
      throw nb::type_error((std::string(function) + "() got an unexpected keyword argument '" + name + "'").c_str());
    }
  }
  if (cosine_.has_value() != sine_.has_value()) {
    refuse_value(cosine_ ? "sine" : "cosine", "None", "an array as the other one");
  }
  if (cosine_) table_ = {cosine_->template view<const T, 2>(), sine_->template view<const T, 2>()};
}

template <class T>
bool RotaryArguments<T>::are_defaults() const {
  const RotaryOptions defaults;
  return options_.layout == defaults.layout && options_.rotary_dim == defaults.rotary_dim &&
         options_.base == defaults.base && options_.num_threads == defaults.num_threads && !table_;
}

template class RotaryArguments<float>;
template class RotaryArguments<double>;

void bind_rotary(nb::module_& module) {
  using namespace nb::literals;
  module.def("rotate_in_place", &rotate, "x"_a, "positions"_a, "keywords"_a,
             nb::sig("def rotate_in_place(x, positions, *, layout='half_split', rotary_dim=0, base=10000.0, "
                     "cosine=None, sine=None, num_threads=0)"),
             "rotary_embedding() that overwrites x; positions is (batch or 1, tokens) int64.");
}

}  // namespace headwise::python
