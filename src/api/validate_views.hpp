// What any view that is read or written must satisfy, with the error text that names it.
#pragma once

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

std::string address_text(std::uintptr_t address);             ///< "0x7f…"
std::string list_text(std::span<const std::int64_t> values);  ///< "[2, 3, 4]"

constexpr std::int64_t kMaximumElements = std::int64_t{1} << 60;  // bytes of the largest type stay below 2^63
constexpr std::string_view kMaximumElementsText = "at most 2^60 elements";

/// The number of elements, where an extent of zero counts as one; more than the maximum is only known to be more.
std::int64_t count_elements(std::span<const std::int64_t> extents);

/// What an axis is called in errors, and the extent it must have.
struct Axis {
  std::string_view meaning;
  std::int64_t extent;
};

template <class T, int Rank>
void expect_extents(std::string_view name, const TensorView<T, Rank>& view, const Axis (&axes)[Rank]) {
  for (int axis = 0; axis < Rank; ++axis) {
    if (view.extent(axis) == axes[axis].extent) continue;
    refuse(std::string(name) + ".extent(" + std::to_string(axis) + ")", view.extent(axis),
           std::to_string(axes[axis].extent) + " (" + std::string(axes[axis].meaning) + ")");
  }
}

struct NamedView {
  std::string_view name;
  ElementView view;
};

template <class T, int Rank>
NamedView named(std::string_view name, const TensorView<T, Rank>& view) {
  return {name, element_view(view)};
}

/// An absent view has no elements.
template <class T, int Rank>
NamedView named(std::string_view name, const std::optional<TensorView<T, Rank>>& view) {
  return named(name, view.value_or(TensorView<T, Rank>{}));
}

template <class T>
NamedView named(std::string_view name, std::span<const T> values) {
  return named(name, TensorView<const T, 1>::contiguous(values.data(), {static_cast<std::int64_t>(values.size())}));
}

/// Number of elements, pointer, alignment and address range.
/// \param followed whether the call follows the pointer of a view that has elements
/// \throws std::invalid_argument
void validate_memory(const NamedView& argument, bool followed);

/// Pointers (null only where nothing is read or written), alignment, address ranges; outputs whose elements coincide
/// with each other, an input's or another output's are refused. Extents are ≥ 0.
/// \throws std::invalid_argument
void validate_views(std::span<const NamedView> inputs, std::span<const NamedView> outputs);

}  // namespace headwise::detail
