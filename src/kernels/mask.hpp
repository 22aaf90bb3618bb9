// Which (row, key) pairs of a block are attended: limits per row, or one bit per pair.
#pragma once

#include <algorithm>

#include "kernels/kernel_table.hpp"
#include "kernels/simd.hpp"

namespace headwise::detail {
namespace {

/// The pairs of a span: by bits, by limits, or all.
template <class T>
struct PairMask {
  const KeyBits<T>* attended = nullptr;
  const T* key_begin = nullptr;
  const T* key_end = nullptr;
  int row_stride = 0;
  int first_begin = 0;  ///< of limits: vectors from here on begin inside the span
  int last_end = 0;     ///< … vectors before here end inside it

  bool any() const { return attended != nullptr || key_end != nullptr; }

  /// The score where the lanes from `row` on attend key `index`, −∞ elsewhere.
  HEADWISE_INLINE Vector<T> apply(Vector<T> score, int index, int row) const {
    const Vector<T> none(-infinity<T>);
    if (attended != nullptr) {
      constexpr int bits = bits_per_word<T>;
      const KeyBits<T>* word = attended + index / bits * row_stride + row;
      return xsimd::select(has_bit<T>(word, KeyBits<T>(1) << (index % bits)), score, none);
    }
    const Vector<T> key(static_cast<T>(index));
    return xsimd::select((key >= load(key_begin + row)) & (key < load(key_end + row)), score, none);
  }

  /// The same for the scores of `Keys` keys from `index` on: limits cut few vectors of a span.
  template <int Keys, int Vectors>
  HEADWISE_INLINE void apply(Vector<T> (&score)[Keys][Vectors], int index) const {
    static_for<Vectors>([&](auto v) __attribute__((always_inline)) {
      constexpr int row = v * lanes<T>;
      const auto keep = [&](auto&& attends) __attribute__((always_inline)) {
        static_for<Keys>([&](auto j) __attribute__((always_inline)) {
          const Vector<T> key(static_cast<T>(index + j));
          score[j][v] = xsimd::select(attends(key), score[j][v], Vector<T>(-infinity<T>));
        });
      };
      if (attended != nullptr) {
        static_for<Keys>([&](auto j) __attribute__((always_inline)) { score[j][v] = apply(score[j][v], index + j, row); });
        return;
      }
      if (v < last_end) keep([end = load(key_end + row)](auto key) { return key < end; });
      if (v >= first_begin) keep([begin = load(key_begin + row)](auto key) { return key >= begin; });
    });
  }
};

/// Of limits alone, those of the span's rows.
template <class T>
HEADWISE_INLINE PairMask<T> limit_mask(const KeySpan& span, const T* key_begin, const T* key_end) {
  return {.key_begin = key_begin,
          .key_end = key_end,
          .first_begin = span.vectors - span.begin_vectors,
          .last_end = span.end_vectors};
}

template <class T>
HEADWISE_INLINE PairMask<T> pair_mask(const BlockArguments<T, T>& block, const KeySpan& span) {
  const int row = span.first_vector * lanes<T>;
  if (block.attended != nullptr) return {.attended = block.attended + row, .row_stride = block.row_stride};
  if (!span.masked()) return {};
  return limit_mask(span, block.state.key_begin + row, block.state.key_end + row);
}

/// Bits of up to one word of mask bytes: non-zero = 1.
template <class T>
HEADWISE_INLINE KeyBits<T> mask_word(const std::uint8_t* bytes, std::int64_t stride, int count) {
  if (stride == 1 && count == bits_per_word<T>) return nonzero_bits<T>(bytes);
  KeyBits<T> word = 0;
  for (int i = 0; i < count; ++i) word |= KeyBits<T>(bytes[i * stride] != 0) << i;
  return word;
}

/// Ones in [begin, end) of a word, limits in bits.
template <class T>
HEADWISE_INLINE KeyBits<T> range_word(int begin, int end) {
  constexpr int bits = bits_per_word<T>;
  const int first = std::clamp(begin, 0, bits), last = std::clamp(end, first, bits);
  const auto below = [](int n) { return n == bits ? ~KeyBits<T>(0) : (KeyBits<T>(1) << n) - 1; };
  return below(last) & ~below(first);
}

/// A compile-time number of words keeps those of a row in registers.
template <class T, int Words>
BlockCoverage pack_mask_words(const MaskArguments<T>& mask, KeyBits<T>* attended) {
  constexpr int bits = bits_per_word<T>;
  const int rest = mask.keys - (Words - 1) * bits;
  const auto for_words = [](auto&& function) __attribute__((always_inline)) { static_for<Words>(function); };
  const auto count = [rest](int word) __attribute__((always_inline)) { return word < Words - 1 ? bits : rest; };
  KeyBits<T> all[Words], kept[Words], given[Words], found[Words], missing[Words];
  for_words([&](auto w) __attribute__((always_inline)) {
    kept[w] = given[w] = all[w] = range_word<T>(0, count(w));
    found[w] = missing[w] = 0;
    if (mask.padding == nullptr) return;
    kept[w] &= ~mask_word<T>(mask.padding + w * bits * mask.padding_stride, mask.padding_stride, count(w));
  });
  // Row by row: cache lines of so many rows would push each other out of the first level before the next word.
  for (int r = 0; r < mask.num_rows; ++r) {
    // Grouped heads and broadcast masks give neighbours the same bytes.
    if (mask.rows != nullptr && (r == 0 || mask.rows[r] != mask.rows[r - 1])) {
      const std::uint8_t* bytes = mask.rows[r];
      if (mask.prefetch_next) {
        prefetch_far(bytes + mask.keys * mask.key_stride);
        prefetch_far(bytes + (2 * mask.keys - 1) * mask.key_stride);
      }
      for_words([&](auto w) __attribute__((always_inline)) {
        given[w] = mask_word<T>(bytes + w * bits * mask.key_stride, mask.key_stride, count(w));
      });
    }
    for_words([&](auto w) __attribute__((always_inline)) {
      KeyBits<T> word = kept[w] & given[w];
      if (mask.first_key != nullptr) word &= range_word<T>(mask.first_key[r] - w * bits, mask.last_key[r] - w * bits);
      attended[w * mask.row_stride + r] = word;
      found[w] |= word;
      missing[w] |= word ^ all[w];
    });
  }
  KeyBits<T> any_found = 0, any_missing = 0;
  for_words([&](auto w) __attribute__((always_inline)) {
    any_found |= found[w], any_missing |= missing[w];
    std::fill(attended + w * mask.row_stride + mask.num_rows, attended + (w + 1) * mask.row_stride, KeyBits<T>(0));
  });
  return {any_found != 0, any_missing != 0};
}

template <class T, int Words = 5>  // of max_block_keys
BlockCoverage pack_mask(const MaskArguments<T>& mask, KeyBits<T>* attended) {
  if constexpr (Words > 1) {
    if (mask.keys <= (Words - 1) * bits_per_word<T>) return pack_mask<T, Words - 1>(mask, attended);
  }
  return pack_mask_words<T, Words>(mask, attended);
}

}  // namespace
}  // namespace headwise::detail
