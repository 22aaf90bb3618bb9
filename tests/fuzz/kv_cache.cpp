// Operations on a KvCache against a plain model of it; refused ones leave it as it was.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "fuzz/bytes.hpp"
#include "headwise/kv_cache.hpp"
#include "support/cache_model.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

template <class T>
class Session {
 public:
  Session(const KvCacheShape& shape, Bytes& bytes)
      : shape_(shape), bytes_(bytes), random_(bytes.next()), cache_(shape), model_(shape) {}

  void play() {
    while (!bytes_.used_up()) {
      switch (bytes_.below(5)) {
        case 0: truncate(); break;
        case 1: reorder(); break;
        case 2: copy_and_move(); break;
        default: append(); break;
      }
      check(cache_);
    }
  }

 private:
  void check(const KvCache<T>& cache) const { require(model_.difference(cache).empty(), model_.difference(cache)); }

  /// Does something to the cache, which must refuse it unless `allowed`, and then to the model.
  template <class Change, class Same>
  void change(bool allowed, Change change_cache, Same change_model) {
    bool refused = false;
    try {
      change_cache();
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    require(refused != allowed, refused ? "refused what is allowed" : "did what is not allowed");
    if (allowed) change_model();
  }

  /// A number for each sequence.
  template <class Choose>
  Counts choose(Choose number) {
    Counts counts;
    for (std::size_t b = 0; b < static_cast<std::size_t>(shape_.batch); ++b) counts.push_back(number(b));
    return counts;
  }

  void append() {
    const std::int64_t tokens = bytes_.below(2 * shape_.capacity + 2);
    const Layout layout = bytes_.among(
        std::array{Layout::bhsd, Layout::bshd, Layout::row_gaps, Layout::feature_stride_2, Layout::negative_strides});
    const bool all = bytes_.yes();
    const Counts counts = choose([&](std::size_t) { return all ? tokens : bytes_.below(tokens + 2); });
    bool allowed = true;
    for (std::size_t b = 0; b < counts.size(); ++b) {
      const bool fits = shape_.ring || cache_.lengths()[b] + counts[b] <= shape_.capacity;
      allowed = allowed && counts[b] <= tokens && fits;
    }
    const auto tensor = [&](std::int64_t dim) {
      auto made = make_tensor<T, 4>({shape_.batch, shape_.num_kv_heads, tokens, dim}, layout, Placement::before_guard);
      fill_normal(random_, made.view);
      made.buffer->make_read_only();
      return made;
    };
    const auto key = tensor(shape_.head_dim), value = tensor(shape_.value_dim);
    const Counts given = all ? Counts() : counts;
    change(
        allowed, [&] { cache_.append(key.view, value.view, given); },
        [&] { model_.append(key.view, value.view, given); });
  }

  void truncate() {
    const Counts lengths =
        choose([&](std::size_t b) { return bytes_.below(cache_.lengths()[b] + 2) - bytes_.below(2); });
    bool allowed = true;
    for (std::size_t b = 0; b < lengths.size(); ++b) {
      const bool held = lengths[b] >= cache_.first_positions()[b] && lengths[b] <= cache_.lengths()[b];
      allowed = allowed && (lengths[b] == 0 || held);
    }
    change(allowed, [&] { cache_.truncate(lengths); }, [&] { model_.truncate(lengths); });
  }

  void reorder() {
    const Counts source = choose([&](std::size_t) { return bytes_.below(shape_.batch + 1) - bytes_.below(8) / 7; });
    const bool allowed =
        std::all_of(source.begin(), source.end(), [&](std::int64_t b) { return b >= 0 && b < shape_.batch; });
    change(allowed, [&] { cache_.reorder(source); }, [&] { model_.reorder(source); });
  }

  void copy_and_move() {
    KvCache<T> copy(cache_);
    check(copy);
    KvCache<T> moved(std::move(copy));
    check(moved);
    if (bytes_.yes()) {
      cache_ = moved;
    } else {
      cache_ = std::move(moved);
    }
  }

  KvCacheShape shape_;
  Bytes& bytes_;
  Random random_;
  KvCache<T> cache_;
  CacheModel<T> model_;
};

}  // namespace
}  // namespace headwise::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace headwise::test;
  Bytes bytes(data, size);
  const bool in_double = bytes.yes();
  const headwise::KvCacheShape shape{.batch = 1 + bytes.below(4),
                                     .num_kv_heads = 1 + bytes.below(3),
                                     .capacity = 1 + bytes.below(12),
                                     .head_dim = 1 + bytes.below(9),
                                     .value_dim = bytes.below(9),
                                     .ring = bytes.yes()};
  if (in_double) {
    Session<double>(shape, bytes).play();
  } else {
    Session<float>(shape, bytes).play();
  }
  return 0;
}
