/// \file
/// The keyword arguments that attention, its ragged form, plans, caches and the layer share, read in one place.
#pragma once

#include <nanobind/nanobind.h>

#include "headwise/attention.hpp"

namespace headwise::python {

namespace nb = nanobind;

/// Which keywords a function takes.
enum KeywordGroup : unsigned {
  plan_keywords = 1,  ///< what is fixed for a plan
  run_keywords = 2    ///< what may differ in every run
};

/// The values of keywords as they came; none (a null handle) where absent or None.
struct Keywords {
  nb::handle causal, window, scale, softcap, query_position, return_scores, num_threads;
  nb::handle mask, bias, key_padding_mask, key_lengths, query_offsets, alibi_slopes, sinks;
  nb::handle return_logsumexp, return_weights, out;
};

/// \param function its name, for the error text
/// \param groups the allowed KeywordGroups
/// \throws nb::type_error for a keyword that the function does not take
Keywords read_keywords(const char* function, const nb::kwargs& keywords, unsigned groups);

/// \throws nb::type_error, nb::value_error naming the argument
AttentionOptions options_of(const Keywords& keywords);

}  // namespace headwise::python
