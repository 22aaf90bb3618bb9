// The floating-point environment of a task.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace headwise::detail {

/// While it lives, this thread rounds to nearest and keeps subnormals, whatever the caller chose; exception masks stay.
/// Results therefore have the same bits in every mode. Restores the control bits; sticky flags may be set.
class DefaultFloatingPointMode {
 public:
  DefaultFloatingPointMode() : saved_(read()) {
    if ((saved_ & changed_bits) != 0) write(saved_ & ~changed_bits);
  }
  ~DefaultFloatingPointMode() {
    if ((saved_ & changed_bits) != 0) write((read() & ~changed_bits) | (saved_ & changed_bits));
  }
  DefaultFloatingPointMode(const DefaultFloatingPointMode&) = delete;
  DefaultFloatingPointMode& operator=(const DefaultFloatingPointMode&) = delete;

 private:
#if defined(__SSE2__)
  using Register = unsigned int;
  static constexpr Register changed_bits = 0xE040;  // rounding control, FTZ, DAZ
  static Register read() { return _mm_getcsr(); }
  static void write(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
  using Register = std::uint64_t;
  static constexpr Register changed_bits = Register(7) << 22;  // rounding mode, FZ
  static Register read() {
    Register value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void write(Register value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#else
#error "headwise needs x86-64 or aarch64"
#endif

  Register saved_;
};

}  // namespace headwise::detail
