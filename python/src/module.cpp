#include <nanobind/nanobind.h>

#include "bindings.hpp"
#include "results.hpp"

NB_MODULE(_headwise, module) {
  module.doc() = "The compiled half of headwise; import headwise instead.";
  headwise::python::find_numpy();
  headwise::python::bind_runtime(module);
  headwise::python::bind_attention(module);
  headwise::python::bind_plan(module);
  headwise::python::bind_kv_cache(module);
  headwise::python::bind_layer(module);
  headwise::python::bind_projection(module);
  headwise::python::bind_rotary(module);
  headwise::python::bind_merge(module);
  headwise::python::bind_onnx(module);
  headwise::python::bind_timing(module);
}
