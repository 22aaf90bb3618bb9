#include "reliability/library_calls.hpp"

#include <limits>
#include <memory>
#include <optional>
#include <span>

#include "headwise/headwise.hpp"
#include "support/attention_case.hpp"
#include "support/random.hpp"

namespace headwise::test {
namespace {

template <class T>
std::string typed(const char* name) {
  return std::string(name) + (sizeof(T) == 4 ? " <float>" : " <double>");
}

template <class T>
std::vector<T> numbers(std::int64_t count, std::uint64_t seed, double factor = 1) {
  Random random(seed);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = static_cast<T>(factor * random.normal());
  return values;
}

/// Factor that takes products of two numbers to the subnormal ones, where modes of arithmetic differ.
template <class T>
constexpr double tiny_factor = sizeof(T) == 4 ? 1e-20 : 1e-155;

template <class T>
void add_attention_calls(std::vector<LibraryCall>& calls) {
  const auto add = [&calls](const char* name, const AttentionCase& problem, double value_factor = 1) {
    calls.push_back(attention_call<T>(problem, calls.size(), value_factor));
    calls.back().name = typed<T>(name);
  };
  add("tiles", {.shape = {1, 3, 1, 130, 260, 33, 32}, .logsumexp = true});
  add("tiles of subnormal values", {.shape = {2, 2, 2, 70, 203, 40, 24}}, sizeof(T) == 4 ? 1e-38 : 1e-307);
  add("long decode", {.shape = {2, 4, 2, 1, 1300, 65, 64}, .logsumexp = true, .weights = true, .mean_weights = true});

  AttentionCase options{.shape = {2, 4, 2, 70, 203, 40, 37}};
  options.options = {.softcap = 20,
                     .causal = true,
                     .window = {130, 3},
                     .query_position = QueryPosition::bottom_right,
                     .score_stage = ScoreStage::biased};
  options.layout = Layout::bshd;
  options.logsumexp = options.weights = options.mean_weights = options.scores = true;
  options.mask = Varies{.head = false};
  options.bias = Varies{.batch = false};
  options.key_padding_mask = options.alibi = options.sinks = true;
  options.key_lengths = {203, 80};
  add("tiles with every option", options);
  options.shape.query_length = 2;
  options.shape.key_length = 1100;
  options.key_lengths = {};  // scores before the bias are of excluded keys, too, which then hold NaN
  options.options.score_stage = ScoreStage::softcapped;
  add("decode with every option", options);

  AttentionCase ragged{.shape = {3, 2, 1, 90, 150, 16, 16}};
  ragged.query_starts = {0, 90, 91, 121};
  ragged.key_starts = {0, 150, 190, 230};
  ragged.options.causal = true;
  add("ragged", ragged);
  AttentionCase ring{.shape = {2, 4, 4, 64, 300, 32, 32}};
  ring.key_storage = KeyStorage::ring;
  ring.layout = Layout::feature_stride_2;
  add("keys in runs", ring);
}

/// The weights of a layer and its input.
template <class T>
struct LayerData {
  static constexpr std::int64_t batch = 2, tokens = 96, model = 96, heads = 4, dim = 24;

  explicit LayerData(double factor) {
    for (std::size_t i = 0; i < weights.size(); ++i) {
      weights[i] = numbers<T>(model * model, 10 + i, 0.1 * factor);
      biases[i] = numbers<T>(model, 20 + i, factor * factor);
    }
  }

  Projection<T> projection(std::size_t index) const {
    return {.weight = TensorView<const T, 2>::contiguous(weights[index].data(), {model, model}),
            .order = index % 2 == 0 ? WeightOrder::in_out : WeightOrder::out_in,
            .bias = biases[index]};
  }
  TensorView<const T, 3> input(const std::vector<T>& values) const {
    return TensorView<const T, 3>::contiguous(values.data(), {batch, tokens, model});
  }

  std::array<std::vector<T>, 4> weights, biases;
};

template <class T>
void add_layer_calls(std::vector<LibraryCall>& calls) {
  using Data = LayerData<T>;
  const auto add = [&calls](const char* name, const auto& run) { calls.push_back({typed<T>(name), run, true}); };
  const auto add_layer = [&](const char* name, double factor) {
    const auto data = std::make_shared<const Data>(factor);
    const auto x =
        std::make_shared<const std::vector<T>>(numbers<T>(Data::batch * Data::tokens * Data::model, 30, factor));
    const auto y =
        std::make_shared<const std::vector<T>>(numbers<T>(Data::batch * Data::tokens * Data::model, 31, factor));
    add(name, [data, x, y](CallOutputs& outputs, int num_threads) {
      const MultiHeadAttention<T> layer({.batch = Data::batch,
                                         .query_length = Data::tokens,
                                         .key_length = Data::tokens,
                                         .num_heads = Data::heads,
                                         .num_kv_heads = Data::heads,
                                         .head_dim = Data::dim,
                                         .value_dim = Data::dim},
                                        {.query = data->projection(0),
                                         .key = data->projection(1),
                                         .value = data->projection(2),
                                         .output = data->projection(3)},
                                        {.causal = true, .num_threads = num_threads});
      layer.run({.query_input = data->input(*x),
                 .key_input = data->input(*y),
                 .output = outputs.template take<T, 3>({Data::batch, Data::tokens, Data::model}),
                 .weights = outputs.template take<T, 4>({Data::batch, Data::heads, Data::tokens, Data::tokens})});
    });
    add("projection", [data, x](CallOutputs& outputs, int num_threads) {
      project<T>(data->input(*x), data->projection(1),
                 outputs.template take<T, 3>({Data::batch, Data::tokens, Data::model}), num_threads);
    });
  };
  add_layer("layer", 1);
  add_layer("layer of subnormal products", tiny_factor<T>);
}

constexpr std::array<std::int64_t, 4> token_extents{2, 2, 200, 64};

template <class T>
void add_other_calls(std::vector<LibraryCall>& calls) {
  const auto add = [&calls](const char* name, const auto& run) { calls.push_back({typed<T>(name), run}); };
  const auto tokens = std::make_shared<const std::vector<T>>(numbers<T>(2 * 2 * 200 * 64, 40));
  const auto copy_of_tokens = [tokens](CallOutputs& outputs) {
    const auto x = outputs.template take<T, 4>(token_extents);
    std::copy(tokens->begin(), tokens->end(), x.data);
    return x;
  };
  add("rotary embedding", [copy_of_tokens](CallOutputs& outputs, int num_threads) {
    const auto x = copy_of_tokens(outputs);
    constexpr std::array<std::int64_t, 2> starts{-7, 1'000'000};
    std::array<std::int64_t, 400> positions{};
    for (std::size_t i = 0; i < positions.size(); ++i) {
      positions[i] = starts[i / 200] + static_cast<std::int64_t>(i % 200);
    }
    // The largest base brings frequencies to the end of the range of double.
    rotary_embedding<T>(x, TensorView<const std::int64_t, 2>::contiguous(positions.data(), {2, 200}),
                        {.base = std::numeric_limits<double>::max(), .num_threads = num_threads});
  });
  calls.back().prepare = copy_of_tokens;
  // Weights e^−(2000 … 0): some underflow.
  auto lse = numbers<T>(2 * 2 * 2 * 200, 41, 300);
  const auto logsumexps = std::make_shared<const std::vector<T>>(std::move(lse));
  add("merge", [tokens, logsumexps](CallOutputs& outputs, int) {
    std::array<PartialAttention<T>, 2> parts;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      parts[i] = {TensorView<const T, 4>::contiguous(tokens->data(), token_extents),
                  TensorView<const T, 3>::contiguous(logsumexps->data() + i * 800, {2, 2, 200})};
    }
    merge_attention<T>(parts, outputs.template take<T, 4>(token_extents), outputs.template take<T, 3>({2, 2, 200}));
  });
  add("cache", [tokens](CallOutputs& outputs, int num_threads) {
    KvCache<T> cache({.batch = 2, .num_kv_heads = 2, .capacity = 150, .head_dim = 64, .value_dim = 64, .ring = true});
    const auto all = TensorView<const T, 4>::contiguous(tokens->data(), token_extents);
    cache.append(all.slice(2, 0, 120), all.slice(2, 0, 120), {}, RotaryOptions{.num_threads = num_threads});
    cache.append(all.slice(2, 120, 200), all.slice(2, 120, 200), {}, RotaryOptions{.num_threads = num_threads});
    constexpr std::array<std::int64_t, 2> swapped{1, 0};
    cache.reorder(swapped);
    const KvCache<T> copy = cache;
    const AttentionArguments<T> arguments{
        .query = all.slice(2, 0, 20), .output = outputs.template take<T, 4>({2, 2, 20, 64}), .key_runs = copy.runs()};
    attention<T>(arguments, {.num_threads = num_threads});
  });
}

}  // namespace

template <class T>
LibraryCall attention_call(const AttentionCase& problem, std::uint64_t seed, double value_factor) {
  auto tensors = std::make_shared<AttentionTensors<T>>(problem);
  tensors->fill(seed);
  visit_elements(tensors->value(), [&](T& value) { value = static_cast<T>(value * value_factor); });
  const std::shared_ptr<const AttentionTensors<T>> filled = std::move(tensors);
  return {describe(problem), [filled](CallOutputs& outputs, int num_threads) {
            AttentionArguments<T> arguments = filled->arguments();
            const auto take = [&outputs]<int Rank>(const TensorView<T, Rank>& view) {
              return outputs.template take<T, Rank>(view.extents);
            };
            arguments.output = take(arguments.output);
            if (arguments.logsumexp) arguments.logsumexp = take(*arguments.logsumexp);
            if (arguments.weights) arguments.weights = take(*arguments.weights);
            if (arguments.mean_weights) arguments.mean_weights = take(*arguments.mean_weights);
            if (arguments.scores) arguments.scores = take(*arguments.scores);
            AttentionOptions options = filled->problem().options;
            options.num_threads = num_threads;
            AttentionPlan<T>(filled->problem().shape, options).run(arguments);
          }};
}

std::vector<LibraryCall> library_calls() {
  std::vector<LibraryCall> calls;
  add_attention_calls<float>(calls);
  add_attention_calls<double>(calls);
  add_layer_calls<float>(calls);
  add_layer_calls<double>(calls);
  add_other_calls<float>(calls);
  add_other_calls<double>(calls);
  return calls;
}

template LibraryCall attention_call<float>(const AttentionCase&, std::uint64_t, double);
template LibraryCall attention_call<double>(const AttentionCase&, std::uint64_t, double);

}  // namespace headwise::test
