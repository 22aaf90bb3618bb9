#include "kernels/dispatch.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "platform/cpu.hpp"

namespace headwise::detail {
namespace {

// Weakest first. AVX without FMA and AVX2 without FMA run sse2's kernels: no processor of interest stops there.
constexpr InstructionSet instruction_sets[] = {
#if defined(HEADWISE_HAVE_SSE2)
    {"sse2", cpu_has_sse2, isa_table<Sse2, float>, isa_table<Sse2, double>},
#endif
#if defined(HEADWISE_HAVE_AVX2)
    {"avx2", cpu_has_avx2_fma, isa_table<Avx2, float>, isa_table<Avx2, double>},
#endif
#if defined(HEADWISE_HAVE_AVX512)
    {"avx512", cpu_has_avx512, isa_table<Avx512, float>, isa_table<Avx512, double>},
#endif
#if defined(HEADWISE_HAVE_NEON64)
    {"neon64", cpu_has_neon64, isa_table<Neon64, float>, isa_table<Neon64, double>},
#endif
};

std::string runnable_names() {
  std::string names;
  for (const InstructionSet& isa : instruction_sets) {
    if (!isa.runs_here()) continue;
    if (!names.empty()) names += ", ";
    names += isa.name;
  }
  return names;
}

const InstructionSet& choose() {
  const char* forced = std::getenv("HEADWISE_ISA");
  const InstructionSet* chosen = nullptr;
  for (const InstructionSet& isa : instruction_sets) {
    if (isa.runs_here() && (forced == nullptr || isa.name == forced)) chosen = &isa;
  }
  if (chosen == nullptr) {
    throw std::invalid_argument("headwise: HEADWISE_ISA is \"" + std::string(forced == nullptr ? "" : forced) +
                                "\", expected an instruction set that this machine runs: " + runnable_names());
  }
  return *chosen;
}

}  // namespace

std::span<const InstructionSet> built_instruction_sets() { return instruction_sets; }

const InstructionSet& active_instruction_set() {
  static const InstructionSet& chosen = choose();
  return chosen;
}

template <>
const KernelTable<float, float>* kernel_table(const InstructionSet& isa) {
  return &isa.f32();
}

template <>
const KernelTable<double, double>* kernel_table(const InstructionSet& isa) {
  return &isa.f64();
}

}  // namespace headwise::detail
