/// \file
/// Choices from the bytes of a fuzzer; 0 once they are used up.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace headwise::test {

class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  bool used_up() const { return at_ == size_; }
  std::uint8_t next() { return used_up() ? std::uint8_t{0} : data_[at_++]; }
  bool yes() { return next() % 2 == 1; }

  /// A whole number of 0 … count − 1, count at most 65536.
  std::int64_t below(std::int64_t count) {
    std::int64_t number = next();
    if (count > 256) number = number * 256 + next();
    return number % count;
  }

  /// Where to look in a list of `count`.
  std::size_t index(std::size_t count) { return static_cast<std::size_t>(below(static_cast<std::int64_t>(count))); }

  /// One of the choices.
  template <class T, std::size_t Count>
  const T& among(const std::array<T, Count>& choices) {
    return choices[index(Count)];
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
};

/// Ends the program, as a fuzzer expects of a finding, unless `good`.
inline void require(bool good, const std::string& otherwise) {
  if (good) return;
  std::fprintf(stderr, "%s\n", otherwise.c_str());
  std::abort();
}

}  // namespace headwise::test
