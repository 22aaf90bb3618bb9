// headwise_accuracy [step]: the accuracy report as Markdown, each instruction set in a process of its own. With a step
// the exponential is computed for every step-th number only. Exits with 1 where something is worse than promised.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

#include "accuracy/accuracy.hpp"
#include "headwise/runtime.hpp"

namespace headwise::test {
namespace {

/// Reports an instruction set from a process of its own.
bool report(const std::string& isa, std::int64_t step) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("no process can be started");
  if (child == 0) {
    setenv("HEADWISE_ISA", isa.c_str(), 1);
    const bool good_exponential = report_exponential(step), good_attention = report_attention();
    const bool good_merge = report_merge(), good_layer = report_layer();
    std::fflush(stdout);
    std::_Exit(good_exponential && good_attention && good_merge && good_layer ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
}

}  // namespace
}  // namespace headwise::test

int main(int argc, char** argv) {
  try {
    const std::int64_t step = argc > 1 ? std::stoll(argv[1]) : 1;
    if (step < 1) throw std::invalid_argument("step must be at least 1");
    bool good = true;
    for (const auto& isa : headwise::available_isas()) good = headwise::test::report(std::string(isa), step) && good;
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception& error) {
    std::cerr << "headwise_accuracy [step]: " << error.what() << '\n';
    return 2;
  }
}
