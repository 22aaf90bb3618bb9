/// \file
/// headwise: multi-head attention for CPUs. Includes everything public.
#pragma once

#include "headwise/attention.hpp"             // attention over strided views: attention(), AttentionPlan
#include "headwise/multi_head_attention.hpp"  // the layer: projections, heads, attention, output projection
#include "headwise/runtime.hpp"               // version, instruction set, build information
#include "headwise/tensor.hpp"                // TensorView: pointer, extents, strides
