// The reader of .npy files: any bytes are an array with as many elements as its shape says, or a named error.
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <variant>

#include "fuzz/bytes.hpp"
#include "support/npy.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace headwise::test;
  try {
    const NpyArray array = parse_npy(std::as_bytes(std::span(data, size)));
    std::size_t count = 1;
    for (const std::int64_t extent : array.shape) count *= static_cast<std::size_t>(extent);
    const std::size_t held = std::visit([](const auto& elements) { return elements.size(); }, array.elements);
    require(held == count, "npy: holds " + std::to_string(held) + " elements, expected " + std::to_string(count));
    require(array.as<double>().size() == count, "npy: lost elements in conversion");
  } catch (const std::runtime_error& error) {
    require(std::string(error.what()).starts_with("npy: "), error.what());
  }
  return 0;
}
