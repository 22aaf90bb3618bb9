// The key blocks that a tile of query rows sweeps over: addresses, limits, masks and bias of every block.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "drivers/mask_classes.hpp"
#include "drivers/tile_buffers.hpp"
#include "drivers/tile_row_set.hpp"

namespace headwise::detail {

/// One block of keys of a tile, ready for the kernels.
template <class T, class KV>
struct TileBlock {
  KeyRange range;  ///< positions
  BlockArguments<T, KV> arguments;
  bool edge;      ///< some row attends only part of it by its limits
  bool empty;     ///< no row attends any of its keys

  int keys() const { return static_cast<int>(range.end - range.begin); }
};

/// How scores are computed in a pass over the keys.
struct ScorePass {
  double unit = std::numbers::log2e;  ///< scores come in units of 1/unit
  bool softcap = true;
  bool masked = true;  ///< limits, masks, bias and ALiBi apply
};

template <class T, class KV>
class TileBlocks : protected TileRowSet<T, KV> {
  using Base = TileRowSet<T, KV>;

 public:
  TileBlocks(const AttentionCall<T, KV>& call, const TileBuffers<T, KV>& buffers, const TileNeeds& needs,
             const MaskClasses<T, KV>& mask_classes, const Sequence& sequence, std::int64_t kv_head,
             const TileRows& rows)
      : Base(call, sequence, kv_head, rows),
        kernels_(call.kernels),
        buffers_(buffers),
        needs_(needs),
        mask_classes_(mask_classes),
        row_stride_(static_cast<int>(padded(rows.count, kernels_.lanes))),
        value_stride_(padded(call.shape.value_dim, kernels_.lanes)) {}

 protected:
  using Base::call_;
  using Base::first_query_;
  using Base::first_row_;
  using Base::for_rows;
  using Base::group_;
  using Base::kv_head_;
  using Base::rows_;
  using Base::sequence_;

  /// Prepares a pass: attended keys of every row, their union and intersection, packed queries, rows of mask and bias.
  void start_pass(const ScorePass& pass) {
    pass_ = pass;
    const auto& arguments = call_.arguments;
    set_ranges();
    position_ = keys_.begin;
    this->locate_token_rows(arguments.query, buffers_.query_rows);
    if (arguments.mask) this->locate_score_rows(*arguments.mask, buffers_.mask_rows);
    if (arguments.bias) this->locate_score_rows(*arguments.bias, buffers_.bias_rows);
    kernels_.pack_query(buffers_.query_rows, arguments.query.stride(3), rows_, static_cast<int>(call_.shape.head_dim),
                        static_cast<T>(call_.scale * pass.unit), buffers_.query, row_stride_);
    if (has_slopes()) {
      std::fill_n(buffers_.slope, row_stride_, T(0));
      for_rows([&](int r, const RowIndex& row) {
        buffers_.slope[r] = arguments.alibi_slopes[static_cast<std::size_t>(row.head)] * static_cast<T>(pass.unit);
      });
    }
  }

  /// Where the pass goes on, and whether there is nothing left.
  std::int64_t position() const { return position_; }
  bool at_end() const { return position_ >= keys_.end; }

  /// Calls f(block) for the next key block of the pass, if there is one.
  template <class Function>
  void step(Function&& function) {
    const KeyPiece<KV> piece = call_.piece(sequence_, kv_head_, position_);
    const std::int64_t end = std::min(piece.end, keys_.end);
    if (piece.begin >= end) {
      position_ = keys_.end;
      return;
    }
    const KeyRange range{piece.begin, block_end(piece.begin, end, kernels_.block_keys, kernels_.max_block_keys)};
    TileBlock<T, KV> block;
    prepare(range, piece, block);
    function(block);
    position_ = range.end;
  }

  /// Calls f(block) for all key blocks of the pass, in order of position.
  template <class Function>
  void for_blocks(Function&& function) {
    for (position_ = keys_.begin; !at_end();) step(function);
  }

  /// Fills a row of classes: what the mask says of the tile's rows, unit by unit.
  void classify_mask(MaskClass* classes, std::int64_t units) const {
    this->locate_score_rows(*call_.arguments.mask, buffers_.mask_rows);
    for (std::int64_t unit = 0; unit < units; ++unit) {
      const KeyRange range{unit * kernels_.block_keys,
                           std::min<std::int64_t>((unit + 1) * kernels_.block_keys, call_.shape.key_length)};
      const BlockCoverage coverage = pack_mask_bits(range, {.masked = true, .prefetch_next = true});
      classes[unit] = !coverage.any_attended   ? MaskClass::none
                      : !coverage.any_excluded ? MaskClass::all
                                               : MaskClass::mixed;
    }
  }

  bool has_slopes() const { return pass_.masked && !call_.arguments.alibi_slopes.empty(); }

  /// Every key there is, whether it counts or not.
  KeyRange all_keys() const {
    const bool own_length = call_.is_ragged() || !call_.arguments.key_runs.empty();
    return {0, own_length ? sequence_.key_length : call_.shape.key_length};
  }

  const KernelTable<T, KV>& kernels_;
  const TileBuffers<T, KV>& buffers_;
  const TileNeeds needs_;
  const MaskClasses<T, KV>& mask_classes_;
  const int row_stride_;
  const std::int64_t value_stride_;
  ScorePass pass_{};
  KeyRange keys_{};      ///< keys that some row attends
  KeyRange interior_{};  ///< keys that every row attends
  std::int64_t position_ = 0;

 private:
  /// Attended keys of all rows. They move with the query, in one direction.
  void set_ranges() {
    if (!pass_.masked || !call_.limits_keys()) {
      keys_ = interior_ = pass_.masked ? KeyRange{0, sequence_.key_length} : all_keys();
      return;
    }
    const KeyRange first = call_.keys(sequence_, first_query_);
    const KeyRange last = call_.keys(sequence_, (first_row_ + rows_ - 1) / group_);
    keys_ = {first.begin, last.end};
    interior_ = {last.begin, first.end};
  }

  /// Field by field: clearing or copying so many takes as long as the rest of this function.
  void prepare(KeyRange range, const KeyPiece<KV>& piece, TileBlock<T, KV>& block) const {
    block.range = range;
    block.edge = range.begin < interior_.begin || interior_.end < range.end;
    block.empty = false;
    BlockArguments<T, KV>& arguments = block.arguments;
    arguments.query = buffers_.query;
    arguments.row_stride = row_stride_;
    arguments.head_dim = static_cast<int>(call_.shape.head_dim);
    arguments.spans = buffers_.spans;
    arguments.scores = buffers_.scores;
    arguments.state = buffers_.state;
    if (block.edge) set_limits(range);
    if (masks()) pack_mask(block);
    if (pass_.masked && call_.arguments.bias && !block.empty) set_bias(block);
    if (block.empty) return;
    if (has_slopes()) set_distances(range, arguments.adjustment);
    if (pass_.softcap) arguments.adjustment.softcap = softcap_in<T>(call_.options.softcap, pass_.unit);
    const RowLimits limits{block.edge ? buffers_.first_key : nullptr, block.edge ? buffers_.last_key : nullptr, rows_};
    arguments.num_spans = make_spans(limits, kernels_.lanes, block.keys(), buffers_.spans);
    set_rows(block.keys(), piece, arguments);
    if (range.end == keys_.end) announce_next_tile(arguments);
  }

  bool masks() const { return pass_.masked && needs_.mask; }

  /// Each row's attended keys relative to the block.
  void set_limits(KeyRange block) const {
    this->limit_rows(block, buffers_.first_key, buffers_.last_key);
    for (int r = 0; r < rows_; ++r) {
      buffers_.state.key_begin[r] = static_cast<T>(buffers_.first_key[r]);
      buffers_.state.key_end[r] = static_cast<T>(buffers_.last_key[r]);
    }
    for (int r = rows_; r < row_stride_; ++r) buffers_.state.key_begin[r] = buffers_.state.key_end[r] = T(0);
  }

  void pack_mask(TileBlock<T, KV>& block) const {
    MaskClass known = MaskClass::all;
    if (call_.arguments.mask) {
      known = mask_classes_.find(sequence_.batch, kv_head_, {first_row_, rows_}, block.range);
    }
    if (known == MaskClass::none) {
      block.empty = true;
      return;
    }
    if (known == MaskClass::all && !call_.arguments.key_padding_mask) return;
    const bool masked = known == MaskClass::mixed;
    const BlockCoverage coverage = pack_mask_bits(
        block.range, {.limited = block.edge, .masked = masked, .padded = call_.arguments.key_padding_mask.has_value()});
    if (masked && call_.arguments.mask->stride(3) == 1 && call_.arguments.mask->stride(2) != 0) {
      block.arguments.upcoming.add(buffers_.mask_rows, block.range.end, rows_, block.keys());
    }
    block.empty = !coverage.any_attended;
    if (coverage.any_excluded) block.arguments.attended = buffers_.attended;
  }

  /// What tells which pairs are attended.
  struct MaskParts {
    bool limited = false;
    bool masked = false;
    bool padded = false;
    bool prefetch_next = false;
  };

  /// The attended bits of a block.
  BlockCoverage pack_mask_bits(KeyRange range, const MaskParts& parts) const {
    const auto [limited, masked, padded, prefetch_next] = parts;
    const std::int64_t key_stride = masked ? call_.arguments.mask->stride(3) : 0, first = range.begin * key_stride;
    for (int r = 0; masked && r < rows_; ++r) buffers_.mask_rows[r] += first;
    const auto& padding = call_.arguments.key_padding_mask;
    const BlockCoverage coverage = kernels_.pack_mask(
        {.rows = masked ? buffers_.mask_rows : nullptr,
         .key_stride = key_stride,
         .padding =
             padded ? padding->data + sequence_.batch * padding->stride(0) + range.begin * padding->stride(1) : nullptr,
         .padding_stride = padded ? padding->stride(1) : 0,
         .first_key = limited ? buffers_.first_key : nullptr,
         .last_key = limited ? buffers_.last_key : nullptr,
         .num_rows = rows_,
         .keys = static_cast<int>(range.end - range.begin),
         .row_stride = row_stride_,
         .prefetch_next = prefetch_next},
        buffers_.attended);
    for (int r = 0; masked && r < rows_; ++r) buffers_.mask_rows[r] -= first;
    return coverage;
  }

  void set_bias(TileBlock<T, KV>& block) const {
    const auto& bias = *call_.arguments.bias;
    BlockArguments<T, KV>& arguments = block.arguments;
    ScoreAdjustment<T>& adjustment = arguments.adjustment;
    adjustment.bias = buffers_.bias_rows;
    adjustment.bias_stride = bias.stride(3);
    adjustment.bias_offset = block.range.begin * adjustment.bias_stride;
    adjustment.bias_rows = rows_;
    adjustment.unit = static_cast<T>(pass_.unit);
    block.empty = kernels_.bias_excludes_all(adjustment.bias, adjustment.bias_offset, adjustment.bias_stride,
                                             block.keys(), rows_);
    // The product comes first. A relative bias is few lines.
    if (adjustment.bias_stride != 1 || std::abs(bias.stride(2)) <= 1) return;
    arguments.upcoming.add(buffers_.bias_rows, block.range.begin, rows_, block.keys());
  }

  /// j − p of the block's first key, for ALiBi.
  void set_distances(KeyRange block, ScoreAdjustment<T>& adjustment) const {
    std::fill_n(buffers_.distance, row_stride_, T(0));
    for_rows([&](int r, const RowIndex& row) {
      buffers_.distance[r] = static_cast<T>(block.begin - call_.position(sequence_, row.query));
    });
    adjustment.slope = buffers_.slope;
    adjustment.distance = buffers_.distance;
  }

  /// Lets the queries of the head's next tile, which is the one before this, be fetched during the last product of this.
  void announce_next_tile(BlockArguments<T, KV>& arguments) const {
    const auto& query = call_.arguments.query;
    const int tile_rows = kernels_.tile_rows;
    if (query.stride(3) != 1 || first_row_ < tile_rows || tile_rows % group_ != 0) return;
    arguments.upcoming.add(buffers_.query_rows, -tile_rows / group_ * query.stride(2), rows_,
                           static_cast<int>(call_.shape.head_dim));
  }

  /// The block's keys and values: in place, or copied side by side. The tile that copies prefetches the next rows.
  void set_rows(int keys, const KeyPiece<KV>& piece, BlockArguments<T, KV>& arguments) const {
    arguments.key = {piece.key, piece.key_stride};
    arguments.value = {piece.value, piece.value_stride};
    const auto next = [keys](const Rows<KV>& rows) { return Rows<KV>{rows.data + keys * rows.stride, rows.stride}; };
    if (needs_.key) {
      const int features = static_cast<int>(call_.shape.head_dim);
      const bool copied = copy_rows(kernels_, {piece.key, piece.key_stride, piece.key_feature_stride, keys}, features,
                                    *buffers_.copied_key, buffers_.key, features);
      if (copied) arguments.next_key = next(arguments.key);
      arguments.key = {buffers_.key, features};
    }
    if (needs_.value) {
      const bool copied = copy_rows(kernels_, {piece.value, piece.value_stride, piece.value_feature_stride, keys},
                                    static_cast<int>(call_.shape.value_dim), *buffers_.copied_value, buffers_.value,
                                    static_cast<int>(value_stride_));
      if (copied) arguments.next_value = next(arguments.value);
      arguments.value = {buffers_.value, value_stride_};
    }
  }
};

}  // namespace headwise::detail
