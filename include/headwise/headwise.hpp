/// \file
/// headwise: multi-head attention for CPUs. Includes everything public.
#pragma once

#include "headwise/attention.hpp"             // attention over strided views: attention(), AttentionPlan
#include "headwise/kv_cache.hpp"              // KvCache: keys and values that grow token by token, also as a ring
#include "headwise/merge.hpp"                 // merging partial results over shards of the keys
#include "headwise/multi_head_attention.hpp"  // the layer: projections, heads, attention, output projection
#include "headwise/rotary.hpp"                // rotary position embedding on views in place
#include "headwise/runtime.hpp"               // version, instruction set, build information
#include "headwise/tensor.hpp"                // TensorView: pointer, extents, strides
