// Runs a fuzz target on the files of folders, without a fuzzer, on every instruction set of this machine, each in a
// process of its own: the seeds as a test, and what a fuzzer has learned.
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "headwise/runtime.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

/// Number of files; a finding ends the process.
int replay(int folders, char** folder) {
  int files = 0;
  for (int i = 0; i < folders; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(folder[i])) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
      const std::vector<std::uint8_t> bytes(content.begin(), content.end());
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      ++files;
    }
  }
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  bool good = true;
  for (const std::string& isa : headwise::available_isas()) {
    const pid_t child = fork();
    if (child == 0) {
      setenv("HEADWISE_ISA", isa.c_str(), 1);
      const int files = replay(argc - 1, argv + 1);
      std::printf("%s: %d files\n", headwise::active_isa(), files);
      std::fflush(stdout);
      std::_Exit(files > 0 ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    int status = 0;
    good = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == EXIT_SUCCESS && good;
  }
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
