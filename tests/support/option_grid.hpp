/// \file
/// Problems in which every two levels of all options, shapes, outputs and layouts meet.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "support/attention_problem.hpp"
#include "support/pairwise.hpp"

namespace headwise::test {

/// The levels of every factor of the grid.
struct OptionLevels {
  /// Few rows (one, and eight over more than one chunk of keys), tiles with a rest, grouped heads, many short sequences.
  static constexpr std::array shapes{
      AttentionShape{2, 2, 2, 1, 300, 64, 64}, AttentionShape{1, 4, 2, 4, 530, 40, 24},
      AttentionShape{2, 4, 2, 70, 203, 64, 37}, AttentionShape{1, 3, 1, 130, 260, 32, 32},
      AttentionShape{3, 2, 1, 17, 33, 8, 8}};
  static constexpr std::array softcaps{0.0, 1.5, 20.0};
  static constexpr std::array<std::optional<double>, 3> scales{std::nullopt, 0.3, -0.2};
  static constexpr std::array no_yes{false, true};
  static constexpr std::array windows{Window{},      Window{20, -1}, Window{-1, 5}, Window{130, 3},
                                      Window{0, 30}, Window{2, std::numeric_limits<std::int64_t>::max()}};
  static constexpr std::array positions{QueryPosition::top_left, QueryPosition::bottom_right, QueryPosition::given};
  static constexpr std::array<std::optional<Varies>, 6> masks{
      std::nullopt, Varies{}, Varies{.batch = false, .head = false}, Varies{.head = false, .query = false},
      Varies{.batch = false, .query = false}, Varies{.head = false, .key = false}};
  enum class Bias { none, full, by_head_and_key, by_query, relative };
  static constexpr std::array biases{Bias::none, Bias::full, Bias::by_head_and_key, Bias::by_query, Bias::relative};
  enum class Sequences { equal, key_lengths, ragged, ring };
  static constexpr std::array sequences{Sequences::equal, Sequences::key_lengths, Sequences::ragged, Sequences::ring};
  enum class Scores { none, scaled, softcapped, biased };
  static constexpr std::array scores{Scores::none, Scores::scaled, Scores::softcapped, Scores::biased};
};

/// Lengths of the sequences of a batch, the first the longest, later ones shorter, the third without any.
inline std::vector<std::int64_t> uneven_lengths(std::int64_t batch, std::int64_t longest) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t b = 0; b < batch; ++b) lengths.push_back(b == 0 ? longest : b == 1 ? (longest + 2) / 3 : 0);
  return lengths;
}

inline std::vector<std::int64_t> starts_of(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> starts{0};
  for (const std::int64_t length : lengths) starts.push_back(starts.back() + length);
  return starts;
}

inline void set_sequences(AttentionCase& problem, OptionLevels::Sequences sequences) {
  const AttentionShape& shape = problem.shape;
  switch (sequences) {
    case OptionLevels::Sequences::equal: break;
    case OptionLevels::Sequences::key_lengths:
      problem.key_lengths = uneven_lengths(shape.batch, shape.key_length - shape.key_length / 4);
      break;
    case OptionLevels::Sequences::ragged:
      problem.query_starts = starts_of(uneven_lengths(shape.batch, shape.query_length));
      problem.key_starts = starts_of(uneven_lengths(shape.batch, shape.key_length));
      break;
    case OptionLevels::Sequences::ring: problem.key_storage = KeyStorage::ring; break;
  }
}

inline void set_bias(AttentionCase& problem, OptionLevels::Bias bias) {
  switch (bias) {
    case OptionLevels::Bias::none: break;
    case OptionLevels::Bias::full: problem.bias = Varies{}; break;
    case OptionLevels::Bias::by_head_and_key: problem.bias = Varies{.batch = false, .query = false}; break;
    case OptionLevels::Bias::by_query: problem.bias = Varies{.batch = false, .head = false, .key = false}; break;
    case OptionLevels::Bias::relative: problem.relative_bias = true; break;
  }
}

inline void set_scores(AttentionCase& problem, OptionLevels::Scores scores) {
  problem.scores = scores != OptionLevels::Scores::none;
  if (scores == OptionLevels::Scores::softcapped) problem.options.score_stage = ScoreStage::softcapped;
  if (scores == OptionLevels::Scores::biased) problem.options.score_stage = ScoreStage::biased;
}

/// The whole grid.
inline std::vector<AttentionCase> option_grid() {
  using L = OptionLevels;
  constexpr std::size_t two = L::no_yes.size();
  const std::array<std::size_t, 16> levels{
      L::shapes.size(), all_layouts.size(), L::masks.size(), L::biases.size(), L::windows.size(), L::sequences.size(),
      L::scores.size(), L::softcaps.size(), L::scales.size(), L::positions.size(), two /* causal */,
      two /* key padding mask */, two /* ALiBi */, two /* sinks */, two /* logsumexp and weights */,
      two /* mean weights */};
  std::vector<AttentionCase> cases;
  for (const auto& chosen : pairwise_combinations(levels)) {
    AttentionCase problem{.shape = L::shapes[chosen[0]]};
    problem.layout = all_layouts[chosen[1]];
    problem.placement = cases.size() % 2 == 0 ? Placement::before_guard : Placement::after_guard;
    problem.mask = L::masks[chosen[2]];
    set_bias(problem, L::biases[chosen[3]]);
    problem.options.window = L::windows[chosen[4]];
    set_sequences(problem, L::sequences[chosen[5]]);
    set_scores(problem, L::scores[chosen[6]]);
    problem.options.softcap = L::softcaps[chosen[7]];
    problem.options.scale = L::scales[chosen[8]];
    problem.options.query_position = L::positions[chosen[9]];
    problem.options.causal = L::no_yes[chosen[10]];
    problem.key_padding_mask = L::no_yes[chosen[11]];
    problem.alibi = L::no_yes[chosen[12]];
    problem.sinks = L::no_yes[chosen[13]];
    problem.logsumexp = problem.weights = L::no_yes[chosen[14]];
    problem.mean_weights = L::no_yes[chosen[15]];
    if (problem.options.query_position == QueryPosition::given) {
      for (std::int64_t b = 0; b < problem.shape.batch; ++b) {
        problem.query_offsets.push_back(b == 1 ? -3 : problem.shape.key_length / 2);
      }
    }
    cases.push_back(problem);
  }
  return cases;
}

}  // namespace headwise::test
