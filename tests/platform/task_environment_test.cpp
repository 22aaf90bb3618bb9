// While a TaskEnvironment lives, arithmetic is the default one; afterwards the caller's is back, and errno.
#include <doctest/doctest.h>

#include <cerrno>
#include <cfenv>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "platform/task_environment.hpp"
#include "support/control_bits.hpp"

namespace headwise::test {
namespace {

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

TEST_CASE("task_environment: every rounding direction and flushing mode is suspended and restored") {
  const std::uint64_t initial = control_bits();
  for (const int direction : directions) {
    for (const std::uint64_t flush : {std::uint64_t{0}, flush_bits}) {
      const ChangedMode caller(rounding_bits(direction) | flush);
      const std::uint64_t changed = control_bits();
      const Behaviour outside = behaviour();
      Behaviour inside{};
      {
        const detail::TaskEnvironment environment;
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

TEST_CASE("task_environment: nested") {
  const std::uint64_t initial = control_bits();
  const std::uint64_t changed = rounding_bits(FE_UPWARD) | flush_bits;
  bool inner = false, outer = false;
  std::uint64_t after = 0;
  {
    const ChangedMode caller(changed);
    {
      const detail::TaskEnvironment first;
      {
        const detail::TaskEnvironment second;
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

TEST_CASE("task_environment: errno is what it was") {
  errno = 4242;
  {
    const detail::TaskEnvironment environment;
    errno = ERANGE;
  }
  const int after = errno;
  CHECK(after == 4242);
}

TEST_CASE("task_environment: flags that are raised inside can be seen outside") {
  std::feclearexcept(FE_ALL_EXCEPT);
  std::fesetround(FE_DOWNWARD);
  {
    const detail::TaskEnvironment environment;
    const volatile double zero = 0, one = 1;
    [[maybe_unused]] const volatile double quotient = one / zero;
  }
  const bool raised = std::fetestexcept(FE_DIVBYZERO) != 0;
  std::fesetround(FE_TONEAREST);
  std::feclearexcept(FE_ALL_EXCEPT);
  CHECK(raised);
}

#if defined(__SSE2__)
TEST_CASE("task_environment: exception masks stay") {
  constexpr unsigned overflow_mask = 0x0400;
  std::uint64_t inside = 0;
  {
    const ChangedMode caller(rounding_bits(FE_DOWNWARD) & ~std::uint64_t{overflow_mask});
    const detail::TaskEnvironment environment;
    inside = control_bits();
  }
  CHECK((inside & overflow_mask) == 0);
  CHECK((inside | overflow_mask) == control_bits());
}
#endif

}  // namespace
}  // namespace headwise::test
