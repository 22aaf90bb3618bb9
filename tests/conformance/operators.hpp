/// \file
/// What the operators of the cases ask of headwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conformance/case.hpp"
#include "adapters/onnx/attention.hpp"

namespace headwise::test {

/// Why headwise cannot be asked for this case; empty where it can. Nothing that a case says of its operator is ignored.
std::string inexpressible_reason(const Case& conformance_case);

/// What an expressible case asks: attributes of Attention and, for FlexAttention, what its sub-graph amounts to.
struct Request {
  onnx::AttentionAttributes attributes;
  std::optional<double> alibi_slope = {};  ///< of every head
};
Request request_of(const Case& conformance_case);

/// The inputs of a case in T, the type that it is computed in.
template <class T>
class CaseInputs {
 public:
  /// \throws std::runtime_error if a file is missing or has another size
  explicit CaseInputs(const Case& conformance_case);
  CaseInputs(const CaseInputs&) = delete;  // the views point into the members
  CaseInputs& operator=(const CaseInputs&) = delete;

  const onnx::AttentionInputs<T>& views() const { return views_; }

 private:
  std::vector<T> query_, key_, value_, past_key_, past_value_, bias_;
  std::vector<std::uint8_t> mask_;
  std::vector<std::int64_t> key_lengths_;
  onnx::AttentionInputs<T> views_;
};

extern template class CaseInputs<float>;
extern template class CaseInputs<double>;

}  // namespace headwise::test
