#include "reliability/allocations.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace headwise::test {
namespace {

std::atomic<bool> watching = false;
std::atomic<long> made_count = 0, live_count = 0, failing_number = 0;

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (watching) {
    if (++made_count == failing_number) throw std::bad_alloc();
    ++live_count;
  }
  // aligned_alloc asks for whole multiples of the alignment.
  void* memory =
      std::aligned_alloc(alignment, (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void release(void* memory) {
  if (watching && memory != nullptr) --live_count;
  std::free(memory);
}

}  // namespace

WatchedAllocations::WatchedAllocations(long failing) {
  made_count = live_count = 0;
  failing_number = failing;
  watching = true;
}
WatchedAllocations::~WatchedAllocations() { watching = false; }
long WatchedAllocations::made() const { return made_count; }
long WatchedAllocations::leaked() const { return live_count; }

}  // namespace headwise::test

// The other forms of new and delete lead to these.
void* operator new(std::size_t bytes) { return headwise::test::allocate(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return headwise::test::allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { headwise::test::release(memory); }
void operator delete(void* memory, std::size_t) noexcept { headwise::test::release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { headwise::test::release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { headwise::test::release(memory); }
