// Decisions about tiles and chunks: pure functions of instruction set, types, head sizes, strides and a sequence's own
// number of rows; never of batch, threads, caches or machine, so that bits do not depend on those.
#pragma once

#include <bit>
#include <cstdint>

#include "headwise/attention.hpp"

namespace headwise::detail {

/// Vectors of `lanes` elements that hold `elements`, and the elements that they hold. Lanes are a power of two, so this
/// needs no division: one of 64 bits takes up to 40 cycles, and a dozen for every tile were noticed (N = 16).
constexpr std::int64_t vectors_for(std::int64_t elements, int lanes) {
  return (elements + lanes - 1) >> std::countr_zero(static_cast<unsigned>(lanes));
}
constexpr std::int64_t padded(std::int64_t elements, int lanes) {
  return (elements + lanes - 1) & -std::int64_t{lanes};
}

/// Parts of `part` that a length is cut into, the last one maybe shorter.
constexpr std::int64_t parts_of(std::int64_t length, std::int64_t part) { return (length + part - 1) / part; }

/// Most features of a row: kernels count the elements of all rows of a tile by int.
constexpr std::int64_t most_features = 1 << 24;

/// Rows of one key/value head: the queries of its heads, position by position. Row r is query r / group of head
/// first + r % group, so a tile of grouped heads shares every key and value it reads.
constexpr std::int64_t folded_rows(std::int64_t query_length, std::int64_t group) { return query_length * group; }

/// Few rows read keys once at memory speed with features as lanes; more rows fill the lanes of a tile. From half a
/// vector of rows on the tile's shared products win even when keys come from memory.
constexpr std::int64_t most_row_dot_rows(int lanes) { return lanes / 2; }

constexpr KernelPath choose_path(std::int64_t rows, int lanes) {
  return rows <= most_row_dot_rows(lanes) ? KernelPath::row_dot : KernelPath::query_tile;
}

/// Rows [first, first + count) of a tile.
struct TileRows {
  std::int64_t first;
  int count;
};

constexpr std::int64_t count_tiles(std::int64_t rows, int tile_rows) {
  return rows <= tile_rows ? (rows > 0) : (rows + tile_rows - 1) / tile_rows;
}

/// Tile `tile` of `rows` rows: full ones, then the rest. Where all rows attend the same keys, so that cutting them
/// otherwise changes no bit, the last full tile and the rest share their vectors: 64 + 16 rows become 48 + 32, since a
/// tile of one vector reaches 74 % of the speed of one of four in scores, and of two or three 95 % (AVX-512).
constexpr TileRows tile_range(std::int64_t rows, std::int64_t tile, int tile_rows, int lanes, bool balanced) {
  if (rows <= tile_rows) return {0, static_cast<int>(rows)};
  const std::int64_t last = count_tiles(rows, tile_rows) - 1, first = tile * tile_rows;
  if (!balanced || tile < last - 1) {
    return {first, static_cast<int>(rows - first < tile_rows ? rows - first : tile_rows)};
  }
  const std::int64_t begin = (last - 1) * tile_rows, vectors = vectors_for(rows - begin, lanes);
  const std::int64_t middle = begin + (vectors + 1) / 2 * lanes;
  return tile < last ? TileRows{begin, static_cast<int>(middle - begin)} : TileRows{middle, static_cast<int>(rows - middle)};
}

/// Rows that lie 2 KiB or more apart fall into few cache sets and evict each other (measured on AVX-512, D = 64,
/// N = 1024: 84 % of peak becomes 54–79 %); copying them costs 1–2 %.
constexpr bool rows_are_far(std::int64_t stride, std::int64_t features, std::int64_t element_size) {
  const std::int64_t far = 2048 / element_size;
  return (stride >= far || stride <= -far) && stride != features && stride != -features;
}

/// Tiles that sweep over the keys together where keys or values are copied, so that a copy serves them all: the far rows
/// of one head fit into few sets of the second level, so every sweep reads them from beyond it (BSHD, 16 heads, D = 64,
/// N = 1024: 4 tiles 75 % of peak, 8 77.5 %, 16 79 %). Queries and outputs of all of them stay in the second level.
constexpr int most_tiles_together = 16;
constexpr int tiles_together(int tile_rows, std::int64_t features, std::int64_t element_size) {
  const std::int64_t fit = (std::int64_t{1} << 20) / (tile_rows * features * element_size);
  return static_cast<int>(fit < 1 ? 1 : fit > most_tiles_together ? most_tiles_together : fit);
}

/// Whether rows of an output of so many bytes are fetched before they are written: with queries, keys and values it is
/// twice what the second level holds. Zen 1: 256 × 12 × 50 × 64 58.8 → 62.4 % of peak, 32 × 8 × 128 × 64 75 → 78 %; N = 16,
/// 8 heads, which it would cost 4 %, stays as it is. Bits do not depend on it.
constexpr bool is_fetched(double output_bytes, double second_level_bytes) {
  return output_bytes >= second_level_bytes / 2;
}
/// No second level is so small that it matters below.
constexpr double least_fetched_bytes = 1 << 17;

/// Keys of one task of the row-dot path, and of its inner steps. Partial results are merged in order.
constexpr int chunk_keys = 512;
constexpr int step_keys = 64;

/// Useful work, in multiply-adds, below which a call stays on one thread: about 10 µs on AVX-512, 30 on AVX2. On a Zen 1
/// two threads that wait for work gain from 2e5 on (16 queries, 16 keys, 8 heads of 64: 1.6 times as fast); threads that
/// sleep take some tens of µs to wake.
constexpr double serial_work = 4e5;

}  // namespace headwise::detail
