#include "headwise/kv_cache.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "api/validate_cache.hpp"
#include "drivers/kv_cache.hpp"

namespace headwise {
inline namespace v0 {
namespace {

std::size_t index(std::int64_t sequence) { return static_cast<std::size_t>(sequence); }

/// One value per sequence.
std::vector<std::int64_t> zeros(const KvCacheShape& shape) { return std::vector<std::int64_t>(index(shape.batch)); }

/// [batch, head, slot, feature], as it lies in memory.
template <class KV>
TensorView<KV, 4> slots(const KvCacheShape& shape, KV* first, std::int64_t features) {
  return TensorView<KV, 4>::contiguous(first, {shape.batch, shape.num_kv_heads, shape.capacity, features});
}

/// Copies the first `count` slots of a sequence, all heads.
template <class KV>
void copy_slots(const TensorView<KV, 4>& from, std::int64_t source, std::int64_t count, const TensorView<KV, 4>& to,
                std::int64_t target) {
  for (std::int64_t h = 0; h < from.extent(1); ++h) {
    std::copy_n(&from(source, h, 0, 0), count * from.extent(3), &to(target, h, 0, 0));
  }
}

/// Exchanges the first slots of two sequences, and copies those that only the longer one has.
template <class KV>
void swap_slots(const TensorView<KV, 4>& slots, std::int64_t longer, std::int64_t long_count, std::int64_t shorter,
                std::int64_t short_count) {
  const std::int64_t features = slots.extent(3);
  for (std::int64_t h = 0; h < slots.extent(1); ++h) {
    KV* const a = &slots(longer, h, 0, 0);
    KV* const b = &slots(shorter, h, 0, 0);
    std::swap_ranges(a, a + short_count * features, b);
    std::copy(a + short_count * features, a + long_count * features, b + short_count * features);
  }
}

}  // namespace

template <class KV>
KvCache<KV>::KvCache(const KvCacheShape& shape) : shape_(shape) {
  detail::validate_cache_shape(shape);
  const auto allocate = [&](std::int64_t features) {
    const std::int64_t elements = shape.batch * shape.num_kv_heads * shape.capacity * features;
    return static_cast<KV*>(::operator new(index(elements) * sizeof(KV), alignment));
  };
  keys_.reset(allocate(shape.head_dim));
  values_.reset(allocate(shape.value_dim));
  lengths_ = first_positions_ = zeros(shape);
  for (auto& [first_slot, first_position, length] : run_extents_) first_slot = first_position = length = zeros(shape);
  for (std::size_t run = 0; run < runs_.size(); ++run) {
    const auto& [first_slot, first_position, length] = run_extents_[run];
    runs_[run] = {keys(), values(), first_slot, first_position, length};
  }
}

template <class KV>
KvCache<KV>::KvCache(const KvCache& other) : KvCache(other.shape_) {
  for (std::int64_t b = 0; b < shape_.batch; ++b) copy_sequence(other, b, b);
  update_runs();
}

template <class KV>
KvCache<KV>& KvCache<KV>::operator=(const KvCache& other) {
  return *this = KvCache(other);
}

template <class KV>
void KvCache<KV>::append(std::type_identity_t<TensorView<const KV, 4>> key,
                         std::type_identity_t<TensorView<const KV, 4>> value, std::span<const std::int64_t> counts,
                         const std::optional<RotaryOptions>& rotary, const std::optional<RotaryTable<KV>>& table) {
  const detail::NewTokens<KV> tokens{key, value, key_slots(), value_slots(), counts, lengths_};
  detail::validate_append(shape_, tokens, rotary, table);
  detail::store_tokens(tokens, rotary, table);
  for (std::int64_t b = 0; b < shape_.batch; ++b) {
    lengths_[index(b)] += tokens.count(b);
    first_positions_[index(b)] = std::max(first_positions_[index(b)], lengths_[index(b)] - shape_.capacity);
  }
  update_runs();
}

template <class KV>
void KvCache<KV>::truncate(std::span<const std::int64_t> lengths) {
  detail::validate_truncate(shape_, lengths, first_positions_, lengths_);
  for (std::size_t b = 0; b < lengths_.size(); ++b) {
    lengths_[b] = lengths[b];
    if (lengths[b] == 0) first_positions_[b] = 0;
  }
  update_runs();
}

template <class KV>
void KvCache<KV>::reorder(std::span<const std::int64_t> source) {
  detail::validate_reorder(shape_, source);
  std::vector<std::int64_t> pending(source.begin(), source.end());  // sequences that are done are their own source
  std::vector<std::int64_t> readers = zeros(shape_);                // sequences that still want a copy of this one
  for (std::int64_t b = 0; b < shape_.batch; ++b) {
    if (pending[index(b)] != b) ++readers[index(pending[index(b)])];
  }
  // A sequence that nobody waits for may be overwritten, which may free its source for the same.
  for (std::int64_t b = 0; b < shape_.batch; ++b) {
    std::int64_t target = b;
    while (readers[index(target)] == 0 && pending[index(target)] != target) {
      const std::int64_t from = std::exchange(pending[index(target)], target);
      copy_sequence(*this, from, target);
      --readers[index(from)];
      target = from;
    }
  }
  // What is left are cycles, each sequence wanted once.
  for (std::int64_t b = 0; b < shape_.batch; ++b) {
    std::int64_t target = b;
    while (pending[index(target)] != b) {
      const std::int64_t from = std::exchange(pending[index(target)], target);
      swap_sequences(target, from);
      target = from;
    }
    pending[index(target)] = target;
  }
  update_runs();
}

template <class KV>
TensorView<const KV, 4> KvCache<KV>::keys() const {
  return key_slots();
}

template <class KV>
TensorView<const KV, 4> KvCache<KV>::values() const {
  return value_slots();
}

template <class KV>
TensorView<KV, 4> KvCache<KV>::key_slots() const {
  return slots(shape_, keys_.get(), shape_.head_dim);
}

template <class KV>
TensorView<KV, 4> KvCache<KV>::value_slots() const {
  return slots(shape_, values_.get(), shape_.value_dim);
}

/// Leading slots that hold tokens, or did.
template <class KV>
std::int64_t KvCache<KV>::used_slots(std::int64_t sequence) const {
  return first_positions_[index(sequence)] > 0 ? shape_.capacity : lengths_[index(sequence)];
}

template <class KV>
void KvCache<KV>::copy_sequence(const KvCache& from, std::int64_t source, std::int64_t target) {
  const std::int64_t count = from.used_slots(source);
  copy_slots(from.key_slots(), source, count, key_slots(), target);
  copy_slots(from.value_slots(), source, count, value_slots(), target);
  lengths_[index(target)] = from.lengths_[index(source)];
  first_positions_[index(target)] = from.first_positions_[index(source)];
}

template <class KV>
void KvCache<KV>::swap_sequences(std::int64_t a, std::int64_t b) {
  if (used_slots(a) < used_slots(b)) std::swap(a, b);
  swap_slots(key_slots(), a, used_slots(a), b, used_slots(b));
  swap_slots(value_slots(), a, used_slots(a), b, used_slots(b));
  std::swap(lengths_[index(a)], lengths_[index(b)]);
  std::swap(first_positions_[index(a)], first_positions_[index(b)]);
}

/// The tokens of every sequence as stretches of slots, cut at the end of a ring.
template <class KV>
void KvCache<KV>::update_runs() {
  auto& [older, newer] = run_extents_;
  run_count_ = 1;
  for (std::size_t b = 0; b < lengths_.size(); ++b) {
    const std::int64_t first = first_positions_[b], held = lengths_[b] - first;
    older.first_slot[b] = held > 0 ? first % shape_.capacity : 0;
    older.first_position[b] = first;
    older.length[b] = std::min(held, shape_.capacity - older.first_slot[b]);
    newer.first_position[b] = first + older.length[b];
    newer.length[b] = held - older.length[b];
    if (newer.length[b] > 0) run_count_ = 2;
  }
}

template class KvCache<float>;
template class KvCache<double>;

}  // namespace v0
}  // namespace headwise
