// The one form of every error text: "headwise: <argument> is <value>, expected <expectation>".
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace headwise::detail {

[[noreturn]] inline void refuse(std::string_view argument, std::string_view value, std::string_view expectation) {
  std::string text = "headwise: ";
  text.append(argument).append(" is ").append(value).append(", expected ").append(expectation);
  throw std::invalid_argument(text);
}

[[noreturn]] inline void refuse(std::string_view argument, std::int64_t value, std::string_view expectation) {
  refuse(argument, std::string_view(std::to_string(value)), expectation);
}

}  // namespace headwise::detail
