#include "headwise/runtime.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.hpp"

namespace headwise::python {

void bind_runtime(nb::module_& module) {
  module.def("version", &version, nb::sig("def version()"), "Version of the library, \"major.minor.patch\".");
  module.def("active_isa", &active_isa, nb::sig("def active_isa()"),
             R"(The instruction set whose kernels are used: "sse2", "avx2", "avx512" or "neon64".

The best one of this processor, or the one that the environment variable HEADWISE_ISA names; chosen at the first
use.)");
  module.def("available_isas", &available_isas, nb::sig("def available_isas()"),
             "The instruction sets that this build has kernels for and this machine can run, weakest first.");
  module.def(
      "build_info",
      [] {
        const BuildInfo info = build_info();
        nb::dict facts;
        facts["version"] = info.version;
        facts["compiler"] = info.compiler;
        facts["build_type"] = info.build_type;
        facts["threading"] = info.threading;
        facts["blas"] = info.blas;
        facts["blas_core"] = info.blas_core;
        facts["blas_threading"] = info.blas_threading;
        return facts;
      },
      nb::sig("def build_info()"),
      R"(What headwise was built with and runs on, as a dict of strings.

Keys: version, compiler, build_type, threading ("openmp" or "serial"), blas, blas_core, blas_threading ("openmp",
"pthread" or "serial"; with "pthread", num_threads does not reach projections).)");
}

}  // namespace headwise::python
