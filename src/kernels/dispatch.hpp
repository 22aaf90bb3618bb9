// Which instruction sets this build has kernels for, and which one is used.
#pragma once

#include <span>
#include <string_view>

#include "kernels/kernel_table.hpp"

namespace headwise::detail {

struct InstructionSet {
  std::string_view name;
  bool (*runs_here)();  ///< processor and operating system both support it
  const KernelTable<float, float>& (*f32)();
  const KernelTable<double, double>& (*f64)();
};

/// Every instruction set of this build, weakest first.
std::span<const InstructionSet> built_instruction_sets();

/// The one in use: HEADWISE_ISA if set, else the strongest that runs here. Chosen once.
/// \throws std::invalid_argument if HEADWISE_ISA names one that is unknown or does not run here.
const InstructionSet& active_instruction_set();

/// The kernels of an instruction set for T and KV.
template <class T, class KV>
const KernelTable<T, KV>* kernel_table(const InstructionSet& isa);

/// The kernels of the instruction set Tag for T, of which each is compiled apart.
template <class Tag, class T>
const KernelTable<T, T>& isa_table();

}  // namespace headwise::detail
