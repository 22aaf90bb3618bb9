/// \file
/// Memory between two unreadable pages, filled with signalling NaN: an access outside it ends the program, a value
/// read from a gap spoils the result, a gap written to no longer holds the pattern.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <type_traits>

namespace headwise::test {

/// Which end of the memory touches an unreadable page. The pages at the other end are there, too, up to a page away.
enum class Placement { before_guard, after_guard };

/// Unsigned integer as wide as T.
template <class T>
using BitsOf =
    std::conditional_t<sizeof(T) == 1, std::uint8_t, std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;

/// What unused and unwritten elements hold: a signalling NaN, or a byte that says true.
template <class T>
inline constexpr BitsOf<T> poison_bits = std::bit_cast<BitsOf<T>>(std::numeric_limits<T>::signaling_NaN()) | 0x5a;

/// Elements between guard pages.
template <class T>
class GuardedBuffer {
 public:
  GuardedBuffer(std::int64_t count, Placement placement) : count_(count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    inner_bytes_ = std::max((bytes + page - 1) / page, std::size_t{1}) * page;
    mapped_bytes_ = inner_bytes_ + 2 * page;
    void* mapped = mmap(nullptr, mapped_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    mapped_ = static_cast<std::byte*>(mapped);
    protect(PROT_READ | PROT_WRITE);
    std::byte* inner = mapped_ + page;
    data_ = reinterpret_cast<T*>(placement == Placement::before_guard ? inner + (inner_bytes_ - bytes) : inner);
    poison();
  }
  ~GuardedBuffer() { munmap(mapped_, mapped_bytes_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  T* data() const { return data_; }
  std::int64_t size() const { return count_; }

  /// Fills everything with the signalling NaN.
  void poison() { std::fill_n(reinterpret_cast<BitsOf<T>*>(data_), count_, poison_bits<T>); }

  /// From now on a write ends the program.
  void make_read_only() { protect(PROT_READ); }

 private:
  void protect(int protection) {
    const std::size_t guard = (mapped_bytes_ - inner_bytes_) / 2;
    if (mprotect(mapped_ + guard, inner_bytes_, protection) != 0) throw std::bad_alloc();
  }

  std::int64_t count_;
  std::size_t inner_bytes_ = 0, mapped_bytes_ = 0;
  std::byte* mapped_ = nullptr;
  T* data_ = nullptr;
};

}  // namespace headwise::test
