// headwise on real input: a layer of a published model on two sentences, which words attend to which, the error against
// double precision; then the speed of a BERT-base-sized layer.
//
//     headwise_demo [--head N] [--svg FILE] [--data FOLDER] [--quick]
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/bert_layer.hpp"
#include "support/heatmap.hpp"
#include "support/machine_peak.hpp"
#include "support/trained_layer.hpp"

namespace {

using headwise::TensorView;

struct Settings {
  std::int64_t head = 1;
  std::string svg = "attention.svg";
  std::string data = HEADWISE_DEMO_DATA;
  bool quick = false;
};

Settings parse(const std::vector<std::string>& arguments) {
  Settings settings;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& name = arguments[i];
    if (name == "--quick") {
      settings.quick = true;
      continue;
    }
    if (name != "--head" && name != "--svg" && name != "--data") {
      throw std::runtime_error("unknown argument " + name + "; known: --head N, --svg FILE, --data FOLDER, --quick");
    }
    if (++i == arguments.size()) throw std::runtime_error(name + " needs a value");
    const std::string& value = arguments[i];
    if (name == "--svg") settings.svg = value;
    if (name == "--data") settings.data = value;
    if (name != "--head") continue;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), settings.head);
    if (error != std::errc() || end != value.data() + value.size()) {
      throw std::runtime_error("--head is " + value + ", expected a number");
    }
  }
  return settings;
}

double largest_difference(const std::vector<float>& actual, const std::vector<double>& expected) {
  double largest = actual.size() == expected.size() ? 0 : INFINITY;
  for (std::size_t i = 0; i < actual.size() && largest < INFINITY; ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(actual[i]) - expected[i]));
  }
  return largest;
}

std::vector<examples::Heatmap> heatmaps_of(const examples::TrainedLayer& layer,
                                           const TensorView<const float, 4>& weights, std::int64_t head) {
  std::vector<examples::Heatmap> maps;
  for (std::int64_t sentence = 0; sentence < layer.batch; ++sentence) {
    const auto at = static_cast<std::size_t>(sentence);
    examples::Heatmap map{layer.about.at("sentences").at(at), layer.about.at("tokens").at(at), {}};
    map.words.resize(static_cast<std::size_t>(layer.key_lengths[at]));  // without padding
    for (std::int64_t i = 0; i < layer.key_lengths[at]; ++i) {
      map.weights.emplace_back();
      std::vector<double>& row = map.weights.back();
      for (std::int64_t j = 0; j < layer.key_lengths[at]; ++j) row.push_back(weights(sentence, head, i, j));
    }
    maps.push_back(std::move(map));
  }
  return maps;
}

void show_trained_layer(const Settings& settings) {
  const examples::TrainedLayer layer(settings.data);
  if (settings.head < 0 || settings.head >= layer.num_heads) {
    throw std::runtime_error("--head is " + std::to_string(settings.head) + ", expected 0 to " +
                             std::to_string(layer.num_heads - 1));
  }
  std::vector<float> output(layer.expected_output.size()), weights(layer.expected_weights.size());
  const auto weight_view =
      TensorView<float, 4>::contiguous(weights.data(), {layer.batch, layer.num_heads, layer.tokens, layer.tokens});
  headwise::multi_head_attention<float>(
      {.query_input = layer.input(),
       .output = TensorView<float, 3>::contiguous(output.data(), {layer.batch, layer.tokens, layer.features}),
       .key_lengths = layer.key_lengths,
       .weights = weight_view},
      layer.weights(), layer.num_heads);

  const std::string caption = "Layer 3 of all-MiniLM-L6-v2, head " + std::to_string(settings.head) + " of " +
                              std::to_string(layer.num_heads) + ": which words each word attends to";
  std::cout << '\n' << caption << '\n';
  const auto maps = heatmaps_of(layer, weight_view, settings.head);
  for (const examples::Heatmap& map : maps) examples::print(std::cout, map);
  examples::write_svg(settings.svg, caption, maps);
  std::cout << "\nThe same as a picture: " << std::filesystem::absolute(settings.svg).string() << '\n' << std::flush;
  std::printf("Largest error against double precision: output %.1e, attention weights %.1e\n",
              largest_difference(output, layer.expected_output), largest_difference(weights, layer.expected_weights));
}

/// Flops per second of fused multiply-adds that keep `threads` threads busy at once.
double measured_peak(int threads) {
  std::vector<double> rates(static_cast<std::size_t>(threads), 0);
  std::vector<std::thread> others;
  const auto measure = [](double& rate) {
    rate = headwise::bench::peak_flops_per_second(headwise::active_isa(), false);
  };
  for (std::size_t i = 1; i < rates.size(); ++i) others.emplace_back(measure, std::ref(rates[i]));
  measure(rates[0]);
  for (std::thread& other : others) other.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

void time_bert_layer(bool quick) {
  examples::BertLayer layer(quick);
  layer.print_size();
  const int threads = headwise::AttentionPlan<float>({.head_dim = 1}).options().num_threads;
  using Clock = std::chrono::steady_clock;
  std::vector<double> milliseconds;
  double peak = 0;
  layer.run();
  for (int repeat = 0; repeat < (quick ? 3 : 21); ++repeat) {
    peak = std::max(peak, measured_peak(threads));
    const auto start = Clock::now();
    layer.run();
    milliseconds.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  const double median = milliseconds[milliseconds.size() / 2];
  const double rate = layer.flops() / (median * 1e-3);
  const headwise::BuildInfo build = headwise::build_info();
  std::printf("  %.1f ms (median of %zu, fastest %.1f)   %.0f GF/s   %.0f %% of the measured peak of %.0f GF/s\n",
              median, milliseconds.size(), milliseconds.front(), rate * 1e-9, 100 * rate / peak, peak * 1e-9);
  std::printf("  %s kernels, %d thread%s; OpenBLAS core %s, variant %s\n", headwise::active_isa(), threads,
              threads == 1 ? "" : "s", build.blas_core.c_str(), build.blas_threading.c_str());
}

}  // namespace

int main(int argc, char** argv) try {
  const Settings settings = parse({argv + 1, argv + argc});
  std::printf("headwise %s\n", headwise::version());
  show_trained_layer(settings);
  time_bert_layer(settings.quick);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "headwise_demo: %s\n", error.what());
  return 1;
}
