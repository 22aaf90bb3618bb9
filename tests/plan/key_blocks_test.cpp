// Which keys rows attend, where blocks end, and how blocks are cut into spans: tables, and brute force over random
// ranges.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "plan/key_blocks.hpp"
#include "support/environment.hpp"

namespace headwise::test {
namespace {

using detail::KeyRange;
using detail::KeySpan;

constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();

TEST_CASE("key_blocks: attended keys") {
  struct Case {
    std::int64_t position;
    bool causal;
    Window window;
    std::int64_t key_length;
    KeyRange expected;
  };
  for (const Case& c : {Case{0, false, {}, 10, {0, 10}},
                        {-5, false, {}, 10, {0, 10}},
                        {lowest, false, {}, 10, {0, 10}},
                        {largest, false, {}, 10, {0, 10}},
                        {3, false, {}, 0, {0, 0}},
                        {0, true, {}, 10, {0, 1}},
                        {8, true, {}, 10, {0, 9}},
                        {9, true, {}, 10, {0, 10}},
                        {10, true, {}, 10, {0, 10}},
                        {largest, true, {}, 10, {0, 10}},
                        {largest - 1, true, {}, largest, {0, largest}},
                        {largest, true, {}, largest, {0, largest}},
                        {-1, true, {}, 10, {0, 0}},
                        {lowest, true, {}, 10, {0, 0}},
                        {lowest, true, {}, largest, {0, 0}},
                        {0, true, {}, 0, {0, 0}},
                        {-1, true, {}, 0, {0, 0}},
                        {5, false, {2, 1}, 10, {3, 7}},
                        {5, false, {0, 0}, 10, {5, 6}},
                        {5, false, {-1, 1}, 10, {0, 7}},
                        {5, false, {2, -1}, 10, {3, 10}},
                        {5, true, {2, 1}, 10, {3, 6}},
                        {5, false, {largest, largest}, 10, {0, 10}},
                        {-5, false, {largest, largest}, 10, {0, 10}},
                        {largest, false, {1, largest}, 10, {10, 10}},
                        {largest - 3, false, {3, 3}, largest, {largest - 6, largest}},
                        {lowest, false, {largest, 5}, 10, {0, 0}},
                        {lowest, false, {5, 5}, 10, {0, 0}}}) {
    CAPTURE(c.position);
    CAPTURE(c.causal);
    CAPTURE(c.window.left);
    CAPTURE(c.window.right);
    CAPTURE(c.key_length);
    CHECK(detail::attended_keys(c.position, c.causal, c.window, c.key_length) == c.expected);
  }
}

TEST_CASE("key_blocks: attended keys agree with the definition and do not decrease") {
  for (int choice = 0; choice < 2 * 5 * 5 * 6; ++choice) {
    const bool causal = choice % 2 == 0;
    const Window window{choice / 2 % 5 - 1, choice / 10 % 5 - 1};
    const std::int64_t key_length = choice / 50;
    KeyRange before{0, 0};
    for (std::int64_t position = -8; position < 13; ++position) {
      const KeyRange range = detail::attended_keys(position, causal, window, key_length);
      for (std::int64_t key = 0; key < key_length; ++key) {
        const bool attended = (!causal || key <= position) && (window.left < 0 || key >= position - window.left) &&
                              (window.right < 0 || key <= position + window.right);
        REQUIRE((key >= range.begin && key < range.end) == attended);
      }
      REQUIRE(range.begin >= before.begin);
      REQUIRE(range.end >= before.end);
      REQUIRE(range.end <= key_length);
      before = range;
    }
  }
}

TEST_CASE("key_blocks: a range is empty where it does not end after it begins") {
  CHECK(KeyRange{0, 0}.empty());
  CHECK(KeyRange{5, 3}.empty());
  CHECK(!KeyRange{3, 5}.empty());
}

TEST_CASE("key_blocks: ends of blocks") {
  struct Case {
    std::int64_t begin, end, expected;
  };
  for (const Case& c : {Case{0, 1, 1},
                        {0, 96, 96},
                        {0, 97, 97},
                        {0, 160, 160},
                        {0, 161, 96},
                        {0, 1000, 96},
                        {96, 256, 256},
                        {96, 257, 192},
                        {1, 161, 161},
                        {1, 162, 96},
                        {32, 1000, 96},
                        {33, 1000, 192},
                        {95, 1000, 192},
                        {95, 257, 192},
                        {95, 256, 96},
                        {97, 1000, 192},
                        {960, 1000, 1000},
                        {largest - 160, largest, largest},
                        {largest - 161, largest, (largest - 161) / 96 * 96 + 96},
                        {largest / 96 * 96 - 1, largest, largest},
                        {0, largest, 96}}) {
    CAPTURE(c.begin);
    CAPTURE(c.end);
    CHECK(detail::block_end(c.begin, c.end, 96, 160) == c.expected);
  }
}

TEST_CASE("key_blocks: blocks cover all keys, none too large or needlessly short, and end at multiples") {
  for (std::int64_t begin = 0; begin < 200; begin += 7) {
    for (std::int64_t end = begin + 1; end < begin + 700; ++end) {
      int blocks = 0;
      for (std::int64_t key = begin; key < end; ++blocks) {
        const std::int64_t next = detail::block_end(key, end, 96, 160);
        REQUIRE(next > key);
        REQUIRE(next <= end);
        REQUIRE(next - key <= 160);
        REQUIRE((next == end || next % 96 == 0));
        // A first block shorter than the rest that one block takes stands before one that takes all the others.
        if (blocks == 0 && next != end && next - key < 160 - 96) REQUIRE(end - next <= 160);
        if (next == end && blocks > 0) REQUIRE(next - key > 160 - 96);
        key = next;
      }
    }
  }
}

/// Ranges of rows that do not decrease, within [0, most).
std::vector<KeyRange> random_ranges(std::mt19937_64& engine, int rows, std::int64_t most, bool from_first_key) {
  const auto below = [&](std::int64_t end) {
    return static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(end));
  };
  std::vector<std::int64_t> begins, ends;
  const std::int64_t low = below(most), span = 1 + below(most);
  for (int r = 0; r < rows; ++r) {
    begins.push_back(from_first_key ? 0 : below(most));
    ends.push_back(std::min(most, low + below(span + 1)));
  }
  std::sort(begins.begin(), begins.end());
  std::sort(ends.begin(), ends.end());
  std::vector<KeyRange> ranges;
  for (std::size_t r = 0; r < begins.size(); ++r) ranges.push_back({begins[r], ends[r]});
  return ranges;
}

/// Spans of a block of keys, as drivers ask for them.
std::vector<KeySpan> spans_of(const std::vector<KeyRange>& range, int lanes, KeyRange block) {
  std::vector<int> first, last;
  for (const KeyRange& row : range) {
    first.push_back(static_cast<int>(std::clamp(row.begin, block.begin, block.end) - block.begin));
    last.push_back(static_cast<int>(std::clamp(row.end, block.begin, block.end) - block.begin));
  }
  const int keys = static_cast<int>(block.end - block.begin), most = detail::max_spans(keys, lanes);
  std::vector<KeySpan> spans(static_cast<std::size_t>(most) + 8, KeySpan{-1, -1, -1, -1});
  const int count = detail::make_spans({first.data(), last.data(), static_cast<int>(range.size())}, lanes, keys,
                                       spans.data());
  REQUIRE(count >= 1);
  REQUIRE(count <= most);
  REQUIRE(spans[static_cast<std::size_t>(count)].keys == -1);
  spans.resize(static_cast<std::size_t>(count));
  return spans;
}

/// What must hold for the spans of a block, whatever the ranges.
void check_spans(const std::vector<KeyRange>& range, int lanes, KeyRange block) {
  const int rows = static_cast<int>(range.size()), vectors = (rows + lanes - 1) / lanes;
  const int keys = static_cast<int>(block.end - block.begin);
  int next_key = 0;
  for (const KeySpan& span : spans_of(range, lanes, block)) {
    REQUIRE(span.first_key == next_key);  // in order, every key once
    REQUIRE(span.keys > 0);
    REQUIRE(span.first_vector >= 0);
    REQUIRE(span.vectors >= 1);
    REQUIRE(span.first_vector + span.vectors <= vectors);
    next_key += span.keys;
    REQUIRE(span.begin_vectors >= 0);
    REQUIRE(span.begin_vectors <= span.vectors);
    REQUIRE(span.end_vectors >= 0);
    REQUIRE(span.end_vectors <= span.vectors);
    bool complete = true, attended_outside = false;
    for (int r = 0; r < rows; ++r) {
      const bool inside = r / lanes >= span.first_vector && r / lanes < span.first_vector + span.vectors;
      const std::int64_t first = block.begin + span.first_key, last = first + span.keys;
      const KeyRange& own = range[static_cast<std::size_t>(r)];
      const int vector = r / lanes - span.first_vector;
      const bool begins = vector >= span.vectors - span.begin_vectors, ends = vector < span.end_vectors;
      complete = complete && (!inside || ((begins || own.begin <= first) && (ends || own.end >= last)));
      attended_outside =
          attended_outside || (!inside && std::max(own.begin, first) < std::min(own.end, last));
    }
    REQUIRE(complete);
    REQUIRE(!attended_outside);
  }
  REQUIRE(next_key == keys);
}

TEST_CASE("key_blocks: spans of random ranges") {
  std::mt19937_64 engine(5);
  const auto below = [&](int end) { return static_cast<int>(engine() % static_cast<std::uint64_t>(end)); };
  for (const int lanes : {2, 4, 8, 16}) {
    for (int repeat = 0; repeat < (reduced_grid() ? 300 : 3000); ++repeat) {
      const std::vector<KeyRange> range = random_ranges(engine, 1 + below(4 * lanes), 1 + below(300), repeat % 2 == 0);
      // Any stretch of keys: more than the union of the ranges, which is what drivers ask for.
      const std::int64_t begin = below(200);
      check_spans(range, lanes, {begin, begin + 1 + below(160)});
    }
  }
}

TEST_CASE("key_blocks: spans of causal tiles, far into long sequences, too") {
  for (const int lanes : {2, 4, 8, 16}) {
    const int rows = 4 * lanes;
    for (const std::int64_t offset : {std::int64_t{0}, std::int64_t{-5}, std::int64_t{1000}, largest - 400}) {
      for (const int group : {1, 3}) {
        std::vector<KeyRange> range;
        for (int r = 0; r < rows; ++r) range.push_back(detail::attended_keys(offset + r / group, true, {}, largest));
        const std::int64_t end = range.back().end;
        for (std::int64_t begin = std::max<std::int64_t>(0, end - 300); begin < end; begin += 37) {
          check_spans(range, lanes, {begin, std::min(begin + 160, end)});
        }
      }
    }
  }
}

TEST_CASE("key_blocks: one unmasked span where all rows attend the whole block, with limits or without") {
  std::vector<std::vector<KeySpan>> found{spans_of(std::vector<KeyRange>(7, {0, 500}), 4, {96, 192})};
  KeySpan span{};
  REQUIRE(detail::make_spans({nullptr, nullptr, 7}, 4, 96, &span) == 1);
  found.push_back({span});
  for (const std::vector<KeySpan>& spans : found) {
    REQUIRE(spans.size() == 1);
    CHECK(spans[0].first_key == 0);
    CHECK(spans[0].keys == 96);
    CHECK(spans[0].first_vector == 0);
    CHECK(spans[0].vectors == 2);
    CHECK(!spans[0].masked());
  }
}

TEST_CASE("key_blocks: whole steps leave out the vectors beyond the edges") {
  // Row r attends the keys r … 64 + r of 96: 32 keys until all rows have begun, 31 from where they end.
  std::vector<KeyRange> range;
  for (int r = 0; r < 32; ++r) range.push_back({r, 65 + r});
  const std::vector<KeySpan> spans = spans_of(range, 8, {0, 96});
  REQUIRE(spans.size() == 9);
  for (int step = 0; step < 4; ++step) {
    const KeySpan &left = spans[static_cast<std::size_t>(step)], &right = spans[static_cast<std::size_t>(5 + step)];
    CHECK(left.begin_vectors == 1);
    CHECK(left.end_vectors == 0);
    CHECK(left.first_key == 8 * step);
    CHECK(left.keys == 8);
    CHECK(left.first_vector == 0);
    CHECK(left.vectors == 1 + step);
    CHECK(right.begin_vectors == 0);
    CHECK(right.end_vectors == 1);
    CHECK(right.first_key == 64 + 8 * step);
    CHECK(right.keys == 8);
    CHECK(right.first_vector == step);
    CHECK(right.vectors == 4 - step);
  }
  CHECK(!spans[4].masked());
  CHECK(spans[4].first_key == 32);
  CHECK(spans[4].keys == 32);
  CHECK(spans[4].vectors == 4);
}

}  // namespace
}  // namespace headwise::test
