/// \file
/// The texts of refused arguments.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace headwise::test {

/// The text of the std::invalid_argument that `function` throws; empty if it does not throw.
template <class Function>
std::string refusal(const Function& function) {
  try {
    function();
    return "";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

inline std::string hexadecimal(const void* address) {
  std::ostringstream text;
  text << "0x" << std::hex << reinterpret_cast<std::uintptr_t>(address);
  return text.str();
}

}  // namespace headwise::test
