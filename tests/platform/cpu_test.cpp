// What the processor can run is consistent with what every processor of its architecture can.
#include <doctest/doctest.h>

#include "platform/cpu.hpp"

namespace headwise::test {
namespace {

TEST_CASE("cpu: the base instruction set is there, larger ones contain smaller ones") {
#if defined(__x86_64__)
  CHECK(detail::cpu_has_sse2());
  CHECK(!detail::cpu_has_neon64());
#else
  CHECK(detail::cpu_has_neon64());
  CHECK(!detail::cpu_has_sse2());
#endif
  CHECK((!detail::cpu_has_avx512() || detail::cpu_has_avx2_fma()));
  CHECK((!detail::cpu_has_avx2_fma() || detail::cpu_has_sse2()));
}

TEST_CASE("cpu: the second level holds some hundred kilobytes") {
  CHECK(detail::second_level_cache_bytes() >= 0x1p16);
  CHECK(detail::second_level_cache_bytes() <= 0x1p28);
}

}  // namespace
}  // namespace headwise::test
