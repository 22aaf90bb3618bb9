/// \file
/// Tensors that own their memory, in the layouts callers have.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "headwise/tensor.hpp"
#include "support/guarded_buffer.hpp"

namespace headwise::test {

/// How [batch, head, position, feature] lies in memory.
enum class Layout {
  bhsd,              ///< dense, in the order of the axes
  bshd,              ///< dense, position before head
  packed_qkv,        ///< query, key and value heads of a token side by side in one buffer; outputs as bshd
  row_gaps,          ///< three unused elements after every row
  off_by_one,        ///< dense, one element off an aligned address
  feature_stride_2,  ///< every other element unused
  negative_strides,  ///< dense, every axis backwards; the strides of axes of one element are no addresses
  far_rows           ///< 512 unused elements after every row, 2 KiB or more
};
inline constexpr std::array all_layouts{Layout::bhsd,       Layout::bshd,       Layout::packed_qkv,
                                        Layout::row_gaps,   Layout::off_by_one, Layout::feature_stride_2,
                                        Layout::negative_strides, Layout::far_rows};

constexpr const char* name_of(Layout layout) {
  switch (layout) {
    case Layout::bhsd: return "BHSD";
    case Layout::bshd: return "BSHD";
    case Layout::packed_qkv: return "packed QKV";
    case Layout::row_gaps: return "row gaps";
    case Layout::off_by_one: return "off by one";
    case Layout::feature_stride_2: return "feature stride 2";
    case Layout::negative_strides: return "negative strides";
    case Layout::far_rows: return "far rows";
  }
  return "?";
}

/// Calls visit(element) for every element of a view, in the order of its axes.
template <class T, int Rank, class Visit>
void visit_elements(const TensorView<T, Rank>& view, Visit visit) {
  for (std::int64_t i = 0; i < view.extent(0) && !view.empty(); ++i) {
    T* first = view.data + i * view.stride(0);
    if constexpr (Rank == 1) {
      visit(*first);
    } else {
      TensorView<T, Rank - 1> inner{first, {}, {}};
      std::copy(view.extents.begin() + 1, view.extents.end(), inner.extents.begin());
      std::copy(view.strides.begin() + 1, view.strides.end(), inner.strides.begin());
      visit_elements(inner, visit);
    }
  }
}

/// Writes one number to every element of a view.
template <class T, int Rank>
void fill_with(const TensorView<T, Rank>& view, T number) {
  visit_elements(view, [number](T& element) { element = number; });
}

/// The elements of a view, in the order of its axes.
template <class T, int Rank>
std::vector<std::remove_const_t<T>> dense(const TensorView<T, Rank>& view) {
  std::vector<std::remove_const_t<T>> elements;
  std::int64_t count = 1;
  for (const std::int64_t extent : view.extents) count *= extent;
  elements.reserve(static_cast<std::size_t>(count));
  visit_elements(view, [&](const T& element) { elements.push_back(element); });
  return elements;
}

/// Whether two lists hold the same bits; unlike ==, it tells +0 from −0 and takes a NaN for equal to itself.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// A view and the memory it lies in, which other tensors may share.
template <class T, int Rank>
struct Tensor {
  std::shared_ptr<GuardedBuffer<T>> buffer;
  TensorView<T, Rank> view;

  /// Whether the memory between the elements still holds the poison.
  bool gaps_untouched() const {
    std::vector<char> used(static_cast<std::size_t>(buffer->size()), 0);
    visit_elements(view, [&](T& element) { used[static_cast<std::size_t>(&element - buffer->data())] = 1; });
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (used[i] == 0 && std::bit_cast<BitsOf<T>>(buffer->data()[i]) != poison_bits<T>) return false;
    }
    return true;
  }
};

/// Strides of a layout; the axes are batch, head, position and perhaps feature.
template <int Rank>
std::array<std::int64_t, Rank> strides_of(Layout layout, const std::array<std::int64_t, Rank>& extents) {
  using View = TensorView<const char, Rank>;
  std::array<std::int64_t, Rank> padded = extents;
  switch (layout) {
    case Layout::bhsd:
    case Layout::off_by_one: break;
    case Layout::bshd:
    case Layout::packed_qkv:
      if constexpr (Rank >= 3) {
        std::swap(padded[1], padded[2]);
        return View::contiguous(nullptr, padded).transposed(1, 2).strides;
      }
      break;  // a matrix has no heads
    case Layout::row_gaps: padded.back() += 3; break;
    case Layout::feature_stride_2: padded.back() *= 2; break;
    case Layout::negative_strides: break;
    case Layout::far_rows: padded.back() += 512; break;
  }
  auto strides = View::contiguous(nullptr, padded).strides;
  if (layout == Layout::feature_stride_2) strides.back() = 2;
  if (layout == Layout::negative_strides) {
    for (std::size_t axis = 0; axis < Rank; ++axis) {
      strides[axis] = extents[axis] > 1 ? -strides[axis] : std::numeric_limits<std::int64_t>::max();
    }
  }
  return strides;
}

/// A tensor of its own memory, all poison.
template <class T, int Rank>
Tensor<T, Rank> make_tensor(const std::array<std::int64_t, Rank>& extents, Layout layout, Placement placement) {
  TensorView<T, Rank> view{nullptr, extents, strides_of<Rank>(layout, extents)};
  std::int64_t lowest = 0, highest = view.empty() ? -1 : 0;
  for (int axis = 0; axis < Rank && !view.empty(); ++axis) {
    const std::int64_t reach = (view.extent(axis) - 1) * view.stride(axis);
    (reach < 0 ? lowest : highest) += reach;
  }
  const std::int64_t offset = layout == Layout::off_by_one ? 1 : 0;
  auto buffer = std::make_shared<GuardedBuffer<T>>(highest - lowest + 1 + 2 * offset, placement);
  view.data = buffer->data() - lowest + offset;
  return {buffer, view};
}

/// Query, key and value of a problem.
template <class T>
struct InputTensors {
  Tensor<T, 4> query, key, value;
};

/// Query, key and value in one buffer: a token is [all query heads | all key heads | all value heads]. With unequal
/// lengths the shorter ones use the first tokens.
template <class T>
InputTensors<T> make_packed_inputs(const std::array<std::int64_t, 4>& query, const std::array<std::int64_t, 4>& key,
                                   const std::array<std::int64_t, 4>& value, Placement placement) {
  const std::int64_t tokens = std::max(query[2], key[2]);
  const std::int64_t token = query[1] * query[3] + key[1] * key[3] + value[1] * value[3];
  auto buffer = std::make_shared<GuardedBuffer<T>>(query[0] * tokens * token, placement);
  const auto part = [&](const std::array<std::int64_t, 4>& extents, std::int64_t offset) {
    T* first = buffer->size() == 0 ? buffer->data() : buffer->data() + offset;
    return Tensor<T, 4>{buffer, {first, extents, {tokens * token, extents[3], token, 1}}};
  };
  return {part(query, 0), part(key, query[1] * query[3]), part(value, query[1] * query[3] + key[1] * key[3])};
}

}  // namespace headwise::test
