// Keys of one block: which calls take the short way, and that it gives the bits of the long one.
#include "drivers/short_keys.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/dispatch.hpp"
#include "support/environment.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

namespace headwise::test {
namespace {

/// Arguments of a call and the memory they lie in.
template <class T>
struct Call {
  Call(const AttentionShape& extents, Layout layout) : shape(extents) {
    Random random(71);
    const auto tensor = [&](std::int64_t heads, std::int64_t rows, std::int64_t features) {
      const auto result = make_tensor<T, 4>({shape.batch, heads, rows, features}, layout, Placement::before_guard);
      visit_elements(result.view, [&](T& element) { element = static_cast<T>(random.normal()); });
      return result;
    };
    query = tensor(shape.num_heads, shape.query_length, shape.head_dim);
    key = tensor(shape.num_kv_heads, shape.key_length, shape.head_dim);
    value = tensor(shape.num_kv_heads, shape.key_length, shape.value_dim);
    output = tensor(shape.num_heads, shape.query_length, shape.value_dim);
    logsumexp.resize(static_cast<std::size_t>(shape.batch * shape.num_heads * shape.query_length));
    arguments = {.query = query.view, .key = key.view, .value = value.view, .output = output.view};
  }

  bool has_short_keys() const {
    const detail::AttentionCall<T, T> call{.shape = shape,
                                           .options = options,
                                           .arguments = arguments,
                                           .kernels = *detail::kernel_table<T, T>(detail::active_instruction_set()),
                                           .scale = 1,
                                           .num_threads = 1};
    return detail::has_short_keys(call, detail::tile_needs(call));
  }

  /// The output's bits; the logsumexp is asked for where the way is to be the long one.
  std::vector<T> run(bool long_way, int num_threads = 1) {
    options.num_threads = num_threads;
    arguments.logsumexp.reset();
    if (long_way) {
      arguments.logsumexp = TensorView<T, 3>::contiguous(logsumexp.data(), {shape.batch, shape.num_heads, shape.query_length});
    }
    CHECK(has_short_keys() == !long_way);
    output.buffer->poison();
    attention<T>(arguments, options);
    CHECK(output.gaps_untouched());
    return dense(output.view);
  }

  AttentionShape shape;
  AttentionOptions options;
  AttentionArguments<T> arguments;
  Tensor<T, 4> query, key, value, output;
  std::vector<T> logsumexp;
};

AttentionShape shape_of(std::int64_t queries, std::int64_t keys, std::int64_t head_dim, std::int64_t value_dim) {
  return {.batch = 2, .num_heads = 3, .num_kv_heads = 3, .query_length = queries, .key_length = keys,
          .head_dim = head_dim, .value_dim = value_dim};
}

template <class T>
const detail::KernelTable<T, T>& kernels() {
  return *detail::kernel_table<T, T>(detail::active_instruction_set());
}

}  // namespace

TEST_CASE_TEMPLATE("short keys: the bits of tiles and blocks, in every layout that is read in place", T, float, double) {
  const int lanes = kernels<T>().lanes, most_rows = kernels<T>().tile_rows, most_keys = kernels<T>().max_block_keys;
  const std::vector<std::int64_t> dims = reduced_grid() ? std::vector<std::int64_t>{7, 64} : std::vector<std::int64_t>{1, 7, 32, 50, 64, 80};
  for (const int queries : {lanes / 2 + 1, lanes, lanes + 1, 2 * lanes, most_rows - 1, most_rows, most_rows + 1, 2 * most_rows + lanes + 3}) {
    for (const int keys : {1, 2, 15, 16, 50, most_keys}) {
      for (const std::int64_t head_dim : dims) {
        for (const std::int64_t value_dim : {lanes, 3 * lanes, 6 * lanes}) {
          for (const Layout layout : {Layout::bhsd, Layout::bshd, Layout::row_gaps, Layout::off_by_one}) {
            Call<T> call(shape_of(queries, keys, head_dim, value_dim), layout);
            CAPTURE(queries);
            CAPTURE(keys);
            CAPTURE(head_dim);
            CAPTURE(value_dim);
            CAPTURE(name_of(layout));
            CHECK(same_bits(call.run(false), call.run(true)));
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("short keys: the bits of tiles and blocks for numbers that are not finite, and for threads", T, float, double) {
  constexpr T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const int queries = kernels<T>().tile_rows - 1;
  for (const T bad : {nan, infinity, -infinity, T(-1e30), T(1e30), T(0)}) {
    for (int tensor = 0; tensor < 3; ++tensor) {
      Call<T> call(shape_of(queries, 37, 64, 64), Layout::bhsd);
      const TensorView<T, 4>& view = tensor == 0 ? call.query.view : tensor == 1 ? call.key.view : call.value.view;
      view(1, 2, 2, 3) = view(0, 1, 0, 0) = bad;
      CAPTURE(bad);
      CAPTURE(tensor);
      CHECK(same_bits(call.run(false), call.run(true)));
    }
  }
  Call<T> call(shape_of(queries, 150, 128, 128), Layout::bhsd);
  const std::vector<T> alone = call.run(false);
  for (const int threads : {2, 3}) CHECK(same_bits(call.run(false, threads), alone));
}

TEST_CASE_TEMPLATE("short keys: the bits of tiles and blocks where positions limit the keys", T, float, double) {
  const int lanes = kernels<T>().lanes, most_rows = kernels<T>().tile_rows, most_keys = kernels<T>().max_block_keys;
  constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max(), farthest = std::int64_t{1} << 62;
  struct Positions {
    bool causal;
    std::int64_t right;
    QueryPosition position;
    std::array<std::int64_t, 2> offsets;
  };
  const std::vector<Positions> positions{{true, -1, QueryPosition::top_left, {}},
                                         {true, -1, QueryPosition::bottom_right, {}},
                                         {false, 0, QueryPosition::top_left, {}},
                                         {false, 9, QueryPosition::bottom_right, {}},
                                         {false, largest, QueryPosition::top_left, {}},
                                         {true, -1, QueryPosition::given, {3, -5}},
                                         {true, -1, QueryPosition::given, {-most_rows, farthest}},
                                         {false, 2, QueryPosition::given, {-farthest, 1000}}};
  const int several_tiles = 2 * most_rows + lanes + 3;
  std::vector<int> lengths{lanes, several_tiles};
  if (!reduced_grid()) lengths.insert(lengths.end(), {lanes / 2 + 1, most_rows - 1, most_rows});
  for (const int queries : lengths) {
    for (const int keys : {1, 16, 50, most_keys}) {
      for (const Positions& own : positions) {
        for (const std::int64_t value_dim : {lanes, 5 * lanes}) {
          for (const T bad : {T(1), std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
            Call<T> call(shape_of(queries, keys, 32, value_dim), Layout::bhsd);
            call.options.causal = own.causal;
            call.options.window.right = own.right;
            call.options.query_position = own.position;
            if (own.position == QueryPosition::given) call.arguments.query_offsets = own.offsets;
            for (int b = 0; b < 2; ++b) call.value.view(b, 1, keys - 1, 3) = call.key.view(b, 2, keys / 2, 5) = bad;
            CAPTURE(queries);
            CAPTURE(keys);
            CAPTURE(own.right);
            CAPTURE(own.offsets[0]);
            CAPTURE(value_dim);
            CAPTURE(bad);
            CHECK(same_bits(call.run(false), call.run(true)));
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("short keys: outputs that the caches do not hold", T, float, double) {
  AttentionShape shape = shape_of(kernels<T>().tile_rows + 5, 4, 8, 64);
  const double head_bytes = static_cast<double>(shape.batch * shape.query_length * shape.value_dim) * sizeof(T);
  shape.num_heads = shape.num_kv_heads = static_cast<std::int64_t>(detail::second_level_cache_bytes() / head_bytes) + 1;
  Call<T> call(shape, Layout::bhsd);
  CHECK(same_bits(call.run(false), call.run(true)));
}

TEST_CASE_TEMPLATE("short keys: any option, further output or more keys take the long way", T, float, double) {
  const int lanes = kernels<T>().lanes;
  const AttentionShape shape = shape_of(lanes, 20, 64, 64);
  using Change = void (*)(Call<T>&);
  static const std::array<std::uint8_t, 1> byte{};
  static const std::array<T, 8> numbers{};
  static std::array<T, 8> results{};
  static const std::array<std::int64_t, 3> lengths{};
  static const std::array<KeyRun<T>, 1> runs{};
  const auto plain = Call<T>(shape, Layout::bhsd);
  CHECK(plain.has_short_keys());
  for (const Change change : std::initializer_list<Change>{
           [](Call<T>& call) { call.options.window.left = 3; },
           [](Call<T>& call) { call.options.softcap = 3; },
           [](Call<T>& call) { call.arguments.mask = {byte.data(), {1, 1, 1, 1}, {}}; },
           [](Call<T>& call) { call.arguments.key_padding_mask = {byte.data(), {1, 1}, {}}; },
           [](Call<T>& call) { call.arguments.bias = {numbers.data(), {1, 1, 1, 1}, {}}; },
           [](Call<T>& call) { call.arguments.alibi_slopes = std::span(numbers).first(3); },
           [](Call<T>& call) { call.arguments.sinks = std::span(numbers).first(3); },
           [](Call<T>& call) { call.arguments.key_lengths = std::span(lengths).first(2); },
           [](Call<T>& call) { call.arguments.query_starts = call.arguments.key_starts = lengths; },
           [](Call<T>& call) { call.arguments.key_runs = runs; },
           [](Call<T>& call) { call.arguments.logsumexp = {results.data(), {1, 1, 1}, {}}; },
           [](Call<T>& call) { call.arguments.weights = {results.data(), {1, 1, 1, 1}, {}}; },
           [](Call<T>& call) { call.arguments.mean_weights = {results.data(), {1, 1, 1}, {}}; },
           [](Call<T>& call) { call.arguments.scores = {results.data(), {1, 1, 1, 1}, {}}; }}) {
    Call<T> changed(shape, Layout::bhsd);
    change(changed);
    CHECK(!changed.has_short_keys());
  }
  const auto long_way = [&](Layout layout, auto change) {
    AttentionShape other = shape;
    change(other);
    return !Call<T>(other, layout).has_short_keys();
  };
  CHECK(long_way(Layout::bhsd, [](AttentionShape& other) { other.key_length = kernels<T>().max_block_keys + 1; }));
  CHECK(long_way(Layout::bhsd, [](AttentionShape& other) { other.key_length = 0; }));
  CHECK(long_way(Layout::bhsd, [](AttentionShape& other) { other.num_kv_heads = 1; }));
  CHECK(long_way(Layout::bhsd, [](AttentionShape& other) { other.value_dim = 65; }));
  CHECK(long_way(Layout::bhsd, [](AttentionShape& other) { other.value_dim = 0; }));
  CHECK(long_way(Layout::far_rows, [](AttentionShape&) {}));
  CHECK(long_way(Layout::feature_stride_2, [](AttentionShape&) {}));
}

}  // namespace headwise::test
