/// \file
/// What attention() promises of every call, checked on a problem of any kind.
#pragma once

#include <cstdint>
#include <string>

namespace headwise::test {

/// The first promise that the problem drawn from a seed breaks, and the problem; empty where all are kept. The outputs
/// must be within the error bound and nothing written beside them. They must have the same bits with other threads, a
/// larger plan, packed tensors and other numbers in keys that no row attends, and those of a sequence and queries alone.
template <class T>
std::string broken_promise(std::uint64_t seed);

}  // namespace headwise::test
