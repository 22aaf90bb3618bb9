#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numbers>
#include <vector>

#include "accuracy/accuracy.hpp"
#include "accuracy/error_statistics.hpp"
#include "headwise/runtime.hpp"
#include "reference/attention_reference.hpp"
#include "support/attention_case.hpp"
#include "support/attention_check.hpp"
#include "support/data_families.hpp"
#include "support/error_bound.hpp"
#include "support/workloads.hpp"

namespace headwise::test {
namespace {

struct Output {
  const char* name;
  ErrorStatistics errors;
};

/// The outputs of one family on one kernel.
struct FamilyErrors {
  std::array<Output, 3> outputs{{{"attention", {}}, {"weights", {}}, {"logsumexp", {}}}};
};

template <class T>
double largest_magnitude(const TensorView<T, 4>& view) {
  double largest = 0;
  visit_elements(view, [&](T element) { largest = std::max(largest, std::abs(static_cast<double>(element))); });
  return largest;
}

/// Outputs are judged by the largest value, weights by the largest of their row, logsumexp by itself or 1.
template <class T>
void add_row(FamilyErrors& family, const AttentionArguments<T>& arguments, const AttentionOptions& options,
             RowIndex index, double largest_value) {
  using Real = ReferenceTypeOf<T>;
  const ReferenceRow<Real> exact = reference_row<Real>(arguments, options, index);
  const ReferenceRow<T> plain = reference_row<T>(arguments, options, index);
  const RowBound<Real> bound = error_bound(exact, arguments, options, index);
  // A finite bias beyond this counts as this, and so does a weight that is no normal number as 0.
  const Real largest_score = Real{std::numeric_limits<T>::max()} * std::numbers::ln2_v<Real>;
  const auto clamped = [&](Real score) { return std::clamp(score, -largest_score, largest_score); };
  auto& [output, weights, logsumexp] = family.outputs;
  const auto& [b, h, i] = index;
  for (std::size_t c = 0; c < exact.output.size(); ++c) {
    const T got = arguments.output(b, h, i, static_cast<std::int64_t>(c));
    output.errors.add(got, plain.output[c], exact.output[c], bound.output[c], Real{largest_value});
  }
  const Real largest_weight = *std::max_element(exact.weight.begin(), exact.weight.end());
  for (std::size_t j = 0; j < exact.weight.size(); ++j) {
    const T got = (*arguments.weights)(b, h, i, static_cast<std::int64_t>(j));
    if (exact.weight[j] < std::numeric_limits<T>::min() && got <= std::numeric_limits<T>::min()) continue;
    weights.errors.add(got, plain.weight[j], exact.weight[j], bound.weights[j], largest_weight);
  }
  if (exact.maximum == -std::numeric_limits<Real>::infinity()) return;
  logsumexp.errors.add((*arguments.logsumexp)(b, h, i), static_cast<T>(clamped(plain.logsumexp)),
                       clamped(exact.logsumexp), bound.logsumexp, std::max(Real{1}, std::abs(exact.logsumexp)));
}

template <class T>
FamilyErrors measure(const DataFamily<T>& family, const Workload& workload) {
  FamilyErrors errors;
  for (const AttentionCase& problem : workload.problems) {
    FamilyTensors<T> tensors(family, problem, 11);
    tensors->run();
    const double largest_value = largest_magnitude(tensors->value());
    for (const RowIndex& row : choose_rows(problem.shape, workload.rows)) {
      add_row(errors, tensors->arguments(), problem.options, row, largest_value);
    }
  }
  return errors;
}

template <class T>
bool report_type(const char* type) {
  bool good = true;
  for (const Workload& workload : workloads()) {
    const char* path = workload.path == KernelPath::query_tile ? "query_tile" : "row_dot";
    for (const DataFamily<T>& family : data_families<T>()) {
      for (const auto& [name, errors] : measure(family, workload).outputs) {
        good = print_errors(path, type, family.name, name, errors) && good;
      }
    }
  }
  return good;
}

}  // namespace

void print_error_heading() {
  std::puts(
      "| kernels | path | type | data | output | largest error (u) | RMS (u) | share of bound | plain largest (u) "
      "| plain RMS (u) |\n|---|---|---|---|---|---|---|---|---|---|");
}

bool print_errors(const char* path, const char* type, const char* family, const char* output,
                  const ErrorStatistics& errors) {
  std::printf("| %s | %s | %s | %s | %s | %.3g | %.3g | %.2g %% | %.3g | %.3g |%s\n", active_isa(), path, type, family,
              output, errors.largest, errors.rms(), 100 * errors.largest_share, errors.plain_largest,
              errors.plain_rms(), errors.good() ? "" : " too large");
  std::fflush(stdout);
  return errors.good();
}

bool report_attention() {
  print_error_heading();
  const bool good_float = report_type<float>("float"), good_double = report_type<double>("double");
  std::puts("");
  return good_float && good_double;
}

}  // namespace headwise::test
