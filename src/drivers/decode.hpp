// Few rows against many keys: one task is one chunk of keys of one key/value head; partial results are merged in order.
#pragma once

#include <cstddef>

#include "drivers/tile_buffers.hpp"

namespace headwise::detail {

/// Workspace of run_decode for any strides, key lengths up to shape.key_length and `num_threads` threads.
template <class T, class KV>
std::size_t decode_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, int num_threads);

/// … for one call.
template <class T, class KV>
std::size_t decode_workspace_bytes(const AttentionCall<T, KV>& call);

/// Computes the sequences whose path is row_dot; `workspace` has decode_workspace_bytes of the call or of its shape.
template <class T, class KV>
void run_decode(const AttentionCall<T, KV>& call, std::byte* workspace);

}  // namespace headwise::detail
