#include "api/validate_views.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace headwise::detail {
namespace {

std::string strides_text(const ElementView& view) {
  return list_text(std::span(view.strides).first(static_cast<std::size_t>(view.rank)));
}

void expect_distinct_elements(const NamedView& output) {
  if (!elements_coincide(output.view)) return;
  refuse(std::string(output.name) + ".strides", strides_text(output.view),
         "strides that give every element an address of its own");
}

void expect_apart(const NamedView& output, const NamedView& other) {
  if (!shares_element(output.view, other.view)) return;
  refuse(std::string(output.name) + ".data", address_text(output.view.address),
         "a view that shares no element with " + std::string(other.name));
}

}  // namespace

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

void validate_memory(const NamedView& argument, bool followed) {
  const auto& [name, view] = argument;
  if (view.empty()) return;
  const auto extents = std::span(view.extents).first(static_cast<std::size_t>(view.rank));
  const std::int64_t count = count_elements(extents);
  if (count > kMaximumElements) refuse(std::string(name) + ".extents", list_text(extents), kMaximumElementsText);
  if (view.address == 0) {
    if (!followed) return;
    refuse(std::string(name) + ".data", "null", "a pointer to " + std::to_string(count) + " elements");
  }
  // Strides count elements: with an aligned base every element is aligned.
  if (view.address % static_cast<std::uintptr_t>(view.element_size) != 0) {
    refuse(std::string(name) + ".data", address_text(view.address),
           "an address aligned to " + std::to_string(view.element_size) + " bytes");
  }
  if (!address_range(view)) {
    refuse(std::string(name) + ".strides", strides_text(view), "every element within 64-bit byte addresses");
  }
}

void validate_views(std::span<const NamedView> inputs, std::span<const NamedView> outputs) {
  const bool writes = std::any_of(outputs.begin(), outputs.end(), [](const NamedView& o) { return !o.view.empty(); });
  for (const NamedView& input : inputs) validate_memory(input, writes);
  for (const NamedView& output : outputs) validate_memory(output, true);

  for (std::size_t i = 0; i < outputs.size(); ++i) {
    expect_distinct_elements(outputs[i]);
    for (const NamedView& input : inputs) expect_apart(outputs[i], input);
    for (const NamedView& earlier : outputs.first(i)) expect_apart(outputs[i], earlier);
  }
}

}  // namespace headwise::detail
