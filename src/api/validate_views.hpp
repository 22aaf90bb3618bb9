// What any view that is read or written must satisfy, with the error text that names it.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "api/error.hpp"
#include "api/overlap.hpp"
#include "headwise/tensor.hpp"

namespace headwise::detail {

// Texts are built only where an argument is refused: a call that is fine makes no string.

std::string number_text(double value);                        ///< "0.5", "nan"
std::string address_text(std::uintptr_t address);             ///< "0x7f…"
std::string list_text(std::span<const std::int64_t> values);  ///< "[2, 3, 4]"

constexpr std::int64_t kMaximumElements = std::int64_t{1} << 60;  // bytes of the largest type stay below 2^63
constexpr std::string_view kMaximumElementsText = "at most 2^60 elements";

/// The number of elements, where an extent of zero counts as one; more than the maximum is only known to be more.
std::int64_t count_elements(std::span<const std::int64_t> extents);

/// What an argument is called in errors: "key", or "key_runs[2].key" as a member of an element of a list.
struct ArgumentName {
  std::string_view name;
  std::string_view list = {};  ///< empty: the argument is no member of a list's element
  std::size_t index = 0;

  constexpr ArgumentName(std::string_view argument) : name(argument) {}
  constexpr ArgumentName(const char* argument) : name(argument) {}
  constexpr ArgumentName(std::size_t run, std::string_view member) : ArgumentName("key_runs", run, member) {}
  constexpr ArgumentName(std::string_view list_name, std::size_t element, std::string_view member)
      : name(member), list(list_name), index(element) {}

  std::string text() const;
  std::string text(std::string_view property) const;    ///< "key.data"
  std::string element_text(std::size_t element) const;  ///< "key_lengths[2]"
  std::string extent_text(int axis) const;              ///< "key.extent(2)"
};

/// What an axis is called in errors, and the extent it must have.
struct Axis {
  const char* meaning;
  std::int64_t extent;

  std::string text() const;  ///< "8 (num_heads)"
};

template <class T, int Rank>
void expect_extents(const ArgumentName& name, const TensorView<T, Rank>& view, const Axis (&axes)[Rank]) {
#pragma GCC unroll 4
  for (int axis = 0; axis < Rank; ++axis) {
    if (view.extent(axis) == axes[axis].extent) [[likely]] continue;
    refuse(name.extent_text(axis), view.extent(axis), axes[axis].text());
  }
}

/// An input that is repeated along axes of extent 1.
template <class T, int Rank>
void expect_broadcastable(const ArgumentName& name, const TensorView<T, Rank>& view, const Axis (&axes)[Rank]) {
  for (int axis = 0; axis < Rank; ++axis) {
    if (view.extent(axis) == axes[axis].extent || view.extent(axis) == 1) continue;
    refuse(name.extent_text(axis), view.extent(axis), (axes[axis].extent == 1 ? "" : "1 or ") + axes[axis].text());
  }
}

/// Number of elements, pointer, alignment and address range of an argument.
/// \param followed whether the call follows the pointer of a view that has elements
/// \returns the bytes of the view; none if nothing is read or written
/// \throws std::invalid_argument
AddressRange validate_memory(const ArgumentName& name, const ElementView& view, bool followed);

/// The memory that a call reads and writes: pointers (null only where nothing is read or written), alignment, address
/// ranges, each computed once; outputs whose elements coincide with each other, another output's or an input's are
/// refused. Extents are ≥ 0. All outputs come before the first input; what is absent may be added, too.
class MemoryCheck {
 public:
  /// \throws std::invalid_argument
  void add_output(const ArgumentName& name, const ElementView& view);
  /// \throws std::invalid_argument
  void add_input(const ArgumentName& name, const ElementView& view) const;

  template <class T, int Rank>
  void add_output(const ArgumentName& name, const TensorView<T, Rank>& view) {
    const auto range = plain_address_range(view);
    if (range && plainly_apart(view) && lies_apart(*range)) {
      keep({name, element_view(view), *range});
    } else {
      add_output(name, element_view(view));
    }
  }
  template <class T, int Rank>
  void add_output(const ArgumentName& name, const std::optional<TensorView<T, Rank>>& view) {
    if (view) add_output(name, *view);
  }
  template <class T, int Rank>
  void add_input(const ArgumentName& name, const TensorView<T, Rank>& view) const {
    const auto range = plain_address_range(view);
    if (!range || !lies_apart(*range)) add_input(name, element_view(view));
  }
  template <class T, int Rank>
  void add_input(const ArgumentName& name, const std::optional<TensorView<T, Rank>>& view) const {
    if (view) add_input(name, *view);
  }
  template <class T>
  void add_input(const ArgumentName& name, std::span<const T> values) const {
    if (!values.empty()) add_input(name, element_view(values));
  }

 private:
  struct Output {
    ArgumentName name;
    ElementView view;
    AddressRange range;
  };

  bool lies_apart(const AddressRange& range) const {
    for (std::size_t i = 0; i < count_; ++i) {
      if (outputs_[i]->range.overlaps(range)) return false;
    }
    return true;
  }

  void keep(const Output& output) {
    assert(count_ < outputs_.size());
    outputs_[count_++] = output;
  }

  void expect_apart(const Output& output, const ArgumentName& name, const ElementView& view,
                    const AddressRange& range) const;

  std::array<std::optional<Output>, 5> outputs_;  // as many as attention has
  std::size_t count_ = 0;          // of outputs with elements
};

}  // namespace headwise::detail
