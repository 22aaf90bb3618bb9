// While a DefaultFloatingPointMode lives, arithmetic is the default one; afterwards the caller's is back.
#include <doctest/doctest.h>

#include <cfenv>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "platform/floating_point_mode.hpp"

namespace headwise::test {
namespace {

/// The control bits of vector arithmetic, without the sticky flags. (fegetround looks at the x87 unit on x86-64.)
std::uint64_t control_bits() {
#if defined(__SSE2__)
  return _mm_getcsr() & ~0x3fU;
#else
  std::uint64_t value;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
#endif
}

void set_control_bits(std::uint64_t bits) {
#if defined(__SSE2__)
  _mm_setcsr(static_cast<unsigned>(bits));
#else
  asm volatile("msr fpcr, %0" : : "r"(bits));
#endif
}

/// Flush-to-zero, and on x86-64 denormals-are-zero.
#if defined(__SSE2__)
constexpr std::uint64_t flush_bits = 0x8040;
#else
constexpr std::uint64_t flush_bits = std::uint64_t{1} << 24;
#endif

/// Sets control bits and puts back what was there.
class ChangedMode {
 public:
  explicit ChangedMode(std::uint64_t bits) : before_(control_bits()) { set_control_bits(bits); }
  ~ChangedMode() { set_control_bits(before_); }
  ChangedMode(const ChangedMode&) = delete;
  ChangedMode& operator=(const ChangedMode&) = delete;

 private:
  std::uint64_t before_;
};

/// The control bits of a rounding direction.
std::uint64_t rounding_bits(int direction) {
  const int before = std::fegetround();
  std::fesetround(direction);
  const std::uint64_t bits = control_bits();
  std::fesetround(before);
  return bits;
}

/// What arithmetic does now; volatile keeps it where it stands.
struct Behaviour {
  bool nearest;
  bool subnormals;
};

Behaviour behaviour() {
  const volatile double one = 1, small = std::numeric_limits<double>::epsilon() / 4;
  const volatile double tiny = std::numeric_limits<double>::denorm_min(), least = std::numeric_limits<double>::min();
  const volatile double above = one + small, below = -one - small, toward_zero = one - small / 4;
  const volatile double kept = tiny * 2, half = least / 2;
  return {.nearest = above == 1 && below == -1 && toward_zero == 1, .subnormals = kept > 0 && half > 0};
}

constexpr int directions[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};

TEST_CASE("floating_point_mode: every rounding direction and flushing mode is suspended and restored") {
  const std::uint64_t initial = control_bits();
  for (const int direction : directions) {
    for (const std::uint64_t flush : {std::uint64_t{0}, flush_bits}) {
      const ChangedMode caller(rounding_bits(direction) | flush);
      const std::uint64_t changed = control_bits();
      const Behaviour outside = behaviour();
      Behaviour inside{};
      {
        const detail::DefaultFloatingPointMode mode;
        inside = behaviour();
      }
      const std::uint64_t after = control_bits();
      set_control_bits(initial);
      CAPTURE(direction);
      CAPTURE(flush);
      CHECK(outside.nearest == (direction == FE_TONEAREST));
      CHECK(outside.subnormals == (flush == 0));
      CHECK(inside.nearest);
      CHECK(inside.subnormals);
      CHECK(after == changed);
    }
  }
  CHECK(control_bits() == initial);
}

TEST_CASE("floating_point_mode: nested") {
  const std::uint64_t initial = control_bits();
  const std::uint64_t changed = rounding_bits(FE_UPWARD) | flush_bits;
  bool inner = false, outer = false;
  std::uint64_t after = 0;
  {
    const ChangedMode caller(changed);
    {
      const detail::DefaultFloatingPointMode first;
      {
        const detail::DefaultFloatingPointMode second;
        inner = behaviour().nearest && behaviour().subnormals;
      }
      outer = behaviour().nearest && behaviour().subnormals;
    }
    after = control_bits();
  }
  CHECK(inner);
  CHECK(outer);
  CHECK(after == changed);
  CHECK(control_bits() == initial);
}

TEST_CASE("floating_point_mode: flags that are raised inside can be seen outside") {
  std::feclearexcept(FE_ALL_EXCEPT);
  std::fesetround(FE_DOWNWARD);
  {
    const detail::DefaultFloatingPointMode mode;
    const volatile double zero = 0, one = 1;
    [[maybe_unused]] const volatile double quotient = one / zero;
  }
  const bool raised = std::fetestexcept(FE_DIVBYZERO) != 0;
  std::fesetround(FE_TONEAREST);
  std::feclearexcept(FE_ALL_EXCEPT);
  CHECK(raised);
}

#if defined(__SSE2__)
TEST_CASE("floating_point_mode: exception masks stay") {
  constexpr unsigned overflow_mask = 0x0400;
  std::uint64_t inside = 0;
  {
    const ChangedMode caller(rounding_bits(FE_DOWNWARD) & ~std::uint64_t{overflow_mask});
    const detail::DefaultFloatingPointMode mode;
    inside = control_bits();
  }
  CHECK((inside & overflow_mask) == 0);
  CHECK((inside | overflow_mask) == control_bits());
}
#endif

}  // namespace
}  // namespace headwise::test
