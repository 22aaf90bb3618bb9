// Storing new tokens in the slots of a cache.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "headwise/rotary.hpp"
#include "headwise/tensor.hpp"

namespace headwise::detail {

/// Tokens for every sequence of a cache: the one at position p belongs into slot p mod capacity.
template <class T>
struct NewTokens {
  TensorView<const T, 4> key, value;        ///< [batch, head, token, feature]
  TensorView<T, 4> key_slots, value_slots;  ///< [batch, head, slot, feature], features side by side
  std::span<const std::int64_t> counts;     ///< tokens of each sequence, or empty: all
  std::span<const std::int64_t> lengths;    ///< position of token 0 in each sequence

  std::int64_t count(std::int64_t sequence) const {
    return counts.empty() ? key.extent(2) : counts[static_cast<std::size_t>(sequence)];
  }
};

/// Stores the tokens, of more than capacity ones the last; their keys are rotated in the slots.
/// \throws std::bad_alloc before anything is stored
template <class T>
void store_tokens(const NewTokens<T>& tokens, const std::optional<RotaryOptions>& rotary,
                  const std::optional<RotaryTable<T>>& table);

extern template void store_tokens(const NewTokens<float>&, const std::optional<RotaryOptions>&,
                                  const std::optional<RotaryTable<float>>&);
extern template void store_tokens(const NewTokens<double>&, const std::optional<RotaryOptions>&,
                                  const std::optional<RotaryTable<double>>&);

}  // namespace headwise::detail
