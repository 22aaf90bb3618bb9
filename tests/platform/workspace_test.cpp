// Scratch memory: laying out twice gives the same answer, arrays are aligned and apart.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
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

/// Whether the program survives that two calls use one workspace at a time.
bool survives_sharing(std::span<std::byte> memory) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);  // not the test program's report
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
    {
      const detail::Workspace first(memory, 64);
      const detail::Workspace second(memory, 64);
    }
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status);
}

TEST_CASE("workspace: builds with assertions detect that two calls use one at a time") {
  alignas(64) std::byte memory[128];
#ifdef NDEBUG
  CHECK(survives_sharing(memory));
#else
  CHECK_FALSE(survives_sharing(memory));
#endif
  const detail::Workspace first(std::span<std::byte>{}, 64);
  { const detail::Workspace one_call(memory, 64); }
  { const detail::Workspace next_call(memory, 64); }
}

TEST_CASE("workspace: the caller's memory is used where it is given") {
  std::vector<std::byte> given(256);
  std::byte* behind_mark = given.data() + detail::workspace_mark_bytes;
  CHECK(Workspace(given, 128).data() == behind_mark);
  CHECK(Workspace(given, 1).data() == behind_mark);
}

}  // namespace
}  // namespace headwise::test
