// The exact overlap decision against brute force, and its limits: absurd numbers and the budget of the search.
#include "api/overlap.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <string>

namespace headwise::test {
namespace {

using detail::address_range;
using detail::element_view;
using detail::elements_coincide;
using detail::ElementView;
using detail::plain_address_range;
using detail::plainly_apart;
using detail::shares_element;

constexpr std::int64_t kHighest = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kLowest = std::numeric_limits<std::int64_t>::min();

class RandomViews {
 public:
  std::int64_t number(std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(least, most)(generator_);
  }

  /// Up to four axes, extents from 0, strides of both signs and zero, at any byte.
  ElementView small() {
    ElementView view{static_cast<std::uintptr_t>(number(10'000, 10'060)),
                     std::int64_t{1} << number(0, 3),
                     static_cast<int>(number(0, 4)),
                     {},
                     {}};
    for (std::size_t axis = 0; axis < 4; ++axis) {
      view.extents[axis] = number(number(0, 9) == 0 ? 0 : 1, 4);
      view.strides[axis] = number(-12, 12);
    }
    return view;
  }

  /// Four axes of unrelated strides, `base` and a bit: hard to decide.
  ElementView hard(std::int64_t base, std::int64_t spread) {
    ElementView view{std::uintptr_t{1} << 40, 4, 4, {}, {}};
    for (std::size_t axis = 0; axis < 4; ++axis) {
      view.extents[axis] = number(2, 60);
      view.strides[axis] = base + number(1, spread);
    }
    view.address += 4 * static_cast<std::uintptr_t>(number(0, 100 * (base + spread)));
    return view;
  }

 private:
  std::mt19937_64 generator_{20240817};
};

/// The byte address of every element, with repetitions.
std::multiset<std::int64_t> element_addresses(const ElementView& view) {
  std::multiset<std::int64_t> addresses{static_cast<std::int64_t>(view.address)};
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(view.rank); ++axis) {
    std::multiset<std::int64_t> extended;
    for (const std::int64_t address : addresses) {
      for (std::int64_t i = 0; i < view.extents[axis]; ++i) {
        extended.insert(address + i * view.strides[axis] * view.element_size);
      }
    }
    addresses = std::move(extended);
  }
  return addresses;
}

std::set<std::int64_t> bytes_of(const ElementView& view) {
  std::set<std::int64_t> bytes;
  for (const std::int64_t address : element_addresses(view)) {
    for (std::int64_t byte = 0; byte < view.element_size; ++byte) bytes.insert(address + byte);
  }
  return bytes;
}

bool shares_element_by_enumeration(const ElementView& a, const ElementView& b) {
  const std::set<std::int64_t> bytes = bytes_of(a);
  for (const std::int64_t byte : bytes_of(b)) {
    if (bytes.contains(byte)) return true;
  }
  return false;
}

bool elements_coincide_by_enumeration(const ElementView& view) {
  const std::multiset<std::int64_t> addresses = element_addresses(view);
  return std::set<std::int64_t>(addresses.begin(), addresses.end()).size() != addresses.size();
}

std::string description(const ElementView& view) {
  std::string text = std::to_string(view.address) + " size " + std::to_string(view.element_size);
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(view.rank); ++axis) {
    text += " (" + std::to_string(view.extents[axis]) + " by " + std::to_string(view.strides[axis]) + ")";
  }
  return text;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST_CASE("shares_element agrees with enumeration") {
  RandomViews random;
  int shared = 0, interleaved = 0;
  for (int repeat = 0; repeat < 6'000; ++repeat) {
    const ElementView a = random.small(), b = random.small();
    const bool expected = shares_element_by_enumeration(a, b);
    INFO(description(a), " and ", description(b));
    REQUIRE(shares_element(a, b) == expected);
    REQUIRE(shares_element(b, a) == expected);
    shared += expected;
    if (!expected && !a.empty() && !b.empty()) {
      interleaved +=
          address_range(a)->first <= address_range(b)->last && address_range(b)->first <= address_range(a)->last;
    }
  }
  CHECK(shared > 1'000);
  CHECK(interleaved > 500);
}

TEST_CASE("elements_coincide agrees with enumeration") {
  RandomViews random;
  int coinciding = 0;
  for (int repeat = 0; repeat < 6'000; ++repeat) {
    const ElementView view = random.small();
    INFO(description(view));
    const bool expected = elements_coincide_by_enumeration(view);
    REQUIRE(elements_coincide(view) == expected);
    coinciding += expected;
  }
  CHECK(coinciding > 1'000);
  CHECK(coinciding < 5'000);
}

TEST_CASE("tensors interleaved in one buffer share nothing") {
  // [batch 8, position 512, {query, key, value, output}, head 12, feature 64] seen as [batch, head, position, feature].
  constexpr std::int64_t row = 12 * 64;
  ElementView tensors[4];
  for (std::size_t i = 0; i < 4; ++i) {
    tensors[i] = {(std::uintptr_t{1} << 30) + i * row * 4, 4, 4, {8, 12, 512, 64}, {512 * 4 * row, 64, 4 * row, 1}};
  }
  for (const ElementView& a : tensors) {
    CHECK_FALSE(elements_coincide(a));
    for (const ElementView& b : tensors) CHECK(shares_element(a, b) == (&a == &b));
  }
  // One feature too many reaches into the neighbour.
  ElementView wide = tensors[3];
  wide.extents[3] = 65;
  CHECK(elements_coincide(wide));
  CHECK(shares_element(wide, tensors[0]));
  CHECK_FALSE(shares_element(wide, tensors[1]));
}

TEST_CASE("address_range is exact and refuses what 64-bit addresses cannot hold") {
  const ElementView view{1'000, 4, 3, {3, 1, 5}, {-10, kLowest, 2}};
  REQUIRE(address_range(view));
  CHECK(address_range(view)->first == 1'000 - 4 * 20);
  CHECK(address_range(view)->last == 1'000 + 4 * 8 + 3);

  const auto fits = [](std::uintptr_t address, std::int64_t extent, std::int64_t stride) {
    return address_range({address, 1, 1, {extent}, {stride}}).has_value();
  };
  constexpr std::uintptr_t top = std::numeric_limits<std::uintptr_t>::max();
  CHECK(fits(top, 1, kHighest));
  CHECK(fits(top - 9, 10, 1));
  CHECK_FALSE(fits(top - 8, 10, 1));
  CHECK(fits(9, 10, -1));
  CHECK_FALSE(fits(8, 10, -1));
  CHECK(fits(0, kHighest, 1));
  CHECK_FALSE(fits(0, 2, kHighest));
  CHECK_FALSE(fits(0, kHighest, kHighest));
  CHECK_FALSE(fits(top, kHighest, kLowest));
}

TEST_CASE("what is plain at a glance is what a closer look finds") {
  RandomViews random;
  int plain = 0, apart = 0, coinciding = 0;
  for (int repeat = 0; repeat < 20'000; ++repeat) {
    const ElementView any = random.small();
    TensorView<const float, 4> view{reinterpret_cast<const float*>(any.address), any.extents, any.strides};
    const auto range = plain_address_range(view);
    if (!range) continue;
    const ElementView exact = element_view(view);
    INFO(description(exact));
    REQUIRE(!exact.empty());
    REQUIRE(exact.address % sizeof(float) == 0);
    REQUIRE(address_range(exact));
    REQUIRE(range->first == address_range(exact)->first);
    REQUIRE(range->last == address_range(exact)->last);
    const bool coincide = elements_coincide_by_enumeration(exact);
    if (plainly_apart(view)) REQUIRE(!coincide);
    plain += 1, coinciding += coincide, apart += plainly_apart(view);
  }
  CHECK(plain > 500);
  CHECK(apart > 50);
  CHECK(coinciding > 50);

  // Dense heads one after another, side by side in a token, and broadcast.
  alignas(float) const std::byte memory[4]{};
  const auto* const first = reinterpret_cast<const float*>(memory);
  CHECK(plainly_apart(TensorView<const float, 4>{first, {2, 8, 16, 64}, {8192, 1024, 64, 1}}));
  CHECK(plainly_apart(TensorView<const float, 4>{first, {2, 8, 16, 64}, {8192, 64, 512, 1}}));
  CHECK_FALSE(plainly_apart(TensorView<const float, 4>{first, {2, 8, 16, 64}, {8192, 64, 511, 1}}));
  CHECK_FALSE(plainly_apart(TensorView<const float, 4>{first, {2, 8, 16, 64}, {8192, 0, 64, 1}}));
}

TEST_CASE("numbers that need care are not plain") {
  const float element = 0;
  constexpr std::int64_t numbers[] = {kLowest, kLowest + 1, -1, 0, 1, 2, kHighest - 1, kHighest};
  for (const std::int64_t extent : numbers) {
    for (const std::int64_t stride : numbers) {
      const TensorView<const float, 3> view{&element, {extent, 2, extent}, {stride, 1, stride}};
      const bool small = extent == 1 || (extent == 2 && stride >= 0 && stride <= 2);
      CHECK(plain_address_range(view).has_value() == small);
    }
  }
  CHECK_FALSE(plain_address_range(TensorView<const float, 1>{nullptr, {2}, {1}}));
  CHECK_FALSE(plain_address_range(TensorView<const float, 1>{reinterpret_cast<const float*>(4099), {2}, {1}}));
  CHECK_FALSE(plain_address_range(TensorView<const float, 1>{reinterpret_cast<const float*>(kLowest), {2}, {1}}));
}

TEST_CASE("absurd views are refused without undefined behaviour") {
  constexpr std::int64_t numbers[] = {kLowest, kLowest + 1, -1, 0, 1, 2, kHighest - 1, kHighest};
  const ElementView plain{std::uintptr_t{1} << 40, 8, 4, {2, 2, 2, 2}, {8, 4, 2, 1}};
  for (const std::int64_t extent : numbers) {
    for (const std::int64_t stride : numbers) {
      const ElementView view{
          std::uintptr_t{1} << 40, 8, 4, {extent, extent, extent, 3}, {stride, stride, stride, stride}};
      const bool refused = !view.empty() && !address_range(view);
      if (refused || view.empty()) {
        CHECK(shares_element(view, plain) == refused);
        CHECK(shares_element(plain, view) == refused);
        CHECK(elements_coincide(view) == refused);
      } else {
        CHECK(shares_element(view, plain));  // both hold the byte at the common base
        CHECK(elements_coincide(view) == (extent > 1 || stride == 0));
      }
    }
  }
}

TEST_CASE("unrelated strides stay within the budget") {
  RandomViews random;
  const auto start = std::chrono::steady_clock::now();
  for (const std::int64_t base : {std::int64_t{0}, std::int64_t{1} << 20, std::int64_t{1} << 45}) {
    for (const std::int64_t spread : {1'000, 1'000'000, 1'000'000'000}) {
      for (int repeat = 0; repeat < 10; ++repeat) {
        const ElementView a = random.hard(base, spread), b = random.hard(base, spread);
        CHECK(shares_element(a, a));
        shares_element(a, b);
        elements_coincide(a);
      }
    }
  }
  CHECK(seconds_since(start) < 20);  // 270 decisions of at most four searches; 0.3 ms a search without emulation
}

}  // namespace
}  // namespace headwise::test
