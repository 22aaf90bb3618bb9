#include "drivers/tile_buffers.hpp"

#include <doctest/doctest.h>

#include "kernels/dispatch.hpp"

namespace headwise::test {
namespace {

using detail::TileNeeds;

/// Bytes of one tile and its block, with what `needs` names.
template <class T>
std::size_t bytes_of(const AttentionShape& shape, const TileNeeds& needs) {
  const auto& kernels = *detail::kernel_table<T, T>(detail::active_instruction_set());
  detail::Carver carver;
  detail::TileBuffers<T, T> nowhere;
  detail::carve_block(carver, shape, kernels, needs, nowhere);
  detail::carve_tile(carver, shape, kernels, needs, nowhere);
  return carver.used();
}

TEST_CASE_TEMPLATE("tile buffers: a plan's have room for those of any call", T, float, double) {
  for (const std::int64_t dim : {1, 64, 100}) {
    const AttentionShape shape{.batch = 1, .num_heads = 1, .num_kv_heads = 1, .query_length = 400, .key_length = 400,
                               .head_dim = dim, .value_dim = dim};
    const std::size_t planned = bytes_of<T>(shape, TileNeeds{});
    for (unsigned set = 0; set < 1u << 6; ++set) {
      const auto needed = [set](int bit) { return (set >> bit & 1u) != 0; };
      const TileNeeds needs{.key = needed(0), .value = needed(1), .output = needed(2) || needed(3),
                            .scatter = needed(3), .mask = needed(4), .checks = needed(5)};
      CAPTURE(set);
      CHECK(bytes_of<T>(shape, needs) <= planned);
    }
  }
}

}  // namespace
}  // namespace headwise::test
