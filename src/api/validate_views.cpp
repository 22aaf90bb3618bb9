#include "api/validate_views.hpp"

#include <charconv>
#include <cmath>

namespace headwise::detail {
namespace {

std::string strides_text(const ElementView& view) {
  return list_text(std::span(view.strides).first(static_cast<std::size_t>(view.rank)));
}

}  // namespace

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";  // whatever its sign
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

std::string address_text(std::uintptr_t address) {
  std::array<char, 2 + 2 * sizeof(address)> text{'0', 'x'};
  const auto end = std::to_chars(text.data() + 2, text.data() + text.size(), address, 16).ptr;
  return {text.data(), end};
}

std::string list_text(std::span<const std::int64_t> values) {
  std::string text = "[";
  for (const std::int64_t value : values) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(value);
  }
  return text + "]";
}

std::int64_t count_elements(std::span<const std::int64_t> extents) {
  std::int64_t count = 1;
  for (const std::int64_t extent : extents) {
    if (extent > 0 && (__builtin_mul_overflow(count, extent, &count) || count > kMaximumElements)) {
      return kMaximumElements + 1;
    }
  }
  return count;
}

std::string ArgumentName::text() const {
  const std::string prefix = list.empty() ? "" : std::string(list) + "[" + std::to_string(index) + "].";
  return prefix + std::string(name);
}

std::string ArgumentName::text(std::string_view property) const { return text().append(property); }

std::string ArgumentName::element_text(std::size_t element) const {
  return text("[" + std::to_string(element) + "]");
}

std::string ArgumentName::extent_text(int axis) const { return text(".extent(" + std::to_string(axis) + ")"); }

std::string Axis::text() const { return std::to_string(extent) + " (" + meaning + ")"; }

AddressRange validate_memory(const ArgumentName& name, const ElementView& view, bool followed) {
  if (view.empty()) return {};
  const auto extents = std::span(view.extents).first(static_cast<std::size_t>(view.rank));
  const std::int64_t count = count_elements(extents);
  if (count > kMaximumElements) refuse(name.text(".extents"), list_text(extents), kMaximumElementsText);
  if (view.address == 0) {
    if (!followed) return {};
    refuse(name.text(".data"), "null", "a pointer to " + std::to_string(count) + " elements");
  }
  // Strides count elements: with an aligned base every element is aligned.
  if ((view.address & (static_cast<std::uintptr_t>(view.element_size) - 1)) != 0) {
    refuse(name.text(".data"), address_text(view.address),
           "an address aligned to " + std::to_string(view.element_size) + " bytes");
  }
  const auto range = address_range(view);
  if (!range) refuse(name.text(".strides"), strides_text(view), "every element within 64-bit byte addresses");
  return *range;
}

void MemoryCheck::add_output(const ArgumentName& name, const ElementView& view) {
  if (view.empty()) return;
  const Output output{name, view, validate_memory(name, view, true)};
  if (elements_coincide(view)) {
    refuse(name.text(".strides"), strides_text(view), "strides that give every element an address of its own");
  }
  for (std::size_t i = 0; i < count_; ++i) {
    expect_apart(output, outputs_[i]->name, outputs_[i]->view, outputs_[i]->range);
  }
  keep(output);
}

void MemoryCheck::add_input(const ArgumentName& name, const ElementView& view) const {
  const AddressRange range = validate_memory(name, view, count_ > 0);
  for (std::size_t i = 0; i < count_; ++i) expect_apart(*outputs_[i], name, view, range);
}

void MemoryCheck::expect_apart(const Output& output, const ArgumentName& name, const ElementView& view,
                               const AddressRange& range) const {
  if (!output.range.overlaps(range) || !shares_element(output.view, view)) return;
  refuse(output.name.text(".data"), address_text(output.view.address),
         "a view that shares no element with " + name.text());
}

}  // namespace headwise::detail
