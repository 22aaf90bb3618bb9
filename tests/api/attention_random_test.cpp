// attention() on random problems of every kind: shapes, layouts, options, outputs, keys in pieces and ragged batches.
// HEADWISE_TEST_SEEDS=17 replays one, HEADWISE_TEST_SEEDS=1000-1999 tries others.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "support/environment.hpp"
#include "support/random_check.hpp"

namespace headwise::test {
namespace {

TEST_CASE_TEMPLATE("attention: random problems keep every promise", T, float, double) {
  const SeedRange seeds = random_seeds();
  for (std::uint64_t seed = seeds.first; seed <= seeds.last; ++seed) {
    seed_in_use = seed;
    CAPTURE(seed);
    CHECK(broken_promise<T>(seed) == "");
  }
  seed_in_use = 0;
}

}  // namespace
}  // namespace headwise::test
