// What a task computes in: the floating-point mode, and errno, which mathematical functions set.
#pragma once

#include <cerrno>
#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace headwise::detail {

/// While it lives, this thread rounds to nearest and keeps subnormals, whatever the caller chose; exception masks stay.
/// Results therefore have the same bits in every mode. Restores the control bits and errno; sticky flags may be set.
class TaskEnvironment {
 public:
  TaskEnvironment() : control_(read()), errno_(errno) {
    if (changes()) write(control_ & ~changed_bits);
  }
  ~TaskEnvironment() {
    if (changes()) write((read() & ~changed_bits) | (control_ & changed_bits));
    errno = errno_;
  }
  TaskEnvironment(const TaskEnvironment&) = delete;
  TaskEnvironment& operator=(const TaskEnvironment&) = delete;

  /// Whether the thread was in another mode before.
  bool changes() const { return (control_ & changed_bits) != 0; }

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

  Register control_;
  int errno_;
};

}  // namespace headwise::detail
