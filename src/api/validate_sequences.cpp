#include "api/validate_sequences.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "api/error.hpp"
#include "api/validate_views.hpp"

namespace headwise::detail {
namespace {

using Values = std::span<const std::int64_t>;

std::int64_t size_of(Values values) { return static_cast<std::int64_t>(values.size()); }

/// \param condition what else is fine, or why it is expected
void expect_size(const ArgumentName& name, Values values, const Axis& expected, std::string_view condition = "") {
  if (values.size() != static_cast<std::size_t>(expected.extent)) {
    refuse(name.text(".size()"), size_of(values), expected.text().append(condition));
  }
  validate_memory(name, element_view(values), true);
}

void expect_none(const ArgumentName& name, std::size_t size, std::string_view because) {
  if (size > 0) refuse(name.text(".size()"), static_cast<std::int64_t>(size), std::string("none ").append(because));
}

void validate_key_lengths(Values key_lengths, std::int64_t batch, std::int64_t key_length) {
  if (key_lengths.empty()) return;
  constexpr ArgumentName name("key_lengths");
  expect_size(name, key_lengths, {"batch", batch}, " or none");
  for (std::size_t b = 0; b < key_lengths.size(); ++b) {
    if (key_lengths[b] >= 0 && key_lengths[b] <= key_length) continue;
    refuse(name.element_text(b), key_lengths[b], "0 to " + std::to_string(key_length) + " (key length)");
  }
}

void validate_query_offsets(Values query_offsets, std::int64_t batch, QueryPosition position) {
  constexpr ArgumentName name("query_offsets");
  if (position != QueryPosition::given) {
    return expect_none(name, query_offsets.size(), "unless options.query_position is given");
  }
  expect_size(name, query_offsets, {"batch", batch}, ": options.query_position is given");
  // Lengths are at most 2^60: sums and differences of positions and lengths stay within 64 bits.
  constexpr std::int64_t limit = std::int64_t{1} << 62;
  for (std::size_t b = 0; b < query_offsets.size(); ++b) {
    if (query_offsets[b] >= -limit && query_offsets[b] <= limit) continue;
    refuse(name.element_text(b), query_offsets[b], "-2^62 to 2^62");
  }
}

/// 0, then the end of each sequence.
/// \param longest what bounds a sequence \param tokens what the last one ends with
void validate_starts(const ArgumentName& name, Values starts, std::int64_t batch, const Axis& longest,
                     const Axis& tokens) {
  expect_size(name, starts, {"batch + 1", batch + 1}, starts.empty() ? " in a ragged batch" : " or none");
  if (starts[0] != 0) refuse(name.element_text(0), starts[0], "0");
  for (std::size_t b = 0; b + 1 < starts.size(); ++b) {
    const std::int64_t begin = starts[b], end = starts[b + 1];
    if (end < begin) {
      refuse(name.element_text(b + 1), end, "at least " + std::to_string(begin) + ", as " + name.element_text(b));
    }
    if (end - begin > longest.extent) {
      refuse("length of sequence " + std::to_string(b) + " in " + name.text(), end - begin,
             "at most " + longest.text());
    }
  }
  if (starts.back() != tokens.extent) refuse(name.element_text(starts.size() - 1), starts.back(), tokens.text());
}

/// The slots and positions of one batch entry; runs that hold no key may say anything else.
template <class KV>
void validate_runs(std::span<const KeyRun<KV>> runs, std::size_t b, std::int64_t key_length) {
  std::int64_t end = 0;  // of the runs before
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const std::int64_t slots = runs[i].key.extent(2), slot = runs[i].first_slot[b];
    const std::int64_t length = runs[i].length[b], position = runs[i].first_position[b];
    if (length == 0) continue;
    if (slot < 0 || slot > slots) {
      refuse(ArgumentName(i, "first_slot").element_text(b), slot, "0 to " + std::to_string(slots) + " (slots)");
    }
    if (length < 0 || length > slots - slot) {
      refuse(ArgumentName(i, "length").element_text(b), length,
             "0 to " + std::to_string(slots - slot) + " (slots from first_slot)");
    }
    if (position < end) {
      refuse(ArgumentName(i, "first_position").element_text(b), position,
             "at least " + std::to_string(end) + (end == 0 ? "" : " (end of the run before)"));
    }
    if (position > key_length - length) {
      refuse(ArgumentName(i, "first_position").element_text(b), position,
             "at most " + std::to_string(key_length - length) + " (shape.key_length - length)");
    }
    end = position + length;
  }
}

template <class KV>
void validate_runs(std::span<const KeyRun<KV>> runs, const AttentionShape& shape) {
  for (std::size_t i = 0; i < runs.size(); ++i) {
    expect_size({i, "first_slot"}, runs[i].first_slot, {"batch", shape.batch});
    expect_size({i, "first_position"}, runs[i].first_position, {"batch", shape.batch});
    expect_size({i, "length"}, runs[i].length, {"batch", shape.batch});
  }
  for (std::size_t b = 0; b < static_cast<std::size_t>(shape.batch); ++b) validate_runs(runs, b, shape.key_length);
}

}  // namespace

template <class T, class KV>
void validate_sequences(const AttentionShape& shape, const AttentionOptions& options,
                        const AttentionArguments<T, KV>& arguments) {
  const AttentionArguments<T, KV>& a = arguments;
  validate_query_offsets(a.query_offsets, shape.batch, options.query_position);
  if (is_ragged(a)) {
    expect_none("key_lengths", a.key_lengths.size(), "in a ragged batch");
    validate_starts("query_starts", a.query_starts, shape.batch, {"shape.query_length", shape.query_length},
                    {"tokens of query", a.query.extent(2)});
    validate_starts("key_starts", a.key_starts, shape.batch, {"shape.key_length", shape.key_length},
                    {"tokens of key", a.key.extent(2)});
  } else if (!a.key_runs.empty()) {
    expect_none("key_lengths", a.key_lengths.size(), "with key_runs");
    validate_runs(a.key_runs, shape);
  } else {
    validate_key_lengths(a.key_lengths, shape.batch, a.key.extent(2));
  }
}

template void validate_sequences(const AttentionShape&, const AttentionOptions&, const AttentionArguments<float>&);
template void validate_sequences(const AttentionShape&, const AttentionOptions&, const AttentionArguments<double>&);

}  // namespace headwise::detail
