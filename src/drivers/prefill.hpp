// Many rows: tiles of query rows sweep over blocks of keys; one task is one tile.
#pragma once

#include <cstddef>

#include "drivers/tile.hpp"

namespace headwise::detail {

/// Workspace of run_prefill and run_mean_weights: enough for every call of a shape, or what one call needs.
template <class T, class KV>
std::size_t prefill_workspace_bytes(const AttentionShape& shape, const KernelTable<T, KV>& kernels, int num_threads);
template <class T, class KV>
std::size_t prefill_workspace_bytes(const AttentionCall<T, KV>& call);

/// Computes the sequences whose path is query_tile; `workspace` has prefill_workspace_bytes.
template <class T, class KV>
void run_prefill(const AttentionCall<T, KV>& call, const SavedRows<T>& saved, std::byte* workspace);

/// Weights of the same sequences averaged over the heads, from saved references and sums: sums over the heads in order,
/// then 1/num_heads.
template <class T, class KV>
void run_mean_weights(const AttentionCall<T, KV>& call, const SavedRows<T>& saved, std::byte* workspace);

}  // namespace headwise::detail
