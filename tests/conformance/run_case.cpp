#include "conformance/run_case.hpp"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <limits>
#include <ostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "adapters/onnx/attention.hpp"
#include "conformance/operators.hpp"
#include "headwise/headwise.hpp"
#include "reference/attention_reference.hpp"
#include "support/error_bound.hpp"

namespace headwise::test {
namespace {

/// An output and its memory.
template <class T>
struct Output {
  std::vector<T> elements;
  onnx::Tensor<T> tensor;

  const onnx::Tensor<T>& allocate(std::vector<std::int64_t> extents) {
    std::int64_t count = 1;
    for (const std::int64_t extent : extents) count *= extent;
    elements.resize(static_cast<std::size_t>(count));
    return tensor = onnx::Tensor<T>::contiguous(elements.data(), std::move(extents));
  }
};

/// The outputs of a call and their memory.
template <class T>
struct Outputs {
  Output<T> y, present_key, present_value, qk_matmul_output;
  onnx::AttentionOutputs<T> views;

  Output<T>& of(const std::string& role) {
    if (role == "present_key") return present_key;
    if (role == "present_value") return present_value;
    return role == "qk_matmul_output" ? qk_matmul_output : y;
  }

  /// Elements that a call fails to write must not pass.
  void poison() {
    for (Output<T>* output : {&y, &present_key, &present_value, &qk_matmul_output}) {
      std::fill(output->elements.begin(), output->elements.end(), std::numeric_limits<T>::signaling_NaN());
    }
  }
};

/// Allowed errors of a call's outputs, in the layout of those.
struct ReferenceBounds {
  std::vector<double> y, qk_matmul_output;

  const std::vector<double>& of(const std::string& role) const { return role == "Y" ? y : qk_matmul_output; }
};

template <class T>
ReferenceBounds reference_bounds(const AttentionShape& shape, const AttentionOptions& options,
                                 const AttentionArguments<T>& arguments, const Outputs<T>& outputs) {
  const auto& matrix = arguments.weights ? arguments.weights : arguments.scores;
  ReferenceBounds bounds;
  bounds.y.resize(outputs.y.elements.size());
  bounds.qk_matmul_output.resize(outputs.qk_matmul_output.elements.size());
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < shape.num_heads; ++h) {
      for (std::int64_t i = 0; i < shape.query_length; ++i) {
        const auto row = reference_row<ReferenceTypeOf<T>>(arguments, options, {b, h, i});
        const auto bound = error_bound(row, arguments, options, {b, h, i});
        for (std::int64_t c = 0; c < shape.value_dim; ++c) {
          const auto element = &arguments.output(b, h, i, c) - outputs.y.elements.data();
          bounds.y[static_cast<std::size_t>(element)] = static_cast<double>(bound.output[static_cast<std::size_t>(c)]);
        }
        for (std::int64_t j = 0; j < shape.key_length && matrix; ++j) {
          const auto element = &(*matrix)(b, h, i, j) - outputs.qk_matmul_output.elements.data();
          bounds.qk_matmul_output[static_cast<std::size_t>(element)] = static_cast<double>(
              (arguments.weights ? bound.weights : bound.scores)[static_cast<std::size_t>(j)]);
        }
      }
    }
  }
  return bounds;
}

/// One case in T.
template <class T>
class CaseRun {
 public:
  CaseRun(const Case& conformance_case, std::ostream& failures)
      : failures_(failures), request_(request_of(conformance_case)), inputs_(conformance_case) {
    const Arithmetic arithmetic{rounding_unit<T>, std::numeric_limits<T>::min()};
    for (const ExpectedOutput& output : conformance_case.outputs) {
      expectations_.emplace_back(conformance_case, output, arithmetic);
    }
    if (expectations_.empty()) throw std::runtime_error("no output to compare");
  }

  CaseResult run() {
    const bool past = inputs_.views().past_key.has_value();
    run_call(past || expects("present_key") || expects("present_value"), "");
    if (past) run_call(false, ", past in place");
    return result_;
  }

 private:
  bool expects(const std::string& role) const {
    return std::any_of(expectations_.begin(), expectations_.end(),
                       [&role](const Expectation& expectation) { return expectation.role() == role; });
  }

  void allocate(Outputs<T>& outputs, bool present) const {
    const AttentionShape s = onnx::attention_shape(request_.attributes, inputs_.views());
    outputs.views.y = inputs_.views().q.extents.size() == 3
                          ? outputs.y.allocate({s.batch, s.query_length, s.num_heads * s.value_dim})
                          : outputs.y.allocate({s.batch, s.num_heads, s.query_length, s.value_dim});
    if (present) {
      outputs.views.present_key = outputs.present_key.allocate({s.batch, s.num_kv_heads, s.key_length, s.head_dim});
      outputs.views.present_value =
          outputs.present_value.allocate({s.batch, s.num_kv_heads, s.key_length, s.value_dim});
    }
    if (expects("qk_matmul_output")) {
      outputs.views.qk_matmul_output =
          outputs.qk_matmul_output.allocate({s.batch, s.num_heads, s.query_length, s.key_length});
    }
  }

  void run_call(bool present, const std::string& note) {
    Outputs<T> outputs;
    allocate(outputs, present);
    const onnx::AttentionCall<T> call(request_.attributes, inputs_.views(), outputs.views);
    AttentionArguments<T> arguments = call.arguments();
    const std::vector<T> slopes(static_cast<std::size_t>(call.shape().num_heads),
                                static_cast<T>(request_.alibi_slope.value_or(0)));
    if (request_.alibi_slope) arguments.alibi_slopes = slopes;

    ReferenceBounds bounds;
    for (const int threads : case_thread_counts) {
      outputs.poison();
      AttentionOptions options = call.options();
      options.num_threads = threads;
      if (request_.alibi_slope) {
        attention(arguments, options);
      } else {
        call.run(threads);
      }
      // The keys are where the arguments say only once the call has run.
      if (threads == case_thread_counts.front() &&
          std::any_of(expectations_.begin(), expectations_.end(),
                      [](const Expectation& expectation) { return expectation.needs_reference_bound(); })) {
        bounds = reference_bounds(call.shape(), options, arguments, outputs);
      }
      judge(std::string(active_isa()) + ", threads " + std::to_string(threads) + note, present, outputs, bounds);
    }
  }

  void judge(const std::string& run, bool present, Outputs<T>& outputs, const ReferenceBounds& bounds) {
    for (const Expectation& expectation : expectations_) {
      if (expectation.is_copy() && !present) continue;
      const Output<T>& output = outputs.of(expectation.role());
      const std::vector<double> got(output.elements.begin(), output.elements.end());
      expectation.judge(run, got, output.tensor.extents, bounds.of(expectation.role()), result_, failures_);
    }
  }

  std::ostream& failures_;
  Request request_;
  CaseInputs<T> inputs_;
  std::vector<Expectation> expectations_;
  CaseResult result_{.passed = true};
};

/// Types narrower than float are computed in float.
bool computed_in_double(const Case& conformance_case) {
  const auto is_f64 = [&](const char* role) {
    const TensorFile* input = conformance_case.input(role);
    return input != nullptr && input->type == "f64";
  };
  return is_f64("Q") || is_f64("K") || is_f64("V");
}

}  // namespace

CaseResult run_case(const Case& conformance_case, std::ostream& failures) {
  try {
    return computed_in_double(conformance_case) ? CaseRun<double>(conformance_case, failures).run()
                                                : CaseRun<float>(conformance_case, failures).run();
  } catch (const std::exception& error) {
    failures << "FAIL " << conformance_case.name << " " << active_isa() << ": " << error.what() << std::endl;
    return {};
  }
}

}  // namespace headwise::test
