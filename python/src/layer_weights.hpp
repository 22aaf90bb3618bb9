/// \file
/// The arrays of a layer as projections: read anew in every call, or packed once.
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "array.hpp"
#include "headwise/multi_head_attention.hpp"
#include "numbers.hpp"

namespace headwise::python {

/// How weight matrices are stored.
/// \throws nb::value_error unless it is "out_in" or "in_out"
WeightOrder weight_order_of(nb::handle name);

/// The arrays of MultiHeadAttention, under its names.
enum Parameter : std::size_t {
  in_proj_weight,
  q_proj_weight,
  k_proj_weight,
  v_proj_weight,
  in_proj_bias,
  q_proj_bias,
  k_proj_bias,
  v_proj_bias,
  out_proj_weight,
  out_proj_bias,
  parameter_count
};

/// Owns references to the arrays, whose forms and shapes headwise.MultiHeadAttention has checked.
class LayerWeights {
 public:
  /// \param arrays by name
  /// \param pack whether to copy them now, in the order of the library's kernel; else every call reads the arrays
  LayerWeights(const nb::dict& arrays, std::int64_t num_heads, std::int64_t num_kv_heads, WeightOrder order, bool pack);

  ElementType type() const { return type_; }
  /// " (the type of in_proj_weight)", for error texts.
  const char* type_reason() const { return type_reason_.c_str(); }

  /// The projections of one call.
  template <class T>
  class Projections {
   public:
    /// \throws nb::value_error if an array has another shape than when the layer was made
    explicit Projections(const LayerWeights& weights);
    /// Query, key and value always; packed, too, where one product serves all three.
    const MultiHeadAttentionWeights<T>& operator*() const { return *projections_; }
    const MultiHeadAttentionWeights<T>* operator->() const { return projections_; }

   private:
    void read(const LayerWeights& weights);

    std::array<OptionalArray, parameter_count> arrays_;
    std::array<std::optional<Numbers<T>>, parameter_count> biases_;
    MultiHeadAttentionWeights<T> own_;
    const MultiHeadAttentionWeights<T>* projections_ = &own_;
  };

 private:
  std::array<nb::object, parameter_count> objects_;
  std::array<std::array<std::int64_t, 2>, parameter_count> extents_{};
  std::array<std::int64_t, 3> outputs_{};  // of query, key and value
  WeightOrder order_;
  ElementType type_ = ElementType::other;
  std::string type_reason_;
  std::variant<std::monostate, MultiHeadAttentionWeights<float>, MultiHeadAttentionWeights<double>> packed_;
};

extern template class LayerWeights::Projections<float>;
extern template class LayerWeights::Projections<double>;

}  // namespace headwise::python
