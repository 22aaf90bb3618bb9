/// \file
/// The layer as the textbook writes it, and how far a correct one may be from it: each stage adds the error of its own
/// arithmetic to what it inherits, to first order. With e the inherited errors and u the rounding unit of T
///
///     projection of n inputs   Σ e_x |w| + (u (n + 2) + r)(Σ |x||w| + |bias|)
///     score                    |scale| (Σ e_q |k| + |q| e_k), which joins u·E_j of error_bound.hpp
///     head                     Σ_j p_j |v_j − o| (u E_j + e_sj) + u (2t + 2B + 3) Σ_j p_j |v_j| + Σ_j p_j e_vj
///
/// where r = 2u if inputs and weights were themselves rounded to T from what the result is compared with, else 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "headwise/multi_head_attention.hpp"
#include "reference/attention_reference.hpp"
#include "support/error_bound.hpp"
#include "support/tensors.hpp"

namespace headwise::test {

/// Dense numbers in C order, each with an allowed error.
template <class Real>
struct Approximate {
  std::vector<Real> value, error;

  /// The largest error of `actual` as a share of what is allowed; a correct result has at most 1.
  template <class T>
  Real worst_share(const std::vector<T>& actual) const {
    Real worst = actual.size() == value.size() ? 0 : INFINITY;
    for (std::size_t i = 0; i < value.size() && worst < INFINITY; ++i) {
      const Real difference = std::abs(static_cast<Real>(actual[i]) - value[i]);
      if (difference == 0) continue;
      const Real share = difference / error[i];
      worst = share <= worst ? worst : share;  // a NaN becomes the worst
      if (std::isnan(worst)) return INFINITY;
    }
    return worst;
  }
};

/// Inputs are exact.
template <class Real, class T, int Rank>
Approximate<Real> exact(const TensorView<const T, Rank>& view) {
  const auto elements = dense(view);
  return {{elements.begin(), elements.end()}, std::vector<Real>(elements.size(), 0)};
}

/// One value with its error, gathered term by term.
template <class Real>
struct Sum {
  Real value = 0, magnitude = 0, inherited = 0;
};

/// Whether inputs and weights are what the result is compared for, or were rounded to T from it.
enum class Data { exact, rounded };

/// Rows of `inputs` numbers each → rows of `outputs` numbers each.
template <class Real, class T>
Approximate<Real> reference_projection(const Approximate<Real>& rows, const Projection<T>& projection,
                                       Data data = Data::exact) {
  const std::int64_t inputs = projection.inputs(), outputs = projection.outputs();
  const auto count = inputs == 0 ? 0 : static_cast<std::int64_t>(rows.value.size()) / inputs;
  const Real unit = static_cast<Real>(KernelErrorModel::margin) * static_cast<Real>(rounding_unit<T>);
  const Real share = unit * static_cast<Real>(inputs + (data == Data::rounded ? 4 : 2));
  Approximate<Real> result;
  for (std::int64_t row = 0; row < count; ++row) {
    for (std::int64_t output = 0; output < outputs; ++output) {
      Sum<Real> sum;
      for (std::int64_t input = 0; input < inputs; ++input) {
        const auto at = static_cast<std::size_t>(row * inputs + input);
        const auto weight =
            static_cast<Real>(projection.order == WeightOrder::in_out ? projection.weight(input, output)
                                                                      : projection.weight(output, input));
        sum.value += rows.value[at] * weight;
        sum.magnitude += std::abs(rows.value[at] * weight);
        sum.inherited += rows.error[at] * std::abs(weight);
      }
      if (!projection.bias.empty()) {
        const auto bias = static_cast<Real>(projection.bias[static_cast<std::size_t>(output)]);
        sum.value += bias;
        sum.magnitude += std::abs(bias);
      }
      result.value.push_back(sum.value);
      result.error.push_back(sum.inherited + share * sum.magnitude);
    }
  }
  return result;
}

/// [batch, tokens, heads·dim] as [batch, head, token, dim].
template <class Real>
TensorView<Real, 4> heads_of(std::vector<Real>& tokens, std::int64_t batch, std::int64_t length, std::int64_t heads,
                             std::int64_t dim) {
  return TensorView<Real, 4>::contiguous(tokens.data(), {batch, length, heads, dim}).transposed(1, 2);
}

template <class Real>
struct LayerReference {
  Approximate<Real> heads;    ///< [batch, query_length, num_heads · value_dim]
  Approximate<Real> weights;  ///< [batch, num_heads, query_length, key length]
  Approximate<Real> output;   ///< [batch, query_length, outputs]
};

/// Attention over projected tokens with errors: one row of heads and weights.
template <class T, class Real>
void reference_attention_row(const AttentionArguments<Real>& values, const AttentionArguments<Real>& errors,
                             const AttentionOptions& options, RowIndex index, LayerReference<Real>& result) {
  const ReferenceRow<Real> row = reference_row<Real>(values, options, index);
  const std::int64_t head_dim = values.query.extent(3), kv_head = kv_head_of(values, index.head);
  const Real scale = std::abs(static_cast<Real>(options.scale.value_or(1 / std::sqrt(static_cast<double>(head_dim)))));
  const Real unit = rounding_unit<T>, tiny = std::numeric_limits<T>::min();
  const auto margin = static_cast<Real>(KernelErrorModel::margin);
  const auto keys = static_cast<std::int64_t>(row.score.size());
  const Real sums = static_cast<Real>(KernelErrorModel::key_block) +
                    std::ceil(static_cast<Real>(keys) / static_cast<Real>(KernelErrorModel::usual_key_block)) + 1;

  std::vector<Real> weight_error = weight_errors(row, head_dim);
  Real mean_error = 0;
  for (std::int64_t j = 0; j < keys; ++j) {
    const auto at = static_cast<std::size_t>(j);
    if (!row.attended[at]) continue;
    Real inherited = 0;
    for (std::int64_t d = 0; d < head_dim; ++d) {
      const Real q = values.query(index.batch, index.head, index.query, d), k = values.key(index.batch, kv_head, j, d);
      inherited += errors.query(index.batch, index.head, index.query, d) * std::abs(k) +
                   std::abs(q) * errors.key(index.batch, kv_head, j, d);
    }
    weight_error[at] = unit * weight_error[at] + scale * inherited;
    mean_error += row.weight[at] * weight_error[at];
  }
  for (std::size_t j = 0; j < row.weight.size(); ++j) {
    result.weights.value.push_back(row.weight[j]);
    result.weights.error.push_back(
        row.attended[j] ? margin * (row.weight[j] * (weight_error[j] + mean_error + unit * (sums + 3)) + tiny) : 0);
  }
  for (std::int64_t c = 0; c < values.value.extent(3); ++c) {
    const Real output = row.output[static_cast<std::size_t>(c)];
    Real error = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      const auto at = static_cast<std::size_t>(j);
      if (!row.attended[at]) continue;
      const Real v = values.value(index.batch, kv_head, j, c);
      error += row.weight[at] * (std::abs(v - output) * weight_error[at] + unit * (2 * sums + 3) * std::abs(v) +
                                 errors.value(index.batch, kv_head, j, c)) +
               tiny * std::abs(v);
    }
    values.output(index.batch, index.head, index.query, c) = output;
    errors.output(index.batch, index.head, index.query, c) = margin * error;
  }
}

/// The layer in Real with the errors a layer in T may have. Takes query, key and value projections, not packed ones.
template <class T, class Real = ReferenceTypeOf<T>>
LayerReference<Real> reference_layer(const MultiHeadAttentionShape& shape, const MultiHeadAttentionWeights<T>& weights,
                                     const MultiHeadAttentionArguments<T>& arguments,
                                     const AttentionOptions& options = {}, Data data = Data::exact) {
  const auto key_input = arguments.key_input.value_or(arguments.query_input);
  const auto value_input = arguments.value_input.value_or(key_input);
  Approximate<Real> query = reference_projection(exact<Real>(arguments.query_input), *weights.query, data);
  Approximate<Real> key = reference_projection(exact<Real>(key_input), *weights.key, data);
  Approximate<Real> value = reference_projection(exact<Real>(value_input), *weights.value, data);

  LayerReference<Real> result;
  const auto size = static_cast<std::size_t>(shape.batch * shape.query_length * shape.num_heads * shape.value_dim);
  result.heads = {std::vector<Real>(size, 0), std::vector<Real>(size, 0)};
  const auto part = [&](std::vector<Real> Approximate<Real>::*of) {
    const std::int64_t batch = shape.batch, queries = shape.query_length, keys = key_input.extent(1);
    AttentionArguments<Real> view{
        .query = heads_of(query.*of, batch, queries, shape.num_heads, shape.head_dim),
        .key = heads_of(key.*of, batch, keys, shape.num_kv_heads, shape.head_dim),
        .value = heads_of(value.*of, batch, keys, shape.num_kv_heads, shape.value_dim),
        .output = heads_of(result.heads.*of, batch, queries, shape.num_heads, shape.value_dim)};
    view.key_lengths = arguments.key_lengths;
    view.query_offsets = arguments.query_offsets;
    return view;
  };
  const AttentionArguments<Real> values = part(&Approximate<Real>::value), errors = part(&Approximate<Real>::error);
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.num_heads; ++h) {
      for (std::int64_t i = 0; i < shape.query_length; ++i) {
        reference_attention_row<T>(values, errors, options, {b, h, i}, result);
      }
    }
  }
  result.output = weights.output ? reference_projection(result.heads, *weights.output, data) : result.heads;
  return result;
}

}  // namespace headwise::test
