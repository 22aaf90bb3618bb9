/// \file
/// Non-owning strided views: the only way data enters or leaves headwise.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace headwise {
inline namespace v0 {

/// A pointer with `Rank` signed 64-bit extents and strides; strides count elements and may be zero (broadcast, inputs
/// only) or negative. Element (i, j, …) lies at `data[i·strides[0] + j·strides[1] + …]`. The view owns nothing.
///
/// Attention reads [batch, head, position, feature]. Data stored position-major is the same logical view with other
/// strides: `TensorView<float, 4>::contiguous(p, {b, s, h, d}).transposed(1, 2)`.
template <class T, int Rank>
struct TensorView {
  static_assert(Rank >= 1);
  using Extents = std::array<std::int64_t, Rank>;  ///< a number for each axis

  T* data = nullptr;  ///< the element whose indices are all 0
  Extents extents{};  ///< number of elements along each axis
  Extents strides{};  ///< distance of neighbours along each axis, in elements

  constexpr TensorView() = default;
  /// The view of given extents and strides whose first element is *first.
  constexpr TensorView(T* first, const Extents& extent, const Extents& stride)
      : data(first), extents(extent), strides(stride) {}

  /// A view of mutable elements is a view of constant ones.
  template <class U>
    requires(std::is_same_v<const U, T>)
  constexpr TensorView(const TensorView<U, Rank>& other)
      : data(other.data), extents(other.extents), strides(other.strides) {}

  /// Row-major view of dense data: the last axis has stride 1.
  static constexpr TensorView contiguous(T* first, const Extents& extent) {
    TensorView view{first, extent, {}};
    // Unsigned arithmetic: absurd extents must reach the argument checks, not overflow here.
    std::uint64_t stride = 1;
    for (int axis = Rank - 1; axis >= 0; --axis) {
      view.strides[at(axis)] = static_cast<std::int64_t>(stride);
      stride *= static_cast<std::uint64_t>(extent[at(axis)]);
    }
    return view;
  }

  /// Number of elements along an axis.
  constexpr std::int64_t extent(int axis) const { return extents[at(axis)]; }
  /// Distance of neighbours along an axis, in elements.
  constexpr std::int64_t stride(int axis) const { return strides[at(axis)]; }

  /// True when some extent is zero: the view has no element and its pointer is never followed.
  constexpr bool empty() const {
    for (const std::int64_t extent : extents) {
      if (extent == 0) return true;
    }
    return false;
  }

  /// Element at the given indices; unchecked.
  template <class... Index>
    requires(sizeof...(Index) == Rank)
  constexpr T& operator()(Index... index) const {
    const Extents position{static_cast<std::int64_t>(index)...};
    std::int64_t offset = 0;
    for (int axis = 0; axis < Rank; ++axis) offset += position[at(axis)] * strides[at(axis)];
    return data[offset];
  }

  /// The same elements with two axes exchanged.
  /// \throws std::invalid_argument if an axis is outside 0 … Rank−1.
  constexpr TensorView transposed(int first, int second) const {
    check_axis("transposed", first);
    check_axis("transposed", second);
    TensorView view = *this;
    view.extents[at(first)] = extents[at(second)];
    view.extents[at(second)] = extents[at(first)];
    view.strides[at(first)] = strides[at(second)];
    view.strides[at(second)] = strides[at(first)];
    return view;
  }

  /// Elements `begin` … `end`−1 along `axis`.
  /// \throws std::invalid_argument unless 0 ≤ begin ≤ end ≤ extent(axis).
  constexpr TensorView slice(int axis, std::int64_t begin, std::int64_t end) const {
    check_axis("slice", axis);
    if (begin < 0 || begin > end || end > extent(axis)) {
      throw std::invalid_argument("headwise: slice of axis " + std::to_string(axis) + " is [" + std::to_string(begin) +
                                  ", " + std::to_string(end) + "), expected a range within [0, " +
                                  std::to_string(extent(axis)) + ")");
    }
    TensorView view = *this;
    view.extents[at(axis)] = end - begin;
    if (!view.empty()) view.data += begin * stride(axis);
    return view;
  }

  /// The same elements repeated along every axis of extent 1 (stride 0 there). For inputs only.
  /// \throws std::invalid_argument if an axis has neither extent 1 nor the wanted extent.
  constexpr TensorView broadcast_to(const Extents& wanted) const {
    TensorView view = *this;
    for (int axis = 0; axis < Rank; ++axis) {
      if (extent(axis) == wanted[at(axis)]) continue;
      if (extent(axis) != 1) {
        throw std::invalid_argument("headwise: broadcast_to: extent of axis " + std::to_string(axis) + " is " +
                                    std::to_string(extent(axis)) + ", expected 1 or " +
                                    std::to_string(wanted[at(axis)]));
      }
      view.extents[at(axis)] = wanted[at(axis)];
      view.strides[at(axis)] = 0;
    }
    return view;
  }

 private:
  static constexpr std::size_t at(int axis) { return static_cast<std::size_t>(axis); }
  static constexpr void check_axis(const char* function, int axis) {
    if (axis < 0 || axis >= Rank) {
      throw std::invalid_argument(std::string("headwise: ") + function + ": axis is " + std::to_string(axis) +
                                  ", expected 0 to " + std::to_string(Rank - 1));
    }
  }
};

}  // namespace v0
}  // namespace headwise
