#include "keywords.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "numbers.hpp"

namespace headwise::python {
namespace {

struct Keyword {
  const char* name;
  nb::handle Keywords::* member;
  KeywordGroup group;
};

constexpr std::array known_keywords{
    Keyword{"causal", &Keywords::causal, plan_keywords},
    Keyword{"mask", &Keywords::mask, run_keywords},
    Keyword{"out", &Keywords::out, run_keywords},
    Keyword{"key_lengths", &Keywords::key_lengths, run_keywords},
    Keyword{"bias", &Keywords::bias, run_keywords},
    Keyword{"scale", &Keywords::scale, plan_keywords},
    Keyword{"num_threads", &Keywords::num_threads, plan_keywords},
    Keyword{"window", &Keywords::window, plan_keywords},
    Keyword{"softcap", &Keywords::softcap, plan_keywords},
    Keyword{"query_position", &Keywords::query_position, plan_keywords},
    Keyword{"query_offsets", &Keywords::query_offsets, run_keywords},
    Keyword{"key_padding_mask", &Keywords::key_padding_mask, run_keywords},
    Keyword{"alibi_slopes", &Keywords::alibi_slopes, run_keywords},
    Keyword{"sinks", &Keywords::sinks, run_keywords},
    Keyword{"return_logsumexp", &Keywords::return_logsumexp, run_keywords},
    Keyword{"return_weights", &Keywords::return_weights, run_keywords},
    Keyword{"return_scores", &Keywords::return_scores, plan_keywords},
};

/// The names as Python keeps those of a program's text, one object each; never freed, as the interpreter may end before
/// the library's destructors.
const std::array<PyObject*, known_keywords.size()>& interned_names() {
  static const auto names = [] {
    std::array<PyObject*, known_keywords.size()> objects{};
    for (std::size_t i = 0; i < objects.size(); ++i) objects[i] = PyUnicode_InternFromString(known_keywords[i].name);
    return objects;
  }();
  return names;
}

/// The known keyword of that name, or null. The same object nearly always: comparing texts takes longer than the rest.
const Keyword* keyword_of(nb::handle key) {
  const auto& names = interned_names();
  const auto same = std::find(names.begin(), names.end(), key.ptr());
  if (same != names.end()) return &known_keywords[static_cast<std::size_t>(same - names.begin())];
  const std::string_view name = as_text(key, "a keyword");
  const auto equal =
      std::find_if(known_keywords.begin(), known_keywords.end(), [name](const auto& known) { return known.name == name; });
  return equal == known_keywords.end() ? nullptr : &*equal;
}

/// One of a few names.
template <class Enum, std::size_t Count>
Enum choose(nb::handle object, const char* name, const std::array<const char*, Count>& names) {
  const std::string_view given = as_text(object, name);
  std::string expected;
  for (std::size_t i = 0; i < Count; ++i) {
    if (given == names[i]) return static_cast<Enum>(i);
    expected.append(i == 0 ? "\"" : i + 1 == Count ? " or \"" : ", \"").append(names[i]).append("\"");
  }
  refuse_value(name, std::string("\"").append(given).append("\""), expected);
}

Window window_of(nb::handle object) {
  const char* const expected = "None or a pair (left, right) of integers, None or -1 where unbounded";
  if ((!PyTuple_Check(object.ptr()) && !PyList_Check(object.ptr())) || nb::len(object) != 2) {
    refuse_type("window", nb::cast<std::string>(nb::repr(object)), expected);
  }
  const auto side = [](const nb::object& size, const char* name) {
    return size.is_none() ? -1 : as_integer(size, name);
  };
  return {.left = side(object[0], "window[0]"), .right = side(object[1], "window[1]")};
}

}  // namespace

Keywords read_keywords(const char* function, const nb::kwargs& keywords, unsigned groups) {
  Keywords values;
  for (const auto& [key, value] : keywords) {
    const Keyword* const found = keyword_of(key);
    if (found == nullptr || (found->group & groups) == 0) {
      const std::string name(as_text(key, "a keyword"));
      throw nb::type_error((std::string(function) + "() got an unexpected keyword argument '" + name + "'").c_str());
    }
    if (!value.is_none()) values.*found->member = value;
  }
  return values;
}

AttentionOptions options_of(const Keywords& keywords) {
  AttentionOptions options;
  if (keywords.causal) options.causal = as_bool(keywords.causal, "causal");
  if (keywords.window) options.window = window_of(keywords.window);
  if (keywords.scale) options.scale = as_number(keywords.scale, "scale");
  if (keywords.softcap) options.softcap = as_number(keywords.softcap, "softcap");
  if (keywords.query_position) {
    constexpr std::array names{"top_left", "bottom_right", "given"};
    options.query_position = choose<QueryPosition>(keywords.query_position, "query_position", names);
  }
  if (keywords.return_scores) {
    constexpr std::array names{"scaled", "softcapped", "biased"};
    options.score_stage = choose<ScoreStage>(keywords.return_scores, "return_scores", names);
  }
  if (keywords.num_threads) options.num_threads = as_thread_count(keywords.num_threads);
  return options;
}

}  // namespace headwise::python
