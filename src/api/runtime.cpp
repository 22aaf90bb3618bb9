#include "headwise/runtime.hpp"

#include "kernels/dispatch.hpp"
#include "platform/blas.hpp"

namespace headwise {
inline namespace v0 {
namespace {

std::string compiler() {
#ifdef __clang__
  return "clang++ " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string build_type() {
#ifdef __OPTIMIZE__
  return "optimised";
#else
  return "debug";
#endif
}

std::string threading() {
#ifdef _OPENMP
  return "openmp";
#else
  return "serial";
#endif
}

}  // namespace

const char* version() { return HEADWISE_VERSION; }

const char* active_isa() { return detail::active_instruction_set().name.data(); }  // names are string literals

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const detail::InstructionSet& isa : detail::built_instruction_sets()) {
    if (isa.runs_here()) names.emplace_back(isa.name);
  }
  return names;
}

BuildInfo build_info() {
  const detail::BlasInfo blas = detail::blas_info();
  return {.version = version(),
          .compiler = compiler(),
          .build_type = build_type(),
          .threading = threading(),
          .blas = blas.configuration,
          .blas_core = blas.core,
          .blas_threading = blas.threading};
}

}  // namespace v0
}  // namespace headwise
