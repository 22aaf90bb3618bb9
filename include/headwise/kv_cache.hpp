/// \file
/// A cache of keys and values that grows token by token and that attention reads in place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "headwise/attention.hpp"
#include "headwise/rotary.hpp"
#include "headwise/tensor.hpp"

namespace headwise {
inline namespace v0 {

/// Sizes of a cache. Every extent is a count of elements, ≥ 0.
struct KvCacheShape {
  std::int64_t batch = 0;         ///< sequences
  std::int64_t num_kv_heads = 0;  ///< key/value heads
  std::int64_t capacity = 0;      ///< tokens kept per sequence; ≥ 1 for a ring
  std::int64_t head_dim = 0;      ///< features of a key, ≥ 1
  std::int64_t value_dim = 0;     ///< features of a value
  bool ring = false;  ///< true: a sequence may grow beyond capacity, its oldest tokens are dropped (sliding window)
};

/// Keys and values [batch, num_kv_heads, capacity, feature], apart from each other, allocated once. Every sequence has
/// its own length: the tokens appended and not truncated, which is also the position of its next token. The token at
/// position p lies in slot p, in a ring in slot p mod capacity.
///
/// A window of `left` keys before the query needs a ring of capacity ≥ left + n, where n is the most tokens that are
/// appended (or truncated) at once: the oldest of them still attends its whole window.
///
/// Functions that throw leave the cache as it was. Not synchronised: one thread may change a cache at a time, none
/// while attention reads it. A cache that was moved from may only be destroyed or assigned to.
template <class KV>
class KvCache {
 public:
  /// An empty cache.
  /// \throws std::invalid_argument naming the field, its value and what was expected; std::bad_alloc
  explicit KvCache(const KvCacheShape& shape);

  /// Copies the tokens held. \throws std::bad_alloc
  KvCache(const KvCache& other);
  /// \throws std::bad_alloc
  KvCache& operator=(const KvCache& other);
  /// Takes the storage over.
  KvCache(KvCache&&) noexcept = default;
  /// Takes the storage over.
  KvCache& operator=(KvCache&&) noexcept = default;
  ~KvCache() = default;

  /// What the cache was made for.
  const KvCacheShape& shape() const { return shape_; }

  /// Length of each sequence: AttentionArguments::key_lengths for keys() and values(), and the position of the next
  /// token. Valid until the cache is moved or assigned to, up to date after each change.
  std::span<const std::int64_t> lengths() const { return lengths_; }

  /// Position of the oldest token that each sequence holds: 0 until a ring drops tokens. Valid as lengths().
  std::span<const std::int64_t> first_positions() const { return first_positions_; }

  /// Appends `counts[b]` tokens to sequence b: the leading ones of key and value. Of more than capacity tokens a ring
  /// keeps the last.
  /// \param key    [batch, num_kv_heads, tokens, head_dim], any strides
  /// \param value  [batch, num_kv_heads, tokens, value_dim], any strides
  /// \param counts per sequence, 0 to tokens; or empty: all tokens to every sequence
  /// \param rotary rotates the keys in the cache by their positions, with its num_threads; the bits are those of
  ///               rotary_embedding(). Without it one thread copies
  /// \param table  cosines and sines for rotary; the rows reach at least to the last position
  /// \throws std::invalid_argument naming the argument, its value and what was expected, e.g. when a sequence would
  ///         exceed the capacity; std::bad_alloc
  void append(std::type_identity_t<TensorView<const KV, 4>> key, std::type_identity_t<TensorView<const KV, 4>> value,
              std::span<const std::int64_t> counts = {}, const std::optional<RotaryOptions>& rotary = {},
              const std::optional<RotaryTable<KV>>& table = {});

  /// Drops the tokens from position lengths[b] on (drafts that speculative decode rejected, or 0 for a new sequence).
  /// A ring has dropped older tokens for them: it then holds fewer than its capacity.
  /// \throws std::invalid_argument unless lengths[b] is 0 or first_positions()[b] to lengths()[b]
  void truncate(std::span<const std::int64_t> lengths);

  /// Sequence b becomes a copy of the old sequence source[b] (beam search). Sequences that stay are not touched.
  /// \param source per sequence; entries may repeat
  /// \throws std::invalid_argument if a source is outside 0 … batch − 1; std::bad_alloc
  void reorder(std::span<const std::int64_t> source);

  /// All slots: [batch, num_kv_heads, capacity, head_dim]. Slots that hold no token may hold anything.
  TensorView<const KV, 4> keys() const;
  /// All slots: [batch, num_kv_heads, capacity, value_dim].
  TensorView<const KV, 4> values() const;

  /// The tokens held, for AttentionArguments::key_runs: one run, or two when a sequence has wrapped around the end of
  /// a ring. The first then holds its older tokens; a sequence that has not wrapped has length 0 in the second. Valid
  /// until the cache changes.
  std::span<const KeyRun<KV>> runs() const { return std::span(runs_).first(run_count_); }

 private:
  struct Free {
    void operator()(KV* first) const { ::operator delete(first, alignment); }
  };
  struct RunExtents {
    std::vector<std::int64_t> first_slot, first_position, length;
  };
  static constexpr std::align_val_t alignment{64};

  TensorView<KV, 4> key_slots() const;
  TensorView<KV, 4> value_slots() const;
  std::int64_t used_slots(std::int64_t sequence) const;
  void copy_sequence(const KvCache& from, std::int64_t source, std::int64_t target);
  void swap_sequences(std::int64_t a, std::int64_t b);
  void update_runs();

  KvCacheShape shape_;
  std::unique_ptr<KV, Free> keys_, values_;
  std::vector<std::int64_t> lengths_, first_positions_;
  std::array<RunExtents, 2> run_extents_;
  std::array<KeyRun<KV>, 2> runs_;  // of run_extents_; vectors keep their memory when they are moved
  std::size_t run_count_ = 1;
};

extern template class KvCache<float>;
extern template class KvCache<double>;

}  // namespace v0
}  // namespace headwise
