// Which parts of a mask attend everything or nothing: found once for all heads and batch entries that share the mask.
#pragma once

#include <algorithm>
#include <cstdint>

#include "drivers/attention_call.hpp"

namespace headwise::detail {

/// What a mask says of a tile of rows and some keys; limits and padding aside.
enum class MaskClass : std::uint8_t { mixed, all, none };

/// One class for each distinct mask × tile of rows × unit of block_keys keys: 1/6144 of the mask's own bytes for float
/// on AVX-512. Axes along which the mask is broadcast have one entry.
template <class T, class KV>
class MaskClasses {
 public:
  /// Nothing to share: every lookup says mixed.
  MaskClasses() = default;

  /// `classes` has room for classes_of(call) entries.
  MaskClasses(const AttentionCall<T, KV>& call, MaskClass* classes)
      : classes_(classes),
        layout_(layout_of(call)),
        tile_rows_(call.kernels.tile_rows),
        unit_keys_(call.kernels.block_keys) {}

  /// Entries that a call needs: none where every head has a mask of its own.
  static std::int64_t count(const AttentionCall<T, KV>& call) {
    const auto& mask = call.arguments.mask;
    if (!mask) return 0;
    const Layout layout = layout_of(call);
    const bool shared = layout.batches * layout.heads < call.shape.batch * call.shape.num_kv_heads;
    return shared && layout.product() <= static_cast<double>(most_classes) ? layout.count() : 0;
  }

  /// At least count(call) for every call of the shape.
  static std::int64_t most(const AttentionShape& shape, const KernelTable<T, KV>& kernels) {
    if (shape.batch * shape.num_kv_heads <= 1) return 0;
    const Layout layout{std::max(shape.batch, shape.num_kv_heads), 1, tiles(shape, kernels), units(shape, kernels)};
    return layout.product() <= static_cast<double>(most_classes) ? layout.count() : most_classes;
  }

  /// The rows of classes there are: tasks of the pass that fills them.
  std::int64_t rows() const { return classes_ == nullptr ? 0 : layout_.batches * layout_.heads * layout_.tiles; }

  /// A row of classes, and the batch entry, key/value head and tile that stand for all that share it.
  struct Row {
    std::int64_t batch, kv_head, tile;
    MaskClass* classes;
    std::int64_t units;
  };
  Row row(std::int64_t index) const {
    const std::int64_t tile = index % layout_.tiles, head = index / layout_.tiles % layout_.heads;
    return {index / layout_.tiles / layout_.heads, head, tile, classes_ + index * layout_.units, layout_.units};
  }

  /// The class of some rows and keys; several entries that differ are mixed.
  MaskClass find(std::int64_t batch, std::int64_t kv_head, const TileRows& rows, KeyRange keys) const {
    if (classes_ == nullptr) return MaskClass::mixed;
    const std::int64_t head = (layout_.batches > 1 ? batch : 0) * layout_.heads + (layout_.heads > 1 ? kv_head : 0);
    std::int64_t tile = 0, last_tile = 0, first_unit = 0, last_unit = 0;
    if (layout_.tiles > 1) tile = rows.first / tile_rows_, last_tile = (rows.first + rows.count - 1) / tile_rows_;
    if (layout_.units > 1) first_unit = keys.begin / unit_keys_, last_unit = (keys.end - 1) / unit_keys_;
    const MaskClass first = classes_[(head * layout_.tiles + tile) * layout_.units + first_unit];
    for (; tile <= last_tile; ++tile) {
      const MaskClass* classes = classes_ + (head * layout_.tiles + tile) * layout_.units;
      for (std::int64_t unit = first_unit; unit <= last_unit; ++unit) {
        if (classes[unit] != first) return MaskClass::mixed;
      }
    }
    return first;
  }

 private:
  struct Layout {
    std::int64_t batches = 0, heads = 0, tiles = 0, units = 0;
    std::int64_t count() const { return batches * heads * tiles * units; }
    double product() const {
      return static_cast<double>(batches) * static_cast<double>(heads) * static_cast<double>(tiles) *
             static_cast<double>(units);
    }
  };

  /// Masks of more than 24 GiB are classified tile by tile in every head instead.
  static constexpr std::int64_t most_classes = std::int64_t{1} << 22;

  static std::int64_t tiles(const AttentionShape& shape, const KernelTable<T, KV>& kernels) {
    return count_tiles(folded_rows(shape.query_length, shape.num_heads / shape.num_kv_heads), kernels.tile_rows);
  }

  static std::int64_t units(const AttentionShape& shape, const KernelTable<T, KV>& kernels) {
    return (shape.key_length + kernels.block_keys - 1) / kernels.block_keys;
  }

  static Layout layout_of(const AttentionCall<T, KV>& call) {
    const auto& mask = *call.arguments.mask;
    const AttentionShape& shape = call.shape;
    const bool by_head = mask.stride(1) != 0;
    // Where heads differ, a tile of several heads sees all of their masks, cut differently from tile to tile.
    const bool by_row = mask.stride(2) != 0 || (by_head && shape.num_heads != shape.num_kv_heads);
    return {mask.stride(0) != 0 ? shape.batch : 1, by_head ? shape.num_kv_heads : 1,
            by_row ? tiles(shape, call.kernels) : 1, mask.stride(3) != 0 ? units(shape, call.kernels) : 1};
  }

  MaskClass* classes_ = nullptr;
  Layout layout_;
  int tile_rows_ = 0;
  int unit_keys_ = 0;
};

}  // namespace headwise::detail
