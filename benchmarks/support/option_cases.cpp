#include "support/option_cases.hpp"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

namespace headwise::bench {
namespace {

constexpr std::int64_t tokens = 1024, heads = 8, dim = 64;

constexpr AttentionShape shape_of(std::int64_t batch, std::int64_t length) {
  return {.batch = batch,
          .num_heads = heads,
          .num_kv_heads = heads,
          .query_length = length,
          .key_length = length,
          .head_dim = dim,
          .value_dim = dim};
}

/// Sequences from 64 to 1024 tokens, long and short ones mixed.
const std::vector<std::int64_t> mixed_lengths{640, 64, 1024, 320, 192, 896, 448, 768};

double flops_of(std::int64_t pairs) { return 2.0 * (dim + dim) * static_cast<double>(heads * pairs); }

/// Pairs within causality and window, where query i stands at key i.
std::int64_t attended_pairs(const AttentionOptions& options) {
  const std::int64_t left = options.window.left < 0 ? tokens : options.window.left;
  const std::int64_t right = options.causal ? 0 : options.window.right < 0 ? tokens : options.window.right;
  std::int64_t pairs = 0;
  for (std::int64_t i = 0; i < tokens; ++i) {
    pairs += std::min(tokens - 1, i + right) - std::max<std::int64_t>(0, i - left) + 1;
  }
  return pairs;
}

template <class T>
std::unique_ptr<OptionCall<T>> make_plain() {
  auto call = std::make_unique<OptionCall<T>>(shape_of(1, tokens));
  call->flops = flops_of(tokens * tokens);
  return call;
}

/// One call over the packed tokens of all sequences.
template <class T>
std::unique_ptr<OptionCall<T>> make_ragged() {
  std::vector<std::int64_t> starts{0};
  std::int64_t pairs = 0;
  for (const std::int64_t length : mixed_lengths) {
    starts.push_back(starts.back() + length);
    pairs += length * length;
  }
  const auto batch = static_cast<std::int64_t>(mixed_lengths.size());
  auto call = std::make_unique<OptionCall<T>>(shape_of(batch, tokens), shape_of(1, starts.back()));
  call->arguments.query_starts = call->arguments.key_starts = call->keep(std::move(starts));
  call->flops = flops_of(pairs);
  return call;
}

/// The same sequences, padded to the longest.
template <class T>
std::unique_ptr<OptionCall<T>> make_padded() {
  auto call = std::make_unique<OptionCall<T>>(shape_of(static_cast<std::int64_t>(mixed_lengths.size()), tokens));
  call->arguments.key_lengths = call->keep(mixed_lengths);
  std::int64_t pairs = 0;
  for (const std::int64_t length : mixed_lengths) pairs += length * length;
  call->flops = flops_of(pairs);
  return call;
}

using Extents = std::array<std::int64_t, 4>;
constexpr Extents all_heads{1, 1, tokens, tokens};  // the same for every head
constexpr Extents per_head{1, heads, tokens, tokens};

std::size_t count(const Extents& e) { return static_cast<std::size_t>(e[0] * e[1] * e[2] * e[3]); }

template <class T>
TensorView<T, 4> make_scores(OptionCall<T>& call, const Extents& extents) {
  return TensorView<T, 4>::contiguous(call.make_values(count(extents)).data(), extents);
}

/// A mask whose key j is attended where keep(j) says so, else as the random bytes have it.
template <class T, class Keep>
void add_mask(OptionCall<T>& call, const Extents& extents, Keep keep) {
  const std::span<std::uint8_t> bytes = call.make_bytes(count(extents));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = keep(static_cast<std::int64_t>(i) % tokens, bytes[i]);
  call.arguments.mask = TensorView<const std::uint8_t, 4>::contiguous(bytes.data(), extents);
}

template <class T>
struct Option {
  const char* name;
  void (*add)(OptionCall<T>&);
};

template <class T>
std::vector<Option<T>> input_options() {
  using Call = OptionCall<T>;
  return {
      {"mask-random", [](Call& c) { add_mask(c, all_heads, [](auto, std::uint8_t random) { return random; }); }},
      {"mask-random-per-head",
       [](Call& c) { add_mask(c, per_head, [](auto, std::uint8_t random) { return random; }); }},
      {"mask-padding",  // the last quarter of the keys
       [](Call& c) { add_mask(c, {1, 1, 1, tokens}, [](std::int64_t j, auto) { return j < tokens * 3 / 4; }); }},
      {"mask-true", [](Call& c) { add_mask(c, all_heads, [](auto, auto) { return true; }); }},
      {"bias", [](Call& c) { c.arguments.bias = make_scores(c, all_heads); }},
      {"bias-per-head", [](Call& c) { c.arguments.bias = make_scores(c, per_head); }},
      {"bias-relative",
       [](Call& c) {
         const T* table = c.make_values(heads * (2 * tokens - 1)).data();
         const auto view = TensorView<const T, 2>::contiguous(table, {heads, 2 * tokens - 1});
         c.arguments.bias = relative_bias_view(view, tokens, tokens);
       }},
      {"alibi",
       [](Call& c) {
         const std::span<T> slopes = c.make_values(heads);
         for (std::size_t h = 0; h < slopes.size(); ++h) slopes[h] = T(1) / static_cast<T>(std::int64_t{2} << h);
         c.arguments.alibi_slopes = slopes;
       }},
      {"sink", [](Call& c) { c.arguments.sinks = c.make_values(heads); }},
  };
}

template <class T>
std::vector<Option<T>> range_and_output_options() {
  using Call = OptionCall<T>;
  return {
      {"causal", [](Call& c) { c.options.causal = true, c.flops = flops_of(attended_pairs(c.options)); }},
      {"window-256",
       [](Call& c) {
         c.options.causal = true;
         c.options.window = {.left = 255};
         c.flops = flops_of(attended_pairs(c.options));
       }},
      {"softcap", [](Call& c) { c.options.softcap = 30; }},
      {"logsumexp",
       [](Call& c) {
         c.arguments.logsumexp = TensorView<T, 3>::contiguous(c.make_values(heads * tokens).data(), {1, heads, tokens});
       }},
      {"weights", [](Call& c) { c.arguments.weights = make_scores(c, per_head); }},
      {"mean-weights",
       [](Call& c) {
         T* weights = c.make_values(tokens * tokens).data();
         c.arguments.mean_weights = TensorView<T, 3>::contiguous(weights, {1, tokens, tokens});
       }},
      {"scores", [](Call& c) { c.arguments.scores = make_scores(c, per_head); }},
  };
}

}  // namespace

template <class T>
OptionCall<T>::OptionCall(const AttentionShape& shape, const AttentionShape& tensors)
    : arguments(), shape_(shape), tensors_(tensors) {
  arguments = tensors_.arguments();
}

template <class T>
std::span<T> OptionCall<T>::make_values(std::size_t count) {
  values_.emplace_back(count);
  fill_normal(values_.back().span(), 3 + values_.size());
  return values_.back().span();
}

template <class T>
std::span<std::uint8_t> OptionCall<T>::make_bytes(std::size_t count) {
  std::vector<float> numbers(count);
  fill_normal(std::span(numbers), 7);
  std::vector<std::uint8_t>& bytes = bytes_.emplace_back(count);
  std::ranges::transform(numbers, bytes.begin(), [](float number) { return number > 0; });
  return bytes;
}

template <class T>
std::span<const std::int64_t> OptionCall<T>::keep(std::vector<std::int64_t> values) {
  return integers_.emplace_back(std::move(values));
}

template <class T>
void OptionCall<T>::prepare(int threads) {
  options.num_threads = threads;
  plan_.emplace(shape_, options);
  workspace_.emplace(plan_->workspace_bytes());
}

template <class T>
std::vector<OptionCase<T>> option_cases() {
  const std::string prefix = std::is_same_v<T, double> ? "options-f64-" : "options-f32-";
  std::vector<OptionCase<T>> cases;
  for (const auto& options : {input_options<T>(), range_and_output_options<T>()}) {
    for (const Option<T>& option : options) {
      const auto make = [add = option.add] {
        auto call = make_plain<T>();
        add(*call);
        return call;
      };
      cases.push_back({prefix + option.name, make, make_plain<T>});
    }
  }
  cases.push_back({prefix + "ragged", make_ragged<T>, make_plain<T>});
  cases.push_back({prefix + "ragged-to-padded", make_ragged<T>, make_padded<T>});
  return cases;
}

template class OptionCall<float>;
template class OptionCall<double>;
template std::vector<OptionCase<float>> option_cases();
template std::vector<OptionCase<double>> option_cases();

}  // namespace headwise::bench
