/// \file
/// Rotary position embedding (Su et al., "RoFormer", 2021; ONNX operator RotaryEmbedding, opset 23), on views in place.
#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>

#include "headwise/tensor.hpp"

namespace headwise {
inline namespace v0 {

/// Which features form a pair that is rotated.
enum class RotaryLayout {
  half_split,  ///< features i and i + rotary_dim/2 (GPT-NeoX, Llama in transformers)
  interleaved  ///< features 2i and 2i + 1 (GPT-J, the paper)
};

/// What is rotated, and by which angles.
struct RotaryOptions {
  RotaryLayout layout = RotaryLayout::half_split;  ///< which features form a pair
  std::int64_t rotary_dim = 0;  ///< leading features that are rotated, even; 0 = all. The rest stay as they are
  double base = 10000;  ///< angle of pair i at position p: p · base^(−2i/rotary_dim), unless a table is given
  int num_threads = 0;  ///< 0 = what OpenMP would use; a call uses at most that many
};

/// Precomputed cosines and sines: [positions, rotary_dim/2] each, row p for position p. For scaled or interpolated
/// angles.
template <class T>
struct RotaryTable {
  TensorView<const T, 2> cosine;  ///< cos of each pair's angle
  TensorView<const T, 2> sine;    ///< sin of each pair's angle
};

/// Rotates each pair (x, y) of every token by its position's angle a, in place:
///
///     (x, y) ← (x·cos a − y·sin a, x·sin a + y·cos a)
///
/// Results have the same bits for every number of threads and any strides.
/// \param x [batch, num_heads, tokens, dim], any strides without coinciding elements
/// \param positions [batch, tokens], also negative ones; a batch extent of 1 serves every batch entry
/// \param options which features are rotated, by which angles
/// \param table absent: angles, cosines and sines are computed in double precision, then rounded to T
/// \throws std::invalid_argument naming the argument, its value and what was expected (odd rotary_dim, rotary_dim >
///         dim, a position outside the table …); std::bad_alloc. x is untouched then.
template <class T>
void rotary_embedding(TensorView<T, 4> x, TensorView<const std::int64_t, 2> positions,
                      const RotaryOptions& options = {},
                      const std::type_identity_t<std::optional<RotaryTable<T>>>& table = {});

extern template void rotary_embedding<float>(TensorView<float, 4>, TensorView<const std::int64_t, 2>,
                                             const RotaryOptions&, const std::optional<RotaryTable<float>>&);
extern template void rotary_embedding<double>(TensorView<double, 4>, TensorView<const std::int64_t, 2>,
                                              const RotaryOptions&, const std::optional<RotaryTable<double>>&);

}  // namespace v0
}  // namespace headwise
