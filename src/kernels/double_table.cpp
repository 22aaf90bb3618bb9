// The kernels for double; compiled once per instruction set (cmake/KernelIsa.cmake).
#include "kernels/dispatch.hpp"
#include "kernels/isa_table.hpp"

namespace headwise::detail {

template <>
const KernelTable<double, double>& isa_table<Isa::Tag, double>() {
  static constexpr KernelTable<double, double> table = make_table<double>();
  return table;
}

}  // namespace headwise::detail
