/// \file
/// What a cache of keys and values should be: every sequence a list of tokens.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "headwise/kv_cache.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

using Counts = std::vector<std::int64_t>;

/// All heads of one token.
template <class T>
struct CachedToken {
  std::vector<T> key, value;
};

/// A sequence as a list of all tokens ever appended and not truncated, and the first one that is held.
template <class T>
struct CachedSequence {
  std::vector<CachedToken<T>> tokens;
  std::int64_t first = 0;

  std::int64_t length() const { return static_cast<std::int64_t>(tokens.size()); }
};

template <class T>
std::vector<T> heads_at(const TensorView<const T, 4>& view, std::int64_t b, std::int64_t slot) {
  return dense(view.slice(0, b, b + 1).slice(2, slot, slot + 1));
}

/// What a cache should be.
template <class T>
class CacheModel {
 public:
  explicit CacheModel(const KvCacheShape& shape) : shape_(shape), sequences_(static_cast<std::size_t>(shape.batch)) {}

  void append(const TensorView<const T, 4>& key, const TensorView<const T, 4>& value, const Counts& counts) {
    for (std::size_t b = 0; b < sequences_.size(); ++b) {
      const auto batch = static_cast<std::int64_t>(b);
      const std::int64_t count = counts.empty() ? key.extent(2) : counts[b];
      for (std::int64_t t = 0; t < count; ++t) {
        sequences_[b].tokens.push_back({heads_at(key, batch, t), heads_at(value, batch, t)});
      }
      sequences_[b].first = std::max(sequences_[b].first, sequences_[b].length() - shape_.capacity);
    }
  }

  void truncate(const Counts& lengths) {
    for (std::size_t b = 0; b < sequences_.size(); ++b) {
      sequences_[b].tokens.resize(static_cast<std::size_t>(lengths[b]));
      if (lengths[b] == 0) sequences_[b].first = 0;
    }
  }

  void reorder(const Counts& source) {
    const std::vector<CachedSequence<T>> old = sequences_;
    for (std::size_t b = 0; b < old.size(); ++b) sequences_[b] = old[static_cast<std::size_t>(source[b])];
  }

  const std::vector<CachedSequence<T>>& sequences() const { return sequences_; }

  /// What the cache says or holds that is not the same, bit for bit; empty if all is.
  std::string difference(const KvCache<T>& cache) const {
    bool wrapped = false;
    for (std::size_t b = 0; b < sequences_.size(); ++b) {
      const CachedSequence<T>& sequence = sequences_[b];
      const auto batch = static_cast<std::int64_t>(b);
      if (cache.lengths()[b] != sequence.length()) return "another length";
      if (cache.first_positions()[b] != sequence.first) return "another first position";
      std::int64_t position = sequence.first;
      for (const KeyRun<T>& run : cache.runs()) {
        if (run.first_position[b] != position) return "a run at another position";
        for (std::int64_t i = 0; i < run.length[b]; ++i, ++position) {
          const std::int64_t slot = run.first_slot[b] + i;
          const CachedToken<T>& token = sequence.tokens[static_cast<std::size_t>(position)];
          if (slot != position % shape_.capacity) return "a token in another slot";
          if (!same_bits(heads_at(run.key, batch, slot), token.key)) return "another key";
          if (!same_bits(heads_at(run.value, batch, slot), token.value)) return "another value";
        }
      }
      if (position != sequence.length()) return "runs of another length";
      wrapped =
          wrapped || (position > sequence.first && (position - 1) / shape_.capacity > sequence.first / shape_.capacity);
    }
    if (cache.runs().size() != (wrapped ? 2 : 1)) return "another number of runs";
    if (cache.runs()[0].key.data != cache.keys().data) return "keys of a run elsewhere";
    if (cache.runs()[0].value.data != cache.values().data) return "values of a run elsewhere";
    return "";
  }

 private:
  KvCacheShape shape_;
  std::vector<CachedSequence<T>> sequences_;
};

}  // namespace headwise::test
