// Few rows against many keys: one task is one chunk of keys of one key/value head; partial results are merged in order.
#pragma once

#include <cstddef>

#include "drivers/tile_buffers.hpp"

namespace headwise::detail {

/// Workspace of run_decode for any strides, key lengths up to shape.key_length and `num_threads` threads.
template <class T, class KV>
std::size_t decode_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, int num_threads);

/// Computes the sequences whose path is row_dot; `workspace` has decode_workspace_bytes of the call's shape.
template <class T, class KV>
void run_decode(const AttentionCall<T, KV>& call, std::byte* workspace);

}  // namespace headwise::detail
