// The instruction set this translation unit is compiled for: its xsimd architecture, its names, its register tiles.
// One branch per instruction set; the macro comes from cmake/KernelIsa.cmake.
#pragma once

#include <type_traits>
#include <xsimd/xsimd.hpp>

#include "kernels/kernel_table.hpp"

namespace headwise::detail {
namespace {

// Register tiles, chosen so that accumulators, operands and one broadcast fill the register file without spilling:
// `tile_vectors` vectors of query rows per tile; score_keys(v): keys per register tile of v row vectors;
// value_rows(f): rows per register tile of f feature vectors; value_vectors(n): how many of n feature vectors to take.
// weight_keys(v): keys of v row vectors whose exponentials are computed together.
// `unrolled_columns`: columns of a score or panel tile in one turn of its loop. Four make a Zen 1 2.5 % faster in scores
// (its predictor misses the end of a loop of 16 turns); sse2 there and avx512 on Emerald Rapids are as fast with one.
// columns_together(v): columns of such a tile of v vectors whose vectors stay in registers while four rows at a time are
// multiplied. A tile of one vector takes an operand from memory in every FMA; Emerald Rapids: 16 rows take 1.1 instead of
// 1.3 times the time of their FMAs at their peak, tiles of more vectors as long as with one column or longer.
// `registers`: how many vector registers there are.
// `row_places`: from how many places at once decode reads rows. Several streams at once are 1.5 times as fast on a Zen 1
// out of cache; avx512, measured with one and prefetches only, reads at the memory's speed as it is.
#if defined(HEADWISE_KERNELS_AVX512)
struct Isa {
  using Tag = Avx512;
  using Arch = xsimd::avx512bw;
  static constexpr const char* name = "avx512";
  static constexpr int registers = 32;
  // 32 registers: 24 accumulators, 4 + 1 operands; two FMAs a cycle × 4 cycles need at least 8 chains.
  static constexpr int tile_vectors = 4;
  static constexpr int score_keys(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : vectors == 2 ? 12 : 16; }
  static constexpr int value_rows(int vectors) { return vectors == 1 ? 16 : 24 / vectors; }
  static constexpr int value_vectors(int left) { return left == 5 || left == 6 ? left : left < 4 ? left : 4; }
  static constexpr int max_value_vectors = 6;
  static constexpr int row_places = 1;
  static constexpr int unrolled_columns = 1;
  static constexpr int weight_keys(int) { return 1; }
  static constexpr int columns_together(int vectors) { return vectors == 1 ? 4 : 1; }
};
#elif defined(HEADWISE_KERNELS_AVX2)
struct Isa {
  using Tag = Avx2;
  using Arch = xsimd::fma3<xsimd::avx2>;
  static constexpr const char* name = "avx2";
  static constexpr int registers = 16;
  // 16 registers: 12 accumulators, 3 + 1 operands.
  static constexpr int tile_vectors = 3;
  static constexpr int score_keys(int vectors) { return vectors == 3 ? 4 : vectors == 2 ? 6 : 12; }
  static constexpr int value_rows(int vectors) { return 12 / vectors; }
  static constexpr int value_vectors(int left) { return left < 2 ? left : left == 3 ? 3 : 2; }
  static constexpr int max_value_vectors = 3;
  static constexpr int row_places = 4;
  static constexpr int unrolled_columns = 4;
  static constexpr int weight_keys(int vectors) { return 6 / vectors; }
  static constexpr int columns_together(int) { return 1; }
};
#elif defined(HEADWISE_KERNELS_NEON64)
struct Isa {
  using Tag = Neon64;
  using Arch = xsimd::neon64;
  static constexpr const char* name = "neon64";
  static constexpr int registers = 32;
  // 32 registers: 20 accumulators, 4 + 1 operands.
  static constexpr int tile_vectors = 4;
  static constexpr int score_keys(int vectors) { return vectors == 4 ? 5 : vectors == 3 ? 7 : vectors == 2 ? 10 : 16; }
  static constexpr int value_rows(int vectors) { return vectors == 1 ? 16 : 20 / vectors; }
  static constexpr int value_vectors(int left) { return left < 4 ? left : 4; }
  static constexpr int max_value_vectors = 4;
  static constexpr int row_places = 4;
  static constexpr int unrolled_columns = 1;
  static constexpr int weight_keys(int vectors) { return 4 / vectors; }
  static constexpr int columns_together(int) { return 1; }
};
#elif defined(HEADWISE_KERNELS_SSE2)
struct Isa {
  using Tag = Sse2;
  using Arch = xsimd::sse2;
  static constexpr const char* name = "sse2";
  static constexpr int registers = 16;
  // 16 registers, no FMA: 8 accumulators, 2 + 1 operands and a product each.
  static constexpr int tile_vectors = 2;
  static constexpr int score_keys(int vectors) { return vectors == 2 ? 4 : 8; }
  static constexpr int value_rows(int vectors) { return 8 / vectors; }
  static constexpr int value_vectors(int left) { return left < 2 ? left : 2; }
  static constexpr int max_value_vectors = 2;
  static constexpr int row_places = 4;
  static constexpr int unrolled_columns = 1;
  static constexpr int weight_keys(int vectors) { return vectors == 2 ? 2 : 4; }
  static constexpr int columns_together(int) { return 1; }
};
#else
#error "compile this file once per instruction set with one of the HEADWISE_KERNELS_* macros"
#endif

static_assert(std::is_same_v<Isa::Arch, xsimd::default_arch>, "compiler flags and architecture disagree");

template <class T>
using Vector = xsimd::batch<T, Isa::Arch>;

template <class T>
constexpr int lanes = static_cast<int>(Vector<T>::size);

}  // namespace
}  // namespace headwise::detail
