/// \file
/// Masks, biases, slopes and sinks as models have them, at random.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "headwise/attention.hpp"
#include "support/attention_problem.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

/// Calls visit(attended, element) for every element of a scores-shaped view: rectangles of 64 queries × 40 keys are all
/// attended, all excluded or mixed, and an eighth of the rows attend nothing.
template <class Element, class Visit>
void visit_mask_pattern(Random& random, const TensorView<Element, 4>& view, Visit visit) {
  enum Kind : char { attended, excluded, mixed };
  constexpr std::int64_t queries = 64, keys = 40;
  for (std::int64_t b = 0; b < view.extent(0); ++b) {
    for (std::int64_t h = 0; h < view.extent(1); ++h) {
      std::vector<Kind> kinds(static_cast<std::size_t>(view.extent(3) / keys + 1));
      for (std::int64_t i = 0; i < view.extent(2); ++i) {
        for (std::size_t n = 0; n < kinds.size() && i % queries == 0; ++n) {
          kinds[n] = random.among(std::array{attended, attended, excluded, mixed});
        }
        const bool dead = view.extent(2) > 1 && random.below(8) == 0;
        for (std::int64_t j = 0; j < view.extent(3); ++j) {
          const Kind kind = kinds[static_cast<std::size_t>(j / keys)];
          visit(!dead && (kind == attended || (kind == mixed && random.below(2) == 0)), view(b, h, i, j));
        }
      }
    }
  }
}

/// Bytes that say true; not only 1.
inline constexpr std::array<std::uint8_t, 4> true_bytes{1, 1, 2, 255};

/// Everything of a case that acts on scores.
template <class T>
struct OptionTensors {
  std::optional<Tensor<std::uint8_t, 4>> mask;
  std::optional<Tensor<T, 4>> bias;
  std::optional<Tensor<T, 4>> bias_table;           ///< [1, heads, 1, query_length + key_length − 1]
  std::optional<Tensor<std::uint8_t, 4>> padding;  ///< [batch, 1, 1, key_length]
  std::vector<T> alibi_slopes, sinks;

  OptionTensors() = default;
  explicit OptionTensors(const AttentionCase& problem) {
    const AttentionShape& s = problem.shape;
    const Placement placement = problem.placement;
    using Extents = std::array<std::int64_t, 4>;
    int tensor = 8;  // behind inputs and outputs
    const auto layout = [&] { return problem.layout_of(tensor++); };
    if (problem.mask) mask = make_tensor<std::uint8_t, 4>(problem.mask->extents(s), layout(), placement);
    if (problem.bias) bias = make_tensor<T, 4>(problem.bias->extents(s), layout(), placement);
    if (problem.relative_bias) {
      const Extents table{1, s.num_heads, 1, s.query_length + s.key_length - 1};
      bias_table = make_tensor<T, 4>(table, layout(), placement);
    }
    if (problem.key_padding_mask) {
      padding = make_tensor<std::uint8_t, 4>(Extents{s.batch, 1, 1, s.key_length}, layout(), placement);
    }
    if (problem.alibi) alibi_slopes.assign(static_cast<std::size_t>(s.num_heads), 0);
    if (problem.sinks) sinks.assign(static_cast<std::size_t>(s.num_heads), -std::numeric_limits<T>::infinity());
  }

  void fill(Random& random) {
    if (mask) {
      visit_mask_pattern(random, mask->view, [&](bool attended, std::uint8_t& byte) {
        byte = attended ? random.among(true_bytes) : std::uint8_t{0};
      });
    }
    if (bias) {
      const bool excludes = random.below(2) == 0;
      visit_mask_pattern(random, bias->view, [&](bool attended, T& element) {
        element = attended || !excludes ? static_cast<T>(2 * random.normal()) : -std::numeric_limits<T>::infinity();
      });
    }
    if (bias_table) fill_normal(random, bias_table->view);
    if (padding) {
      visit_elements(padding->view, [&](std::uint8_t& byte) {
        byte = random.below(4) == 0 ? random.among(true_bytes) : std::uint8_t{0};
      });
    }
    for (T& slope : alibi_slopes) slope = static_cast<T>(0.1 * random.normal());
    for (T& sink : sinks) sink = static_cast<T>(2 * random.normal());
  }

  /// Joins them to the arguments of a call.
  void add_to(AttentionArguments<T>& arguments, const AttentionShape& shape) const {
    if (mask) arguments.mask = mask->view;
    if (bias) arguments.bias = bias->view;
    if (bias_table) {
      const auto& view = bias_table->view;
      const TensorView<const T, 2> table{view.data, {view.extent(1), view.extent(3)}, {view.stride(1), view.stride(3)}};
      arguments.bias = relative_bias_view<T>(table, shape.query_length, shape.key_length);
    }
    if (padding) {
      const auto& view = padding->view;
      arguments.key_padding_mask = {view.data, {view.extent(0), view.extent(3)}, {view.stride(0), view.stride(3)}};
    }
    arguments.alibi_slopes = alibi_slopes;
    arguments.sinks = sinks;
  }

  void make_read_only() const {
    if (mask) mask->buffer->make_read_only();
    if (bias) bias->buffer->make_read_only();
    if (bias_table) bias_table->buffer->make_read_only();
    if (padding) padding->buffer->make_read_only();
  }
};

}  // namespace headwise::test
