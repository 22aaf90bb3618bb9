// The kernels for float; compiled once per instruction set (cmake/KernelIsa.cmake).
#include "kernels/dispatch.hpp"
#include "kernels/isa_table.hpp"

namespace headwise::detail {

template <>
const KernelTable<float, float>& isa_table<Isa::Tag, float>() {
  static constexpr KernelTable<float, float> table = make_table<float>();
  return table;
}

}  // namespace headwise::detail
