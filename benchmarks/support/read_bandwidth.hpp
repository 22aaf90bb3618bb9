/// \file
/// The limit of reading memory, measured here and now: the denominator of decode's share.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "support/clock.hpp"

namespace headwise::bench {

/// How fast `threads` threads can read memory: the best of several loops that sum up a range and prefetch at different
/// distances. Take samples between the runs they are compared with, over memory of the same size and in the same state.
class ReadBandwidth {
 public:
  /// \param in_cache whether the memory was read shortly before, as far as it fits.
  /// \param clock the seconds counted; with several threads it must be the same clock in all of them
  ReadBandwidth(int threads, bool in_cache, double (*clock)() = now)
      : threads_(threads), in_cache_(in_cache), clock_(clock) {}

  /// Out of cache: reads `data` once, an equal part of it at each prefetch distance.
  /// In cache: reads all of `data` at each distance, many times over.
  void sample(std::span<const std::byte> data);

  /// Median rate of the best distance so far. \pre sample() was called
  double bytes_per_second() const;

 private:
  static constexpr std::array<std::size_t, 5> prefetch_distances{0, 1024, 2048, 4096, 8192};

  int threads_;
  bool in_cache_;
  double (*clock_)();
  std::array<std::vector<double>, prefetch_distances.size()> rates_;
};

}  // namespace headwise::bench
