/// \file
/// Tensors to run attention on, the work they stand for, and a check of the result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "headwise/headwise.hpp"

namespace headwise::bench {

/// `count` elements on a 64-byte boundary.
template <class T>
class AlignedBuffer {
 public:
  explicit AlignedBuffer(std::size_t count)
      : size_(count), data_(static_cast<T*>(::operator new(count * sizeof(T), alignment))) {}

  T* data() const { return data_.get(); }
  std::span<T> span() const { return {data(), size_}; }
  std::span<std::byte> bytes() const { return std::as_writable_bytes(span()); }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(T* pointer) const { ::operator delete(pointer, alignment); }
  };
  std::size_t size_;
  std::unique_ptr<T, Free> data_;
};

/// Fills `values` with reproducible, roughly normal numbers (mean 0, deviation 1), within ±3.5.
template <class T>
void fill_normal(std::span<T> values, std::uint64_t seed);

/// How the tensors lie in memory.
enum class Layout {
  heads_apart,      ///< [batch, head, position, feature]
  positions_first,  ///< [batch, position, head, feature]
  packed_qkv        ///< query, key and value in one [batch, position, heads of all three, feature]; output as above
};

/// Random query, key, value and room for the output.
template <class T>
class AttentionTensors {
 public:
  /// \param copies independent keys and values to rotate among, so that none is in cache when its turn comes.
  explicit AttentionTensors(const AttentionShape& shape, Layout layout = Layout::heads_apart, std::int64_t copies = 1);

  /// The tensors with keys and values number `copy` modulo `copies`.
  AttentionArguments<T> arguments(std::int64_t copy = 0) const;

  /// The memory of keys and values number `copy` modulo `copies`. Not for packed_qkv, where they aren't apart.
  std::span<const std::byte> cache(std::int64_t copy) const;

 private:
  AttentionShape shape_;
  Layout layout_;
  std::int64_t copies_;
  AlignedBuffer<T> inputs_, caches_, output_;
};

/// Bytes of the keys and values of one call, each read once.
std::int64_t cache_bytes(const AttentionShape& shape, std::size_t element_size);

/// How many caches of `bytes` each are together at least twice the last-level cache, but at most 1.2 GB; ≥ 1.
std::int64_t copies_out_of_cache(std::int64_t bytes);

/// Useful operations of one call: 2·(head_dim + value_dim) per attended (query, key, head).
double useful_flops(const AttentionShape& shape, bool causal);

/// Largest deviation of some output rows of a few heads from the formula, evaluated in long double.
template <class T>
double largest_error(const AttentionArguments<T>& arguments, bool causal);

}  // namespace headwise::bench
