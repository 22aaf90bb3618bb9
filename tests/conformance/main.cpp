// headwise_conformance DIR… [--expect-inexpressible NAME…]: runs folders of cases on every instruction set.
//
// The instruction set is chosen once per process, so each gets a process of its own; it reports case by case, so that
// one that crashes costs its case only.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iostream>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "conformance/case.hpp"
#include "conformance/operators.hpp"
#include "conformance/run_case.hpp"
#include "headwise/headwise.hpp"

namespace headwise::test {
namespace {

constexpr const char* usage =
    "usage: headwise_conformance DIR... [--expect-inexpressible NAME...]\n"
    "  DIR   a case (a folder with case.json) or a folder of cases\n"
    "  NAME  a case that headwise is known not to express; any other such case is a failure\n";

struct Arguments {
  std::vector<std::filesystem::path> folders;
  std::set<std::string> expected_inexpressible;
};

/// \throws std::invalid_argument
Arguments parse(int argc, char** argv) {
  Arguments arguments;
  bool names = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--expect-inexpressible") {
      names = true;
    } else if (argument.starts_with("-")) {
      throw std::invalid_argument("unknown option " + std::string(argument));
    } else if (names) {
      arguments.expected_inexpressible.emplace(argument);
    } else {
      arguments.folders.emplace_back(argument);
    }
  }
  if (arguments.folders.empty()) throw std::invalid_argument("no DIR given");
  return arguments;
}

/// The case folders in `folder`, which may be one itself, in the order of their names.
std::vector<std::filesystem::path> find_cases(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "case.json")) return {folder};
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!entry.is_directory()) continue;
    if (std::filesystem::exists(entry.path() / "case.json")) {
      found.push_back(entry.path());
    } else {
      std::cout << "no case.json in " << entry.path().string() << '\n';
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// The cases to run, and how many failed already: by being unreadable or, unexpectedly, inexpressible.
struct Selection {
  std::vector<Case> cases;
  std::size_t failed = 0;
};

void select(const std::filesystem::path& folder, const std::set<std::string>& expected_inexpressible,
            Selection& selection) {
  std::string name = std::filesystem::absolute(folder / "").parent_path().filename().string();
  try {
    Case conformance_case = read_case(folder);
    name = conformance_case.name;
    const std::string reason = inexpressible_reason(conformance_case);
    if (reason.empty()) {
      selection.cases.push_back(std::move(conformance_case));
    } else if (expected_inexpressible.contains(name)) {
      std::cout << "inexpressible, as expected: " << name << ": " << reason << '\n';
    } else {
      std::cout << "FAIL " << name << ": cannot be expressed: " << reason << '\n';
      ++selection.failed;
    }
  } catch (const std::exception& error) {
    std::cout << "FAIL " << name << ": " << error.what() << '\n';
    ++selection.failed;
  }
}

/// Body of a process: runs the cases from `first` on and writes their results to a pipe.
[[noreturn]] void run_in_child(const std::string& isa, const std::vector<Case>& cases, std::size_t first, int pipe) {
  setenv("HEADWISE_ISA", isa.c_str(), 1);
  for (std::size_t i = first; i < cases.size(); ++i) {
    const CaseResult result = run_case(cases[i], std::cout);
    if (write(pipe, &result, sizeof result) != sizeof result) std::_Exit(EXIT_FAILURE);
  }
  std::_Exit(EXIT_SUCCESS);
}

/// Starts a process for the cases that have no result yet and appends what it reports.
/// \return how it ended, as of waitpid
int run_process(const std::string& isa, const std::vector<Case>& cases, std::vector<CaseResult>& results) {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  std::cout.flush();
  const pid_t child = fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) {
    close(ends[0]);
    run_in_child(isa, cases, results.size(), ends[1]);
  }
  close(ends[1]);
  CaseResult result;
  while (read(ends[0], &result, sizeof result) == sizeof result) results.push_back(result);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

/// Runs all cases on one instruction set and prints what ran.
std::vector<CaseResult> run_on(const std::string& isa, const std::vector<Case>& cases) {
  std::vector<CaseResult> results;
  while (results.size() < cases.size()) {
    const int status = run_process(isa, cases, results);
    if (results.size() == cases.size()) break;
    std::cout << "FAIL " << cases[results.size()].name << " " << isa << ": the process ended: "
              << (WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit") << '\n';
    results.emplace_back();
  }
  CaseResult total;
  for (const CaseResult& result : results) {
    total.elements += result.elements;
    total.worst_share = std::max(total.worst_share, result.worst_share);
  }
  std::cout << isa << ": ran " << cases.size() << " cases with";
  for (const int threads : case_thread_counts) std::cout << ' ' << threads;
  std::cout << " threads, compared " << total.elements << " elements, largest error " << total.worst_share
            << " of the allowed\n";
  return results;
}

int run(const Arguments& arguments) {
  Selection selection;
  for (const std::filesystem::path& folder : arguments.folders) {
    const std::vector<std::filesystem::path> found = find_cases(folder);
    if (found.empty()) throw std::runtime_error("no case in " + folder.string());
    for (const std::filesystem::path& path : found) select(path, arguments.expected_inexpressible, selection);
  }
  std::vector<bool> passed(selection.cases.size(), true);
  for (const std::string& isa : available_isas()) {
    const std::vector<CaseResult> results = run_on(isa, selection.cases);
    for (std::size_t i = 0; i < passed.size(); ++i) passed[i] = passed[i] && results[i].passed;
  }
  const auto good = static_cast<std::size_t>(std::count(passed.begin(), passed.end(), true));
  const std::size_t failed = selection.failed + passed.size() - good;
  std::cout << good << " passed, " << failed << " failed" << std::endl;
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace headwise::test

int main(int argc, char** argv) {
  using namespace headwise::test;
  Arguments arguments;
  try {
    arguments = parse(argc, argv);
  } catch (const std::invalid_argument& error) {
    std::cerr << error.what() << '\n' << usage;
    return 2;
  }
  try {
    return run(arguments);
  } catch (const std::exception& error) {
    std::cerr << "headwise_conformance: " << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
