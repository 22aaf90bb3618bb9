/// \file
/// Attention with one option beside the same work without it: 8 heads, 1024 tokens, 64 features.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/workload.hpp"

namespace headwise::bench {

/// A call that owns all that it reads and writes. Options and arguments are set, then prepare() plans it.
template <class T>
class OptionCall {
 public:
  /// \param tensors the shape that query, key, value and output have: another one for a ragged batch
  OptionCall(const AttentionShape& shape, const AttentionShape& tensors);
  explicit OptionCall(const AttentionShape& shape) : OptionCall(shape, shape) {}

  AttentionOptions options;
  AttentionArguments<T> arguments;
  /// Useful operations, 2·(head_dim + value_dim) per attended (query, key, head); masks given as data count all pairs.
  double flops = 0;

  std::span<T> make_values(std::size_t count);            ///< random numbers that the call keeps
  std::span<std::uint8_t> make_bytes(std::size_t count);  ///< random bytes 0 and 1 that the call keeps
  std::span<const std::int64_t> keep(std::vector<std::int64_t> values);

  void prepare(int threads);
  void run() const { plan_->run(arguments, workspace_->span()); }

 private:
  AttentionShape shape_;
  AttentionTensors<T> tensors_;
  std::vector<AlignedBuffer<T>> values_;
  std::vector<std::vector<std::uint8_t>> bytes_;
  std::vector<std::vector<std::int64_t>> integers_;
  std::optional<AttentionPlan<T>> plan_;
  std::optional<AlignedBuffer<std::byte>> workspace_;
};

/// What an option costs is the time per useful operation of `make` as a multiple of that of `make_baseline`.
template <class T>
struct OptionCase {
  std::string name;  ///< e.g. options-f32-softcap
  std::function<std::unique_ptr<OptionCall<T>>()> make;
  std::function<std::unique_ptr<OptionCall<T>>()> make_baseline;  ///< the plain call, but for ragged-to-padded
};

template <class T>
std::vector<OptionCase<T>> option_cases();

}  // namespace headwise::bench
