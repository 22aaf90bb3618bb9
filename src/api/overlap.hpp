// Whether strided views share memory, decided exactly: interleaved views of one buffer may overlap in range without
// sharing an element.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "headwise/tensor.hpp"

namespace headwise::detail {

/// The memory of a strided view of at most four axes, without its type. Negative extents count as none.
struct ElementView {
  std::uintptr_t address = 0;
  std::int64_t element_size = 1;  ///< bytes, ≥ 1
  int rank = 0;
  std::array<std::int64_t, 4> extents{};  ///< the first `rank` entries count
  std::array<std::int64_t, 4> strides{};  ///< in elements, any value

  bool empty() const;
};

template <class T, int Rank>
ElementView element_view(const TensorView<T, Rank>& view) {
  static_assert(Rank <= 4);
  ElementView elements{reinterpret_cast<std::uintptr_t>(view.data), sizeof(T), Rank, {}, {}};
  for (std::size_t axis = 0; axis < Rank; ++axis) {
    elements.extents[axis] = view.extents[axis];
    elements.strides[axis] = view.strides[axis];
  }
  return elements;
}

template <class T>
ElementView element_view(std::span<const T> values) {
  return element_view(TensorView<const T, 1>{values.data(), {static_cast<std::int64_t>(values.size())}, {1}});
}

/// First and last byte of a view; by default no byte at all.
struct AddressRange {
  std::uint64_t first = UINT64_MAX, last = 0;

  bool overlaps(const AddressRange& other) const { return first <= other.last && other.first <= last; }
};

/// The bytes between the lowest and the highest element of a view that is not empty. Nothing if they do not fit
/// 64-bit addresses or span 2^63 bytes or more.
std::optional<AddressRange> address_range(const ElementView& view);

/// The same at a glance: nothing also where a stride is negative, there is no element, the pointer is null or not aligned,
/// or a number is large enough to need care. Most calls give nothing else, and of short ones the checks are a tenth.
template <class T, int Rank>
std::optional<AddressRange> plain_address_range(const TensorView<T, Rank>& view) {
  constexpr std::int64_t large = std::int64_t{1} << 56;
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  if (address == 0 || address % sizeof(T) != 0 || address > UINT64_MAX / 2) return std::nullopt;
  std::int64_t reach = 0, count = 1;  // in elements
  for (std::size_t axis = 0; axis < Rank; ++axis) {
    const std::int64_t extent = view.extents[axis];
    std::int64_t distance;
    if (extent < 1 || __builtin_mul_overflow(view.strides[axis], extent - 1, &distance) || distance < 0 ||
        __builtin_add_overflow(reach, distance, &reach) || __builtin_mul_overflow(count, extent, &count)) {
      return std::nullopt;
    }
  }
  if (reach > large || count > large) return std::nullopt;
  return AddressRange{address, address + static_cast<std::uint64_t>(reach + 1) * sizeof(T) - 1};
}

/// Whether it is plain that elements of a view that has a plain address range lie apart: each axis steps over all that
/// the axes inside it reach, from the last to the first or, of heads beside each other in a token, with those two swapped.
template <class T, int Rank>
bool plainly_apart(const TensorView<T, Rank>& view) {
  const auto nests = [&view](std::size_t swapped, std::size_t with) {
    std::int64_t reach = 0;
    for (std::size_t i = Rank; i-- > 0;) {
      const std::size_t axis = i == swapped ? with : i == with ? swapped : i;
      if (view.extents[axis] == 1) continue;
      if (view.strides[axis] <= reach) return false;
      reach += view.strides[axis] * (view.extents[axis] - 1);
    }
    return true;
  };
  return nests(0, 0) || (Rank == 4 && nests(1, 2));
}

/// Whether an element of `a` shares a byte with an element of `b`. A search that exceeds its budget counts as shared,
/// and so does a view without an address range.
bool shares_element(const ElementView& a, const ElementView& b);

/// Whether two elements of one view lie at the same address. Undecided counts as coinciding, as above.
bool elements_coincide(const ElementView& view);

}  // namespace headwise::detail
