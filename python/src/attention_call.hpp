/// \file
/// One call of attention from Python: arguments read and checked, outputs allocated, computed without the GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <optional>
#include <span>

#include "array.hpp"
#include "headwise/attention.hpp"
#include "keywords.hpp"
#include "numbers.hpp"
#include "results.hpp"

namespace headwise::python {

/// Holds everything that the computation reads and writes. T is the query's type, float or double.
template <class T>
class AttentionCall {
 public:
  /// \param return_scores whether there is an output of scores
  AttentionCall(const Array& query, const Keywords& keywords, bool return_scores);

  /// Keys in one piece.
  void set_keys(nb::handle key, nb::handle value);
  /// Keys in a cache; `runs` must outlive the call.
  void set_keys(std::span<const KeyRun<T>> runs, std::int64_t key_length);
  /// Keys, values and queries of a ragged batch, [tokens, heads, dim]; starts as in AttentionArguments.
  void set_ragged(nb::handle key, nb::handle value, nb::handle query_starts, nb::handle key_starts);

  /// Heads and output in memory that outlives the call.
  void set_heads(const TensorView<const T, 4>& query, const TensorView<const T, 4>& key,
                 const TensorView<const T, 4>& value, const TensorView<T, 4>& output);

  /// Computes with a new plan.
  /// \return the output or, where more was asked for, a tuple of output, logsumexp, weights and scores
  nb::object run(const AttentionOptions& options);
  /// Computes with `plan`.
  nb::object run(const AttentionPlan<T>& plan);
  /// Reads the other arguments, allocates outputs and calls compute(arguments) without the GIL.
  template <class Compute>
  void run_with(const Compute& compute) {
    read_inputs();
    allocate_outputs();
    const nb::gil_scoped_release without_lock;
    compute(arguments_);
  }
  /// What run() returns with `output` as the output.
  /// \param batched false: without the axis of the batch, of which there is one
  nb::object results(const nb::object& output, bool batched = true) const;

 private:
  void read_inputs();
  void allocate_output();
  void allocate_outputs();
  TensorView<const T, 4> read_keys(OptionalArray& array, nb::handle object, const char* name);

  const Array& query_;
  const Keywords& keywords_;
  AttentionShape shape_;
  AttentionArguments<T> arguments_;
  bool ragged_ = false, output_in_place_ = false, return_scores_;
  OptionalArray key_, value_, mask_, bias_, key_padding_mask_;
  std::optional<Numbers<std::int64_t>> key_lengths_, query_offsets_, query_starts_, key_starts_;
  std::optional<Numbers<T>> alibi_slopes_, sinks_;
  std::optional<Result> output_, logsumexp_, weights_, scores_;
};

extern template class AttentionCall<float>;
extern template class AttentionCall<double>;

/// Calls `function` with T as the query's type: function.template operator()<float>() or <double>().
/// \throws nb::type_error unless the query is of float32 or float64
template <class Function>
auto with_type_of(const Array& query, const Function& function) {
  return floating_type(query) == ElementType::float32 ? function.template operator()<float>()
                                                      : function.template operator()<double>();
}

}  // namespace headwise::python
