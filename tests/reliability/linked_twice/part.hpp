// What the two shared objects offer to the program that loads them.
#pragma once

#include <cstddef>

constexpr std::size_t part_outputs = 4 * 150 * 24;

/// Where a part's headwise is.
struct PartAddresses {
  const void *attention, *active_isa;
};

extern "C" {
/// Causal self-attention of numbers that are the same in every call.
void headwise_part_attend(float* output, int num_threads);
PartAddresses headwise_part_addresses();
}
