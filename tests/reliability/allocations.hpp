/// \file
/// Every operator new of this program can be counted and made to fail.
#pragma once

namespace headwise::test {

/// While it lives, allocations are counted, and the one with the given number fails. One may live at a time.
class WatchedAllocations {
 public:
  /// \param failing number of the allocation that throws std::bad_alloc, from 1; 0 = none does
  explicit WatchedAllocations(long failing = 0);
  ~WatchedAllocations();
  WatchedAllocations(const WatchedAllocations&) = delete;
  WatchedAllocations& operator=(const WatchedAllocations&) = delete;

  long made() const;    ///< allocations tried so far, of all threads
  long leaked() const;  ///< those made less those released
};

}  // namespace headwise::test
