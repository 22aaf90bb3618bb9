/// \file
/// The kinds of data every kernel is judged on. A fixed tolerance would be both too tight and too loose: between unit
/// norm and offset data the error of the same correct kernel differs by orders of magnitude.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "headwise/tensor.hpp"
#include "support/attention_case.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

/// A kind of data: how to fill query, key and value with it, and what it does to the scores.
template <class T>
struct DataFamily {
  using View = TensorView<T, 4>;
  const char* name;
  std::function<void(Random& random, const View& query, const View& key, const View& value)> fill;
  std::optional<double> left_padding = {};  ///< bias of the first 200 keys, or of the first half of fewer
  std::optional<double> alibi_slope = {};   ///< of every head
  bool first_block_dead = false;            ///< a mask excludes the first 200 keys of two rows in three
};

/// Keys that left padding and a dead first block concern.
constexpr std::int64_t leading_keys(std::int64_t key_length) {
  return key_length < 400 ? key_length / 2 : std::int64_t{200};
}

/// Factors of the normal numbers of each tensor, and what is added to all.
struct Scales {
  double query = 1, key = 1, value = 1, offset = 0;
};

template <class T>
DataFamily<T> scaled_family(const char* name, const Scales& scales) {
  using View = TensorView<T, 4>;
  return {name, [scales](Random& random, const View& query, const View& key, const View& value) {
            fill_normal(random, query, scales.query, scales.offset);
            fill_normal(random, key, scales.key, scales.offset);
            fill_normal(random, value, scales.value, scales.offset);
          }};
}

/// One axis-2 entry (a key, a value) of every batch entry and head.
template <class T>
TensorView<T, 4> position(const TensorView<T, 4>& view, std::int64_t j) {
  return view.slice(2, j, j + 1);
}

/// One key half way takes nearly all the weight: its score is about 3·head_dim·scale above the others.
template <class T>
void fill_one_hot_key(Random& random, const TensorView<T, 4>& query, const TensorView<T, 4>& key,
                      const TensorView<T, 4>& value) {
  fill_normal(random, query, 1, 1);
  fill_normal(random, key);
  fill_normal(random, value);
  fill_normal(random, position(key, key.extent(2) / 2), 0, 3);
}

/// Even keys score about +200 (double: +800), odd ones as far below 0: exp() ends at 88.7 and at 709.8. Two bands
/// rather than one wide one, where the few rows with two equal winners would make up the whole error.
template <class T>
void fill_beyond_exp(Random& random, const TensorView<T, 4>& query, const TensorView<T, 4>& key,
                     const TensorView<T, 4>& value) {
  const double offset = std::is_same_v<T, float> ? 5 : 10;
  fill_normal(random, query, 1, offset);
  for (std::int64_t j = 0; j < key.extent(2); ++j) {
    fill_normal(random, position(key, j), 0.5, j % 2 == 0 ? offset : -offset);
  }
  fill_normal(random, value);
}

/// Every score is −1e30 times √head_dim, to the last bit: equal keys, so that the sums are equal, too. The maximum must
/// not be won by a padding lane's 0.
template <class T>
void fill_all_very_negative(Random& random, const TensorView<T, 4>& query, const TensorView<T, 4>& key,
                            const TensorView<T, 4>& value) {
  fill_normal(random, query, 0, -1e15);
  fill_normal(random, key, 0, 1e15);
  fill_normal(random, value);
}

/// Even keys score large and carry values of 1e15, odd ones score nearly 0 and carry values of 1e−15.
template <class T>
void fill_alternating(Random& random, const TensorView<T, 4>& query, const TensorView<T, 4>& key,
                      const TensorView<T, 4>& value) {
  fill_normal(random, query);
  for (std::int64_t j = 0; j < key.extent(2); ++j) {
    fill_normal(random, position(key, j), j % 2 == 0 ? 4 : 1e-4);
    fill_normal(random, position(value, j), j % 2 == 0 ? 1e15 : 1e-15);
  }
}

template <class T>
std::vector<DataFamily<T>> data_families() {
  const DataFamily<T> normal = scaled_family<T>("normal", {});
  const auto left_padded = [&](const char* name, double bias) {
    return DataFamily<T>{name, normal.fill, bias};
  };
  return {
      normal,
      scaled_family<T>("peaky x6", {.query = 6}),
      scaled_family<T>("offset +3", {.offset = 3}),
      {"one hot key", fill_one_hot_key<T>},
      scaled_family<T>("all equal", {.query = 0, .key = 0, .value = 0, .offset = 0.7}),
      scaled_family<T>("1e-20", {.query = 1e-20, .key = 1e-20, .value = 1e-20}),
      // Keys of 1e−30, or no score would be finite.
      scaled_family<T>("1e30", {.query = 1e30, .key = 1e-30, .value = 1e30}),
      {"beyond exp", fill_beyond_exp<T>},
      {"all -1e30", fill_all_very_negative<T>},
      {"alternating", fill_alternating<T>},
      left_padded("left padding by -1e4", -1e4),
      left_padded("left padding by -1e9", -1e9),
      left_padded("left padding by the lowest number", static_cast<double>(std::numeric_limits<T>::lowest())),
      {"ALiBi 0.5", normal.fill, {}, 0.5},
      {"first block dead", normal.fill, {}, {}, true},
  };
}

/// The tensors of a case that is also asked for what the family does to the scores, filled.
template <class T>
class FamilyTensors {
 public:
  FamilyTensors(const DataFamily<T>& family, const AttentionCase& problem, std::uint64_t seed)
      : tensors_(with_options(family, problem)) {
    Random random(seed);
    family.fill(random, tensors_.query(), tensors_.key(), tensors_.value());
    OptionTensors<T>& options = tensors_.options();
    options.fill(random);
    const std::int64_t keys = leading_keys(problem.shape.key_length);
    if (family.left_padding && options.bias) {
      if (!problem.bias) fill_with(options.bias->view, T{0});
      const auto& bias = options.bias->view;
      fill_with(bias.extent(3) == 1 ? bias : bias.slice(3, 0, keys), static_cast<T>(*family.left_padding));
    }
    if (family.alibi_slope) {
      options.alibi_slopes.assign(options.alibi_slopes.size(), static_cast<T>(*family.alibi_slope));
    }
    if (family.first_block_dead) {
      const auto& mask = options.mask->view;
      if (!problem.mask) fill_with(mask, std::uint8_t{1});
      for (std::int64_t i = 0; i < mask.extent(2) && mask.extent(3) > 1; ++i) {
        if (i % 3 != 1) fill_with(mask.slice(2, i, i + 1).slice(3, 0, keys), std::uint8_t{0});
      }
    }
  }

  AttentionTensors<T>* operator->() { return &tensors_; }

 private:
  static AttentionCase with_options(const DataFamily<T>& family, AttentionCase problem) {
    const Varies by_key{.batch = false, .head = false, .query = false}, by_query_and_key{.batch = false, .head = false};
    if (family.left_padding && !problem.bias && !problem.relative_bias) problem.bias = by_key;
    if (family.first_block_dead && !problem.mask) problem.mask = by_query_and_key;
    if (family.alibi_slope) problem.alibi = true;
    return problem;
  }

  AttentionTensors<T> tensors_;
};

}  // namespace headwise::test
