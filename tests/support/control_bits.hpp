/// \file
/// The control bits of this thread's arithmetic: rounding direction, flushing of subnormal numbers, exception masks.
#pragma once

#include <cfenv>
#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace headwise::test {

/// The control bits of vector arithmetic, without the sticky flags. (fegetround looks at the x87 unit on x86-64.)
inline std::uint64_t control_bits() {
#if defined(__SSE2__)
  return _mm_getcsr() & ~0x3fU;
#else
  std::uint64_t value;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
#endif
}

inline void set_control_bits(std::uint64_t bits) {
#if defined(__SSE2__)
  _mm_setcsr(static_cast<unsigned>(bits));
#else
  asm volatile("msr fpcr, %0" : : "r"(bits));
#endif
}

/// Flush-to-zero, and on x86-64 denormals-are-zero.
#if defined(__SSE2__)
inline constexpr std::uint64_t flush_bits = 0x8040;
#else
inline constexpr std::uint64_t flush_bits = std::uint64_t{1} << 24;
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
inline std::uint64_t rounding_bits(int direction) {
  const int before = std::fegetround();
  std::fesetround(direction);
  const std::uint64_t bits = control_bits();
  std::fesetround(before);
  return bits;
}

}  // namespace headwise::test
