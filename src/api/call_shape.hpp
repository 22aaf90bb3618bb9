// The shape of a call that is not planned.
#pragma once

#include "headwise/attention.hpp"

namespace headwise::detail {

/// The shape that arguments say by themselves. Of arguments that validate_arguments() refuses anyhow it is some shape:
/// nothing is followed that may not be there.
template <class T, class KV>
AttentionShape shape_of(const AttentionArguments<T, KV>& arguments);

extern template AttentionShape shape_of(const AttentionArguments<float>&);
extern template AttentionShape shape_of(const AttentionArguments<double>&);

}  // namespace headwise::detail
