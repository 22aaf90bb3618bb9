// Many rows: tiles of query rows sweep over blocks of keys; one task is one tile.
#pragma once

#include <cstddef>

#include "drivers/attention_call.hpp"

namespace headwise::detail {

/// Workspace of run_prefill for any strides and `num_threads` threads.
template <class T, class KV>
std::size_t prefill_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, int num_threads);

/// Workspace of run_prefill for this call's strides: at most the above.
template <class T, class KV>
std::size_t prefill_workspace_bytes(const AttentionCall<T, KV>& call);

/// Computes the call; `workspace` has prefill_workspace_bytes(call).
template <class T, class KV>
void run_prefill(const AttentionCall<T, KV>& call, std::byte* workspace);

}  // namespace headwise::detail
