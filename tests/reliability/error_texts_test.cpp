// Every error text that the library can give is written out in a test that provokes it; the few that no test of a
// function has are provoked here.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/refusal.hpp"

namespace headwise::test {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// The string literals of a source as they are written, adjacent ones joined; not those of comments and of lines for
/// the preprocessor.
std::vector<std::string> literals_of(const std::string& text) {
  std::vector<std::string> literals;
  bool line_begins = true, joins = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n' || c == ' ') {
      line_begins = line_begins || c == '\n';
      continue;
    }
    if ((line_begins && c == '#') || text.compare(i, 2, "//") == 0) {
      i = std::min(text.find('\n', i), text.size()) - 1;
    } else if (c == '\'' && text.compare(i, 3, "'\"'") == 0) {
      i += 2;
    } else if (c == '"') {
      std::string literal;
      for (++i; i < text.size() && text[i] != '"'; ++i) {
        literal += text[i];
        if (text[i] == '\\' && i + 1 < text.size()) literal += text[++i];
      }
      if (joins) {
        literals.back() += literal;
      } else {
        literals.push_back(literal);
      }
    }
    joins = c == '"';
    line_begins = false;
  }
  return literals;
}

std::vector<std::string> literals_under(const fs::path& folder) {
  std::vector<std::string> literals;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string extension = entry.path().extension();
    if (extension != ".cpp" && extension != ".hpp" && extension != ".txt") continue;
    for (std::string& literal : literals_of(text_of(entry.path()))) literals.push_back(std::move(literal));
  }
  return literals;
}

/// Whether a source can refuse an argument.
bool refuses(const std::string& text) {
  return text.find("refuse") != std::string::npos || text.find("throw std::") != std::string::npos;
}

bool has_letter(const std::string& text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; });
}

/// What the library can say: pieces of text from the files that refuse arguments.
std::set<std::string> pieces_of_texts() {
  const fs::path source = HEADWISE_SOURCE_DIR;
  const std::set<std::string> others{"sse2", "avx2", "avx512", "neon64", "HEADWISE_ISA", "openmp", "pthread", "serial",
                                     // OpenBLAS's names of processors
                                     "SkylakeX", "Cooperlake", "SapphireRapids", "Haswell", "Zen", "Excavator"};
  std::set<std::string> pieces;
  for (const char* folder : {"include", "src"}) {
    for (const auto& entry : fs::recursive_directory_iterator(source / folder)) {
      if (!entry.is_regular_file()) continue;
      const std::string text = text_of(entry.path());
      if (!refuses(text)) continue;
      for (const std::string& piece : literals_of(text)) {
        if (has_letter(piece) && !others.contains(piece)) pieces.insert(piece);
      }
    }
  }
  return pieces;
}

/// The texts that tests expect.
std::vector<std::string> expected_texts() {
  std::vector<std::string> texts;
  for (std::string& literal : literals_under(fs::path(HEADWISE_SOURCE_DIR) / "tests")) {
    if (literal.find(", expected ") != std::string::npos) texts.push_back(std::move(literal));
  }
  return texts;
}

TEST_CASE("error texts: every piece of a text that the library can say is expected by a test") {
  const std::set<std::string> pieces = pieces_of_texts();
  const std::vector<std::string> texts = expected_texts();
  CHECK(pieces.size() > 150);
  CHECK(texts.size() > 250);
  for (const std::string& piece : pieces) {
    const bool listed = std::any_of(texts.begin(), texts.end(),
                                    [&](const std::string& text) { return text.find(piece) != std::string::npos; });
    CHECK_MESSAGE(listed, "no test expects a text with \"", piece, "\"");
  }
}

TEST_CASE("error texts: views") {
  using View = TensorView<const float, 3>;
  const View view = View::contiguous(nullptr, {2, 3, 4});
  const volatile int outside = 3;  // as a constant, g++ 12 warns of the access that does not happen
  CHECK(refusal([&] { view.transposed(outside, 0); }) == "headwise: transposed: axis is 3, expected 0 to 2");
  CHECK(refusal([&] { view.slice(outside, 0, 0); }) == "headwise: slice: axis is 3, expected 0 to 2");
  CHECK(refusal([&] { view.slice(1, 2, 4); }) == "headwise: slice of axis 1 is [2, 4), expected a range within [0, 3)");
  CHECK(refusal([&] {
          view.broadcast_to({2, 5, 4});
        }) == "headwise: broadcast_to: extent of axis 1 is 3, expected 1 or 5");
}

TEST_CASE("error texts: parts to merge that are nowhere") {
  std::vector<float> memory(6);
  const auto output = TensorView<float, 4>::contiguous(memory.data(), {1, 1, 2, 3});
  CHECK(refusal([&] {
          merge_attention({static_cast<const PartialAttention<float>*>(nullptr), 2}, output);
        }) == "headwise: parts.data() is null, expected a pointer to 2 parts");
}

/// Inputs and outputs of a layer of one head with four features.
struct Layer {
  std::array<float, 8> input{}, output{};
  std::array<float, 48> weight{};
  std::array<float, 12> bias{};
  MultiHeadAttentionShape shape{1, 2, 2, 1, 1, 4, 4};
  MultiHeadAttentionArguments<float> arguments{
      .query_input = TensorView<const float, 3>::contiguous(input.data(), {1, 2, 4}),
      .output = TensorView<float, 3>::contiguous(output.data(), {1, 2, 4})};

  Projection<float> projection(std::int64_t outputs = 4) const {
    return {.weight = TensorView<const float, 2>::contiguous(weight.data(), {4, outputs}),
            .bias = std::span<const float>(bias).first(static_cast<std::size_t>(outputs))};
  }
  MultiHeadAttentionWeights<float> separate() const {
    return {.query = projection(), .key = projection(), .value = projection(), .output = projection()};
  }
  std::string refused(const MultiHeadAttentionWeights<float>& weights) const {
    return refusal([&] { MultiHeadAttention<float>(shape, weights).run(arguments); });
  }
};

TEST_CASE("error texts: the memory of each weight and bias of a layer") {
  using Weights = MultiHeadAttentionWeights<float>;
  const Layer layer;
  const auto without_weight = [&](std::optional<Projection<float>> Weights::*of) {
    Weights weights = layer.separate();
    (weights.*of)->weight.data = nullptr;
    return layer.refused(weights);
  };
  CHECK(without_weight(&Weights::query) ==
        "headwise: weights.query.weight.data is null, expected a pointer to 16 elements");
  CHECK(without_weight(&Weights::value) ==
        "headwise: weights.value.weight.data is null, expected a pointer to 16 elements");
  CHECK(without_weight(&Weights::output) ==
        "headwise: weights.output.weight.data is null, expected a pointer to 16 elements");
  const auto without_bias = [&](std::optional<Projection<float>> Weights::*of) {
    Weights weights = layer.separate();
    (weights.*of)->bias = {static_cast<const float*>(nullptr), 4};
    return layer.refused(weights);
  };
  CHECK(without_bias(&Weights::query) == "headwise: weights.query.bias.data is null, expected a pointer to 4 elements");
  CHECK(without_bias(&Weights::key) == "headwise: weights.key.bias.data is null, expected a pointer to 4 elements");
  CHECK(without_bias(&Weights::value) == "headwise: weights.value.bias.data is null, expected a pointer to 4 elements");
  CHECK(without_bias(&Weights::output) ==
        "headwise: weights.output.bias.data is null, expected a pointer to 4 elements");

  Weights packed{.packed = layer.projection(12)};
  packed.packed->weight.data = nullptr;
  CHECK(layer.refused(packed) == "headwise: weights.packed.weight.data is null, expected a pointer to 48 elements");
  packed.packed = layer.projection(12);
  packed.packed->bias = {static_cast<const float*>(nullptr), 12};
  CHECK(layer.refused(packed) == "headwise: weights.packed.bias.data is null, expected a pointer to 12 elements");
}

TEST_CASE("error texts: sizes that no memory holds, in a layer") {
  Layer layer;
  Projection<float> projection = layer.projection();
  projection.weight.extents = {std::int64_t{1} << 40, std::int64_t{1} << 40};
  MultiHeadAttentionWeights<float> weights = layer.separate();
  weights.query = projection;
  CHECK(layer.refused(weights) ==
        "headwise: weights.query.weight.extents is [1099511627776, 1099511627776], expected at most 2^60 elements");
  layer.shape.query_length = std::int64_t{1} << 57;
  CHECK(layer.refused(layer.separate()) ==
        "headwise: elements of a projection is 576460752303423488, expected at most 2^58");
}

TEST_CASE("error texts: a projection") {
  const Layer layer;
  const auto input = layer.arguments.query_input;
  const auto output = layer.arguments.output;
  CHECK(refusal([&] { project(input, layer.projection(), output.slice(0, 0, 0)); }) ==
        "headwise: output.extent(0) is 0, expected 1 (batch of input)");
  CHECK(refusal([&] { project(input, layer.projection(3), output); }) ==
        "headwise: output.extent(2) is 4, expected 3 (outputs of projection)");
  Projection<float> projection = layer.projection();
  projection.weight.data = nullptr;
  CHECK(refusal([&] { project(input, projection, output); }) ==
        "headwise: projection.weight.data is null, expected a pointer to 16 elements");
  projection = layer.projection();
  projection.bias = {static_cast<const float*>(nullptr), 4};
  CHECK(refusal([&] { project(input, projection, output); }) ==
        "headwise: projection.bias.data is null, expected a pointer to 4 elements");
}

}  // namespace
}  // namespace headwise::test
