// The kernels of one instruction set in a table.
#pragma once

#include "kernels/adjust.hpp"
#include "kernels/attend_tile.hpp"
#include "kernels/isa.hpp"
#include "kernels/mask.hpp"
#include "kernels/multiply.hpp"
#include "kernels/pack.hpp"
#include "kernels/row_dot.hpp"
#include "kernels/scores.hpp"
#include "kernels/softmax.hpp"
#include "kernels/store_pairs.hpp"
#include "kernels/values.hpp"

namespace headwise::detail {
namespace {

template <class T>
constexpr KernelTable<T, T> make_table() {
  return {.isa = Isa::name,
          .lanes = lanes<T>,
          .tile_rows = Isa::tile_vectors * lanes<T>,
          // 96 keys × 64 rows of fp32 scores and the packed query share the first-level cache; measured on AVX-512:
          // 96–126 best, 192 loses 1–2 %.
          .block_keys = 96,
          .max_block_keys = max_block_keys,
          .pack_query = pack_query<T>,
          .pack_rows = pack_rows<T>,
          .pack_mask = pack_mask<T>,
          .bias_excludes_all = bias_excludes_all<T>,
          .scores = scores<T>,
          .start = start<T>,
          .softmax = softmax<T>,
          .finish = finish<T>,
          .values = values<T>,
          .values_careful = values_careful<T>,
          .attend_tile = attend_tile<T>,
          .all_finite = all_finite<T>,
          .store_scores = store_scores<T>,
          .add_weights = add_weights<T>,
          .weigh_row = weigh_row<T>,
          .multiply_panel = multiply_panel<T>,
          .row_scores = row_scores<T>,
          .row_adjust = row_adjust<T>,
          .row_softmax = row_softmax<T>,
          .row_weights = row_weights<T>,
          .row_values = row_values<T>,
          .row_values_careful = row_values_careful<T>,
          .add_rows = add_rows<T>,
          .merge_parts = merge_parts<T>};
}

}  // namespace
}  // namespace headwise::detail
