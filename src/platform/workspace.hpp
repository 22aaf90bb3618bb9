// Scratch memory: one aligned block per call, carved into arrays.
#pragma once

#include <atomic>
#include <cassert>
#include <cstddef>
#include <memory>
#include <new>
#include <span>

namespace headwise::detail {

/// Alignment of a workspace and of every array in it: a cache line, and the largest vector.
constexpr std::size_t workspace_alignment = 64;

constexpr std::size_t round_to_alignment(std::size_t bytes) {
  return (bytes + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
}

/// Hands out consecutive aligned arrays. Without memory it only measures: lay out twice with the same code, first to
/// learn the size.
class Carver {
 public:
  explicit Carver(std::byte* memory = nullptr) : memory_(memory) {}

  template <class T>
  T* take(std::size_t count) {
    T* array = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += round_to_alignment(count * sizeof(T));
    return array;
  }

  std::size_t used() const { return used_; }

 private:
  std::byte* memory_;
  std::size_t used_ = 0;
};

/// In front of the caller's workspace, builds with assertions mark which call uses it.
#ifdef NDEBUG
constexpr std::size_t workspace_mark_bytes = 0;
#else
constexpr std::size_t workspace_mark_bytes = workspace_alignment;
#endif

/// The caller's memory where it gave some, else an allocation of the call's own. Two calls at once must not be given
/// the same: builds with assertions end the program then, as a rule when the first of them is done.
class Workspace {
 public:
  /// \param given empty, or at least `bytes` + workspace_mark_bytes
  /// \throws std::bad_alloc
  Workspace(std::span<std::byte> given, std::size_t bytes) : data_(given.data()) {
    if (!given.empty()) take();
    if (!given.empty() || bytes == 0) return;
    owned_.reset(static_cast<std::byte*>(::operator new(bytes, std::align_val_t{workspace_alignment})));
    data_ = owned_.get();
  }

#ifndef NDEBUG
  ~Workspace() { assert((mark_ == nullptr || *mark_ == this) && "two calls at once used the same workspace"); }
#else
  ~Workspace() = default;
#endif
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  std::byte* data() const { return data_; }

 private:
  /// Marks the caller's memory as this call's.
  void take() {
#ifndef NDEBUG
    mark_ = new (data_) std::atomic<const Workspace*>(this);
    data_ += workspace_mark_bytes;
#endif
  }

  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, std::align_val_t{workspace_alignment}); }
  };
  std::unique_ptr<std::byte, Free> owned_;
  std::byte* data_;
#ifndef NDEBUG
  std::atomic<const Workspace*>* mark_ = nullptr;
#endif
};

}  // namespace headwise::detail
