#include "headwise/kv_cache.hpp"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <variant>
#include <vector>

#include "attention_call.hpp"
#include "bindings.hpp"
#include "rotary.hpp"

namespace headwise::python {
namespace {

/// Who uses a cache while the GIL is released: many readers or one writer. Changed with the GIL held only.
class Users {
 public:
  enum class Kind { reader, writer };

  /// \throws nb::value_error if another thread's use forbids this one
  void expect_free_for(Kind kind) const {
    if (count_ == 0 || (kind == Kind::reader && count_ > 0)) return;
    refuse_value("cache", count_ < 0 ? "being changed by another thread" : "being read by another thread",
                 "a cache that no other thread uses");
  }

  class Use {
   public:
    Use(Users& users, Kind kind) : users_(users), step_(kind == Kind::reader ? 1 : -1) {
      users.expect_free_for(kind);
      users_.count_ += step_;
    }
    ~Use() { users_.count_ -= step_; }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Users& users_;
    int step_;
  };

 private:
  int count_ = 0;  // readers, or −1
};

/// KvCache of the type that `dtype` names.
class Cache {
 public:
  Cache(const KvCacheShape& shape, nb::handle dtype)
      : cache_(element_type_named(dtype) == ElementType::float32 ? Variant(KvCache<float>(shape))
                                                                 : Variant(KvCache<double>(shape))) {}

  void append(nb::handle key, nb::handle value, nb::handle counts, nb::handle rotary, const nb::kwargs& keywords) {
    const Users::Use use(users_, Users::Kind::writer);
    const Array keys(key, "key"), values(value, "value");
    const bool rotate = as_bool(rotary, "rotary");
    std::optional<Numbers<std::int64_t>> given_counts;
    if (!counts.is_none()) given_counts.emplace(counts, "counts").expect_count(keys.extent(0), "the batch of key");
    std::visit(
        [&]<class T>(KvCache<T>& cache) {
          const TensorView<const T, 4> key_view = tokens<T>(keys), value_view = tokens<T>(values);
          const RotaryArguments<T> arguments("KvCache.append", keywords);
          if (!rotate && !arguments.are_defaults()) refuse_value("rotary", "False", "True with options of the rotation");
          const nb::gil_scoped_release without_lock;
          cache.append(key_view, value_view, given_counts ? given_counts->span() : std::span<const std::int64_t>(),
                       rotate ? std::optional(arguments.options()) : std::nullopt, arguments.table());
        },
        cache_);
  }

  void truncate(nb::handle lengths) {
    const Users::Use use(users_, Users::Kind::writer);
    const Numbers<std::int64_t> given(lengths, "lengths");
    std::visit([&](auto& cache) { cache.truncate(given.span()); }, cache_);
  }

  void reorder(nb::handle source) {
    const Users::Use use(users_, Users::Kind::writer);
    const Numbers<std::int64_t> given(source, "source");
    const nb::gil_scoped_release without_lock;
    std::visit([&](auto& cache) { cache.reorder(given.span()); }, cache_);
  }

  nb::object attention(nb::handle query, const nb::kwargs& keywords) {
    const Keywords read = read_keywords("KvCache.attention", keywords, plan_keywords | run_keywords);
    const Array queries(query, "query");
    const Users::Use use(users_, Users::Kind::reader);
    return std::visit(
        [&]<class T>(const KvCache<T>& cache) {
          queries.expect_type(element_type_of<T>(), " (the cache's dtype)");
          AttentionCall<T> call(queries, read, read.return_scores.is_valid());
          const auto lengths = cache.lengths();
          call.set_keys(cache.runs(), lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end()));
          return call.run(options_of(read));
        },
        cache_);
  }

  std::vector<std::int64_t> lengths() const {
    users_.expect_free_for(Users::Kind::reader);
    return std::visit([](const auto& cache) { return copy(cache.lengths()); }, cache_);
  }
  std::vector<std::int64_t> first_positions() const {
    users_.expect_free_for(Users::Kind::reader);
    return std::visit([](const auto& cache) { return copy(cache.first_positions()); }, cache_);
  }

  /// All slots as an array that keeps `self` alive.
  template <bool is_key>
  nb::object slots(nb::handle self) const {
    return std::visit(
        [&]<class T>(const KvCache<T>& cache) {
          const TensorView<const T, 4> view = is_key ? cache.keys() : cache.values();
          std::array<std::size_t, 4> extents{};
          std::copy(view.extents.begin(), view.extents.end(), extents.begin());
          return nb::cast(nb::ndarray<nb::numpy, const T>(view.data, 4, extents.data(), self, view.strides.data()));
        },
        cache_);
  }

 private:
  using Variant = std::variant<KvCache<float>, KvCache<double>>;

  static std::vector<std::int64_t> copy(std::span<const std::int64_t> values) { return {values.begin(), values.end()}; }

  template <class T>
  static TensorView<const T, 4> tokens(const Array& array) {
    array.expect_type(element_type_of<T>(), " (the cache's dtype)");
    array.expect_rank(4, "(batch, kv_heads, tokens, dim)");
    return array.view<const T, 4>();
  }

  Variant cache_;
  Users users_;
};

void make_cache(Cache* cache, nb::handle batch, nb::handle num_kv_heads, nb::handle capacity, nb::handle head_dim,
                nb::handle value_dim, nb::handle ring, nb::handle dtype) {
  KvCacheShape shape{.batch = as_integer(batch, "batch"),
                     .num_kv_heads = as_integer(num_kv_heads, "num_kv_heads"),
                     .capacity = as_integer(capacity, "capacity"),
                     .head_dim = as_integer(head_dim, "head_dim")};
  shape.value_dim = value_dim.is_none() ? shape.head_dim : as_integer(value_dim, "value_dim");
  shape.ring = as_bool(ring, "ring");
  new (cache) Cache(shape, dtype);
}

/// Integers as an array of their own.
nb::object integer_array(const std::vector<std::int64_t>& values) {
  nb::list list;
  for (const std::int64_t value : values) list.append(value);
  return nb::module_::import_("numpy").attr("array")(list, "int64");
}

}  // namespace

void bind_kv_cache(nb::module_& module) {
  using namespace nb::literals;
  nb::class_<Cache>(module, "KvCache",
                    R"(Keys and values that grow token by token and that attention reads in place.

Every sequence has its own length, which is also the position of its next token. The token at position p lies in slot
p, in a ring in slot p % capacity: a ring drops its oldest tokens.

Args:
    batch: sequences.
    num_kv_heads: key/value heads.
    capacity: tokens kept per sequence.
    head_dim: features of a key.
    value_dim: features of a value, default head_dim.
    ring: a sequence may grow beyond capacity (sliding window): a window of `left` keys needs left + n slots, where n is
        the most tokens appended at once.
    dtype: float32 or float64.

Functions that raise leave the cache as it was. A cache may be read by many threads; changing it meanwhile raises.
)")
      .def("__init__", &make_cache, nb::kw_only(), "batch"_a, "num_kv_heads"_a, "capacity"_a, "head_dim"_a,
           "value_dim"_a = nb::none(), "ring"_a = false, "dtype"_a = "float32",
           nb::sig("def __init__(self, *, batch, num_kv_heads, capacity, head_dim, value_dim=None, ring=False, "
                   "dtype='float32')"))
      .def("append", &Cache::append, "key"_a, "value"_a, "counts"_a = nb::none(), nb::kw_only(), "rotary"_a = false,
           "keywords"_a,
           nb::sig("def append(self, key, value, counts=None, *, rotary=False, layout='half_split', rotary_dim=0, "
                   "base=10000.0, cosine=None, sine=None, num_threads=0)"),
           R"(Appends the leading counts[b] tokens of key and value to sequence b.

Args:
    key: (batch, num_kv_heads, tokens, head_dim), any strides.
    value: (batch, num_kv_heads, tokens, value_dim), any strides.
    counts: (batch,) int64; default: all tokens to every sequence.
    rotary: rotate the keys in the cache by their positions, with the options of rotary_embedding().
)")
      .def("truncate", &Cache::truncate, "lengths"_a, nb::sig("def truncate(self, lengths)"),
           "Drops the tokens from position lengths[b] on; lengths is (batch,) int64.")
      .def("reorder", &Cache::reorder, "source"_a, nb::sig("def reorder(self, source)"),
           "Sequence b becomes a copy of the old sequence source[b] (beam search); source is (batch,) int64.")
      .def("attention", &Cache::attention, "query"_a, "keywords"_a,
           nb::sig("def attention(self, query, *, mask=None, bias=None, key_padding_mask=None, causal=False, "
                   "window=None, scale=None, softcap=0.0, query_position='top_left', query_offsets=None, "
                   "key_lengths=None, alibi_slopes=None, sinks=None, return_logsumexp=False, return_weights=False, "
                   "return_scores=None, out=None, num_threads=0)"),
           R"(attention() of query (batch, heads, query_length, head_dim) over the tokens held.

Scores-shaped arrays have the longest sequence's length. With query_position="bottom_right" the last query stands at the
last token of its sequence. key_lengths is refused: the cache tells.)")
      .def_prop_ro(
          "lengths", [](const Cache& cache) { return integer_array(cache.lengths()); },
          nb::for_getter(nb::sig("def lengths(self)")), "(batch,) int64: length of each sequence.")
      .def_prop_ro(
          "first_positions", [](const Cache& cache) { return integer_array(cache.first_positions()); },
          nb::for_getter(nb::sig("def first_positions(self)")),
          "(batch,) int64: position of the oldest token that each sequence holds; 0 until a ring drops tokens.")
      .def_prop_ro(
          "keys", [](nb::handle self) { return nb::cast<const Cache&>(self).slots<true>(self); },
          nb::for_getter(nb::sig("def keys(self)")),
          "All slots (batch, num_kv_heads, capacity, head_dim), a read-only view.")
      .def_prop_ro(
          "values", [](nb::handle self) { return nb::cast<const Cache&>(self).slots<false>(self); },
          nb::for_getter(nb::sig("def values(self)")),
          "All slots (batch, num_kv_heads, capacity, value_dim), a read-only view.");
}

}  // namespace headwise::python
