// Pictures of attention weights: in the terminal and as SVG.
#pragma once

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <iomanip>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace examples {

/// One head on one sentence.
struct Heatmap {
  std::string sentence;
  std::vector<std::string> words;
  std::vector<std::vector<double>> weights;  ///< [word that attends][word attended to], rows of sum 1
};

/// Rows are words, shaded by how much they attend to the column's word; the strongest are named at the end.
inline void print(std::ostream& out, const Heatmap& map) {
  const auto shade = [](double weight) {
    return weight >= 0.6 ? "██" : weight >= 0.35 ? "▓▓" : weight >= 0.15 ? "▒▒" : weight >= 0.05 ? "░░" : "· ";
  };
  std::size_t longest = 0;
  for (const std::string& word : map.words) longest = std::max(longest, word.size());
  const std::string margin(longest + 2, ' ');

  out << "\n\"" << map.sentence << "\"\n\n";
  for (std::size_t line = 0; line < longest; ++line) {  // the columns' words, top down
    out << margin;
    for (const std::string& word : map.words) {
      const std::size_t above = longest - word.size();
      out << (line < above ? ' ' : word[line - above]) << "  ";
    }
    out << '\n';
  }
  for (std::size_t row = 0; row < map.words.size(); ++row) {
    const std::vector<double>& weights = map.weights[row];
    out << std::setw(static_cast<int>(longest)) << map.words[row] << "  ";
    for (const double weight : weights) out << shade(weight) << ' ';
    const auto strongest = static_cast<std::size_t>(std::max_element(weights.begin(), weights.end()) - weights.begin());
    out << " → " << map.words[strongest] << ' ' << std::fixed << std::setprecision(2) << weights[strongest] << '\n';
  }
  out << std::defaultfloat << margin << "██ from 0.60   ▓▓ from 0.35   ▒▒ from 0.15   ░░ from 0.05\n";
}

inline std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else {
      result += c;
    }
  }
  return result;
}

/// One group of the picture: a square per pair of words, darker for more attention, its weight as a tooltip.
inline void draw(std::ostream& out, const Heatmap& map, int top) {
  constexpr int left = 120, cell = 26, header = 110;
  out << "<text x=\"20\" y=\"" << top << "\" class=\"title\">" << escaped(map.sentence) << "</text>\n";
  const int first_row = top + header;
  for (std::size_t i = 0; i < map.words.size(); ++i) {
    const int offset = static_cast<int>(i) * cell;
    const std::string word = escaped(map.words[i]);
    out << "<text x=\"" << left - 8 << "\" y=\"" << first_row + offset + 18 << "\" text-anchor=\"end\">" << word
        << "</text>\n<text transform=\"translate(" << left + offset + 18 << ' ' << first_row - 8 << ") rotate(-60)\">"
        << word << "</text>\n";
    for (std::size_t j = 0; j < map.words.size(); ++j) {
      out << "<rect x=\"" << left + static_cast<int>(j) * cell << "\" y=\"" << first_row + offset << "\" width=\""
          << cell - 1 << "\" height=\"" << cell - 1 << "\" fill-opacity=\"" << map.weights[i][j] << "\"><title>" << word
          << " → " << escaped(map.words[j]) << ": " << map.weights[i][j] << "</title></rect>\n";
    }
  }
}

/// Writes the pictures one below the other.
/// \throws std::runtime_error if the file cannot be written.
inline void write_svg(const std::string& path, const std::string& caption, const std::vector<Heatmap>& maps) {
  std::ofstream file(path);
  file << std::setprecision(3);
  std::vector<int> tops;
  int height = 70;
  for (const Heatmap& map : maps) {
    tops.push_back(height);
    height += 150 + 26 * static_cast<int>(map.words.size());
  }
  file << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"600\" height=\"" << height << "\">\n"
       << "<style>text { font: 14px sans-serif } .title { font-weight: bold } rect { fill: #1f4e9c; stroke: #ccc }"
       << "</style>\n<rect width=\"100%\" height=\"100%\" style=\"fill: white\"/>\n"
       << "<text x=\"20\" y=\"30\">" << escaped(caption) << "</text>\n";
  for (std::size_t i = 0; i < maps.size(); ++i) draw(file, maps[i], tops[i]);
  file << "</svg>\n";
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace examples
