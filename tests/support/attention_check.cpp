#include "support/attention_check.hpp"

#include <limits>
#include <sstream>

#include "support/environment.hpp"
#include "support/error_bound.hpp"

namespace headwise::test {

std::vector<RowIndex> choose_rows(const AttentionShape& shape, std::int64_t count) {
  const std::int64_t total = shape.batch * shape.num_heads * shape.query_length;
  // Emulators take ten times as long for the reference's long double as for all the rest.
  const std::int64_t chosen = std::min({total, count, reduced_grid() ? std::int64_t{3} : count});
  std::vector<RowIndex> rows;
  for (std::int64_t n = 0; n < chosen; ++n) {
    const std::int64_t flat = chosen == 1 ? 0 : n * (total - 1) / (chosen - 1);
    const std::int64_t sequence = flat / shape.query_length;
    rows.push_back({sequence / shape.num_heads, sequence % shape.num_heads, flat % shape.query_length});
  }
  return rows;
}

template <class T>
void RowCheck<T>::compare(const char* tensor, std::int64_t column, T got, Real expected, Real allowed) {
  ++report_.elements;
  const Real error = std::abs(static_cast<Real>(got) - expected);
  bool good = error <= allowed && (allowed > 0 || std::signbit(got) == std::signbit(expected));
  if (std::isnan(expected)) good = std::isnan(got);
  if (std::isinf(expected)) good = static_cast<Real>(got) == expected;
  if (good && allowed > 0 && std::isfinite(expected)) {
    report_.worst_share = std::max(report_.worst_share, static_cast<long double>(error / allowed));
  }
  if (good || ++report_.violations > 1) return;
  std::ostringstream text;
  text.precision(std::numeric_limits<T>::max_digits10);
  text << tensor << "[" << row_.batch << ", " << row_.head << ", " << row_.query;
  if (column >= 0) text << ", " << column;
  text << "] is " << got << ", expected " << expected << " within " << allowed;
  report_.first_violation = text.str();
}

template class RowCheck<float>;
template class RowCheck<double>;

namespace {

/// Whether a key has no weight whatever the others have: excluded, or its score came to −∞.
template <class Real>
bool never_counts(const ReferenceRow<Real>& reference, std::size_t j) {
  return !reference.attended[j] || reference.score[j] == -std::numeric_limits<Real>::infinity();
}

/// Whether the output of a row is specified. It is not where a key that is attended, but whose weight is or may come to
/// 0, has a value that times 0 is no number.
template <class T, class Real>
bool output_is_specified(const ReferenceRow<Real>& reference, const AttentionArguments<T>& arguments, RowIndex row) {
  if (value_dim_of(arguments) == 0) return true;
  // A weight is rounded a few times on its way, and may lose up to 8 powers of two to a reference that lags behind.
  const Real smallest = std::sqrt(Real{std::numeric_limits<T>::min()});
  for (std::size_t j = 0; j < reference.score.size(); ++j) {
    if (!reference.attended[j] || reference.weight[j] > smallest || std::isnan(reference.logsumexp)) continue;
    const auto key = key_token(arguments, row.batch, static_cast<std::int64_t>(j));
    const T* value = &key->value(key->token.batch, kv_head_of(arguments, row.head), key->token.position, 0);
    for (std::int64_t c = 0; c < value_dim_of(arguments); ++c) {
      const T element = value[c * key->value.stride(3)];
      if (std::isinf(element) || (std::isnan(element) && never_counts(reference, j))) return false;
    }
  }
  return true;
}

/// Weights and scores are rows of key_length, which may be longer than any sequence: the rest holds `beyond`.
template <class T, class Real>
void check_keys(RowCheck<T>& check, const char* tensor, const TensorView<T, 4>& got, RowIndex row,
                const std::vector<Real>& expected, const std::vector<Real>& allowed, Real beyond) {
  for (std::int64_t column = 0; column < got.extent(3); ++column) {
    const auto j = static_cast<std::size_t>(column);
    const bool within = j < expected.size();
    check.compare(tensor, column, got(row.batch, row.head, row.query, column), within ? expected[j] : beyond,
                  within ? allowed[j] : Real{0});
  }
}

/// Whether a weight may be 0 as well as NaN: that of a key whose score came to −∞ in a row of NaN.
template <class Real>
bool weight_is_zero_or_nan(const ReferenceRow<Real>& reference, std::size_t j) {
  return std::isnan(reference.logsumexp) && reference.attended[j] && never_counts(reference, j);
}

template <class T, class Real>
void check_weights(RowCheck<T>& check, const TensorView<T, 4>& got, RowIndex row, const ReferenceRow<Real>& reference,
                   std::vector<Real> allowed) {
  std::vector<Real> expected = reference.weight;
  for (std::size_t j = 0; j < expected.size(); ++j) {
    if (!weight_is_zero_or_nan(reference, j)) continue;
    if (!std::isnan(got(row.batch, row.head, row.query, static_cast<std::int64_t>(j)))) expected[j] = allowed[j] = 0;
  }
  check_keys(check, "weights", got, row, expected, allowed, Real{0});
}

/// The weights of one query averaged over its heads.
template <class T>
void check_mean_weights(RowCheck<T>& check, const AttentionArguments<T>& arguments, const AttentionOptions& options,
                        RowIndex row) {
  using Real = ReferenceTypeOf<T>;
  const auto heads = static_cast<Real>(arguments.query.extent(1));
  std::vector<Real> mean(static_cast<std::size_t>(arguments.mean_weights->extent(2)), 0), allowed = mean;
  std::vector<char> zero_or_nan(mean.size(), 0);
  for (row.head = 0; row.head < arguments.query.extent(1); ++row.head) {
    const ReferenceRow<Real> reference = reference_row<Real>(arguments, options, row);
    const std::vector<Real> bounds = weight_bounds<T>(reference, row_errors(reference, arguments, options));
    for (std::size_t j = 0; j < reference.weight.size(); ++j) {
      mean[j] += reference.weight[j] / heads;
      allowed[j] += bounds[j] / heads;
      if (weight_is_zero_or_nan(reference, j)) zero_or_nan[j] = 1;
    }
  }
  for (std::size_t j = 0; j < mean.size(); ++j) {
    if (zero_or_nan[j]) continue;
    const auto column = static_cast<std::int64_t>(j);
    const Real sum_error = rounding_unit<T> * (heads + 1) * mean[j];
    check.compare("mean_weights", column, (*arguments.mean_weights)(row.batch, row.query, column), mean[j],
                  allowed[j] + sum_error);
  }
}

}  // namespace

template <class T>
Report check_rows(const AttentionArguments<T>& arguments, const AttentionOptions& options,
                  const std::vector<RowIndex>& rows, bool measure_plain) {
  using Real = ReferenceTypeOf<T>;
  Report report;
  for (const RowIndex& row : rows) {
    if (row.query >= query_length_of(arguments, row.batch)) continue;
    const Token token = query_token(arguments, row.batch, row.query);
    const ReferenceRow<Real> reference = reference_row<Real>(arguments, options, row);
    RowBound<Real> bound = error_bound(reference, arguments, options, row);
    bool dead = true;
    for (std::size_t j = 0; j < reference.score.size(); ++j) dead = dead && never_counts(reference, j);
    if (dead) {
      std::fill(bound.output.begin(), bound.output.end(), 0);
      std::fill(bound.weights.begin(), bound.weights.end(), 0);
    }
    RowCheck<T> check(report, row);
    const std::size_t specified = output_is_specified(reference, arguments, row) ? reference.output.size() : 0;
    for (std::size_t c = 0; c < specified; ++c) {
      const auto column = static_cast<std::int64_t>(c);
      const T got = arguments.output(token.batch, row.head, token.position, column);
      check.compare("output", column, got, reference.output[c], bound.output[c]);
      const Real error = static_cast<Real>(got) - reference.output[c];
      report.squared_error += static_cast<long double>(error) * static_cast<long double>(error);
    }
    if (arguments.weights) check_weights(check, *arguments.weights, row, reference, bound.weights);
    if (arguments.scores) {
      const Real beyond = options.score_stage == ScoreStage::biased ? -std::numeric_limits<Real>::infinity() : Real{0};
      check_keys(check, "scores", *arguments.scores, row, reference.stage, bound.scores, beyond);
    }
    if (arguments.mean_weights) check_mean_weights(check, arguments, options, row);
    if (arguments.logsumexp) {
      const T got = (*arguments.logsumexp)(token.batch, row.head, token.position);
      check.compare("logsumexp", -1, got, reference.logsumexp, bound.logsumexp);
    }
    if (!measure_plain) continue;
    const ReferenceRow<T> plain = reference_row<T>(arguments, options, row);
    for (std::size_t c = 0; c < reference.output.size(); ++c) {
      const auto error = static_cast<long double>(static_cast<Real>(plain.output[c]) - reference.output[c]);
      report.plain_squared_error += error * error;
    }
    report.outputs += static_cast<std::int64_t>(reference.output.size());
  }
  return report;
}

template Report check_rows(const AttentionArguments<float>&, const AttentionOptions&, const std::vector<RowIndex>&, bool);
template Report check_rows(const AttentionArguments<double>&, const AttentionOptions&, const std::vector<RowIndex>&, bool);

}  // namespace headwise::test
