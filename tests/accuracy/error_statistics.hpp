/// \file
/// Errors of many elements of one kind, beside those of a plain sequential implementation.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "support/error_bound.hpp"

namespace headwise::test {

/// Errors in units of u, each relative to a magnitude that the element is judged by.
struct ErrorStatistics {
  std::int64_t elements = 0;
  double largest = 0, squares = 0, largest_share = 0;  ///< the share is of the bound
  double plain_largest = 0, plain_squares = 0;

  /// Adds an element that should be `exact` and may be off by `allowed`. Where nothing is allowed, an error is an
  /// infinite share.
  template <class T, class Real>
  void add(T got, T plain, Real exact, Real allowed, Real magnitude) {
    const Real error = std::abs(static_cast<Real>(got) - exact), unit = magnitude * Real{rounding_unit<T>};
    const Real plain_error = std::abs(static_cast<Real>(plain) - exact);
    ++elements;
    if (error > 0) largest_share = std::max(largest_share, static_cast<double>(error / allowed));
    if (std::isnan(got)) largest_share = std::numeric_limits<double>::infinity();
    if (!(magnitude > 0)) return;
    const auto in_units = static_cast<double>(error / unit), plain_in_units = static_cast<double>(plain_error / unit);
    largest = std::max(largest, in_units);
    squares += in_units * in_units;
    plain_largest = std::max(plain_largest, plain_in_units);
    plain_squares += plain_in_units * plain_in_units;
  }

  double rms() const { return root_mean(squares); }
  double plain_rms() const { return root_mean(plain_squares); }

  /// At most half of the bound, and an RMS error of at most twice the plain one's and a unit.
  bool good() const { return elements > 0 && largest_share <= 0.5 && rms() <= 2 * plain_rms() + 1; }

 private:
  double root_mean(double sum) const { return elements == 0 ? 0 : std::sqrt(sum / static_cast<double>(elements)); }
};

}  // namespace headwise::test
