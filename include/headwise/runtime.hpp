/// \file
/// What this build is and what it runs on. Read-only.
#pragma once

#include <string>
#include <vector>

namespace headwise {
inline namespace v0 {

/// Version of the library, "major.minor.patch".
const char* version();

/// The instruction set whose kernels are used: "sse2", "avx2", "avx512" or "neon64".
/// The best one of this processor, or the one named by the environment variable HEADWISE_ISA; chosen once, at the first
/// use.
/// \throws std::invalid_argument if HEADWISE_ISA names an unknown instruction set or one this machine lacks.
const char* active_isa();

/// The instruction sets that this build has kernels for and this machine can run, weakest first.
std::vector<std::string> available_isas();

/// What headwise was built with and runs on.
struct BuildInfo {
  std::string version;         ///< as version()
  std::string compiler;        ///< e.g. "g++ 12.2.0"
  std::string build_type;      ///< "optimised" or "debug": of the code around the kernels, which are always optimised
  std::string threading;       ///< "openmp" or "serial"
  std::string blas;            ///< configuration string of the BLAS that is loaded now
  std::string blas_core;       ///< the core its kernels are for, e.g. "SkylakeX"
  std::string blas_threading;  ///< "openmp", "pthread" or "serial"; num_threads reaches projections with openmp alone
};

/// The facts above, read anew at each call.
BuildInfo build_info();

}  // namespace v0
}  // namespace headwise
