/// \file
/// The parts of the extension, one function for each.
#pragma once

#include <nanobind/nanobind.h>

namespace headwise::python {

namespace nb = nanobind;

void bind_runtime(nb::module_& module);
void bind_attention(nb::module_& module);
void bind_plan(nb::module_& module);
void bind_kv_cache(nb::module_& module);
void bind_layer(nb::module_& module);
void bind_projection(nb::module_& module);
void bind_rotary(nb::module_& module);
void bind_merge(nb::module_& module);
void bind_onnx(nb::module_& module);
void bind_timing(nb::module_& module);

}  // namespace headwise::python
