// The instruction sets that this processor's flags promise are the ones that the library offers, and the one asked for
// is the one used. CTest runs the whole program once for each.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "headwise/runtime.hpp"
#include "support/environment.hpp"

namespace headwise::test {
namespace {

/// The processor's flags as the operating system lists them.
std::set<std::string> processor_flags() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    return {std::istream_iterator<std::string>(words), std::istream_iterator<std::string>()};
  }
  return {};
}

/// Instruction sets to expect, weakest first. An emulator shows its host's /proc/cpuinfo: there the environment
/// variable HEADWISE_TEST_EXPECTED_ISAS says what it emulates, as "sse2 avx2".
std::vector<std::string> expected_isas() {
  if (const std::string given(environment("HEADWISE_TEST_EXPECTED_ISAS")); !given.empty()) {
    std::istringstream words(given);
    return {std::istream_iterator<std::string>(words), std::istream_iterator<std::string>()};
  }
  struct Isa {
    const char* name;
    std::vector<std::string> flags;
  };
  const std::vector<Isa> isas{{"sse2", {"sse2"}},
                              {"avx2", {"avx2", "fma"}},
                              {"avx512", {"avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl"}},
                              {"neon64", {"asimd"}}};
  const std::set<std::string> flags = processor_flags();
  std::vector<std::string> expected;
  for (const Isa& isa : isas) {
    const auto listed = [&](const std::string& flag) { return flags.count(flag) == 1; };
    if (std::all_of(isa.flags.begin(), isa.flags.end(), listed)) expected.emplace_back(isa.name);
  }
  return expected;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += " " + word;
  return text;
}

TEST_CASE("isa: the library offers what the processor's flags promise") {
  const std::vector<std::string> expected = expected_isas();
  MESSAGE("instruction sets expected:", joined(expected), "; offered:", joined(available_isas()),
          "; active: ", std::string(active_isa()));
  CHECK(!expected.empty());
  CHECK_MESSAGE(available_isas() == expected, "offered:", joined(available_isas()), ", expected:", joined(expected));
}

TEST_CASE("isa: the active one is offered, and the one asked for, else the best") {
  const std::vector<std::string> isas = available_isas();
  REQUIRE(!isas.empty());
  CHECK(std::count(isas.begin(), isas.end(), active_isa()) == 1);
  const std::string asked(environment("HEADWISE_ISA"));
  CHECK(std::string(active_isa()) == (asked.empty() ? isas.back() : asked));
}

}  // namespace
}  // namespace headwise::test
