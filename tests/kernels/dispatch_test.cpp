// The tables of all instruction sets are complete and say what drivers rely on.
#include <doctest/doctest.h>

#include <cstddef>
#include <string>

#include "kernels/dispatch.hpp"
#include "support/environment.hpp"

namespace headwise::test {
namespace {

template <class T>
void check_table(const detail::InstructionSet& isa) {
  const detail::KernelTable<T, T>& table = *detail::kernel_table<T, T>(isa);
  CHECK(table.isa == isa.name);
  CHECK(table.lanes * static_cast<int>(sizeof(T)) >= 16);
  CHECK((table.lanes & (table.lanes - 1)) == 0);
  CHECK(detail::row_sum_keys % table.lanes == 0);
  CHECK(table.tile_rows % table.lanes == 0);
  CHECK(table.tile_rows >= table.lanes);
  CHECK(table.block_keys > 0);
  CHECK(table.max_block_keys >= table.block_keys);
  for (const bool present :
       {table.pack_query != nullptr, table.pack_rows != nullptr, table.pack_mask != nullptr,
        table.bias_excludes_all != nullptr, table.scores != nullptr, table.softmax != nullptr, table.finish != nullptr,
        table.values != nullptr, table.values_careful != nullptr, table.attend_tile != nullptr,
        table.all_finite != nullptr, table.start != nullptr, table.add_rows != nullptr, table.multiply_panel != nullptr,
        table.store_scores != nullptr, table.add_weights != nullptr, table.weigh_row != nullptr,
        table.row_scores != nullptr, table.row_adjust != nullptr, table.row_softmax != nullptr,
        table.row_weights != nullptr, table.row_values != nullptr, table.row_values_careful != nullptr,
        table.merge_parts != nullptr}) {
    CHECK(present);
  }
}

TEST_CASE("dispatch: every table is complete, also those this machine cannot run") {
  for (const detail::InstructionSet& isa : detail::built_instruction_sets()) {
    CAPTURE(isa.name);
    check_table<float>(isa);
    check_table<double>(isa);
  }
}

TEST_CASE("dispatch: names are unique, the active set is the one asked for and runs here") {
  const auto isas = detail::built_instruction_sets();
  REQUIRE(!isas.empty());
  for (std::size_t i = 1; i < isas.size(); ++i) CHECK(isas[i - 1].name != isas[i].name);
  const detail::InstructionSet& active = detail::active_instruction_set();
  CHECK(active.runs_here());
  CHECK(&active == &detail::active_instruction_set());
  const std::string asked(environment("HEADWISE_ISA"));
  if (!asked.empty()) CHECK(std::string(active.name) == asked);
}

}  // namespace
}  // namespace headwise::test
