// Scratch memory: laying out twice gives the same answer, arrays are aligned and apart.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "platform/workspace.hpp"

namespace headwise::test {
namespace {

using detail::Carver;
using detail::Workspace;
using detail::workspace_alignment;

struct Arrays {
  std::byte* bytes;
  double* numbers;
  int* nothing;
  float* last;
};

Arrays carve(Carver& carver) {
  return {carver.take<std::byte>(1), carver.take<double>(9), carver.take<int>(0), carver.take<float>(16)};
}

std::size_t address(const void* pointer) { return reinterpret_cast<std::size_t>(pointer); }

TEST_CASE("workspace: sizes are rounded up to the alignment") {
  CHECK(detail::round_to_alignment(0) == 0);
  CHECK(detail::round_to_alignment(1) == 64);
  CHECK(detail::round_to_alignment(64) == 64);
  CHECK(detail::round_to_alignment(65) == 128);
}

TEST_CASE("workspace: measuring and carving agree; arrays are aligned, in order and apart") {
  Carver measure;
  const Arrays none = carve(measure);
  CHECK(none.bytes == nullptr);
  CHECK(none.numbers == nullptr);
  CHECK(none.last == nullptr);
  CHECK(measure.used() == 64 + 128 + 0 + 64);

  const Workspace workspace({}, measure.used());
  Carver carver(workspace.data());
  const Arrays arrays = carve(carver);
  CHECK(carver.used() == measure.used());
  CHECK(address(arrays.bytes) == address(workspace.data()));
  CHECK(address(arrays.numbers) == address(arrays.bytes) + 64);
  CHECK(address(arrays.last) == address(arrays.numbers) + 128);
  for (const void* array : {static_cast<void*>(arrays.bytes), static_cast<void*>(arrays.numbers),
                            static_cast<void*>(arrays.last)}) {
    CHECK(address(array) % workspace_alignment == 0);
  }
}

TEST_CASE("workspace: an allocation of its own is aligned and writable, none for 0 bytes") {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{64}, std::size_t{1} << 20}) {
    const Workspace workspace({}, bytes);
    REQUIRE(workspace.data() != nullptr);
    CHECK(address(workspace.data()) % workspace_alignment == 0);
    workspace.data()[0] = workspace.data()[bytes - 1] = std::byte{1};
  }
  CHECK(Workspace({}, 0).data() == nullptr);
}

TEST_CASE("workspace: the caller's memory is used where it is given") {
  std::vector<std::byte> given(256);
  CHECK(Workspace(given, 256).data() == given.data());
  CHECK(Workspace(given, 1).data() == given.data());
}

}  // namespace
}  // namespace headwise::test
