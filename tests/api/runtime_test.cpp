#include "headwise/runtime.hpp"

#include <algorithm>
#include <cstdio>
#include <doctest/doctest.h>
#include <string>
#include <vector>

namespace headwise::test {

TEST_CASE("the version is three numbers") {
  int major = -1, minor = -1, patch = -1, length = 0;
  REQUIRE(std::sscanf(version(), "%d.%d.%d%n", &major, &minor, &patch, &length) == 3);
  CHECK(std::string(version()).size() == static_cast<std::size_t>(length));
}

TEST_CASE("the active instruction set is one of those available") {
  const std::vector<std::string> available = available_isas();
  CHECK(std::count(available.begin(), available.end(), active_isa()) == 1);
}

TEST_CASE("build_info describes the build and its BLAS") {
  const BuildInfo info = build_info();
  CHECK(info.version == version());
  CHECK((info.compiler.starts_with("g++ ") || info.compiler.starts_with("clang++ ")));
  CHECK((info.build_type == "optimised" || info.build_type == "debug"));
  CHECK((info.threading == "openmp" || info.threading == "serial"));
  CHECK(info.blas.find("OpenBLAS") != std::string::npos);
  CHECK_FALSE(info.blas_core.empty());
  CHECK((info.blas_threading == "openmp" || info.blas_threading == "pthread" || info.blas_threading == "serial"));
}

}  // namespace headwise::test
