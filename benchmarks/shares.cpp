// Prints what share of the machine's limit attention reaches, case by case: the tool to run after a kernel change.
//
//   headwise_shares [options] [prefix of a case name ...]      without a prefix: all cases
//   HEADWISE_ISA=avx2 headwise_shares prefill-f32-d64 causal
//   headwise_shares options-f32                                what every option costs beside the plain call
//
// --threads=N, --repeats=N, --list: only the names; --thread-time: count only the time on a processor, for one thread
// on a machine that is busy with something else.
//
// The limit (peak of multiply-adds, or read bandwidth for decode) is read again right before and after every sample,
// because clock rates and neighbours change within seconds. Options are compared with a call without them, taken right
// before and after.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "support/cases.hpp"
#include "support/clock.hpp"
#include "support/machine_peak.hpp"
#include "support/option_cases.hpp"
#include "support/read_bandwidth.hpp"

namespace headwise::bench {
namespace {

struct Options {
  int threads = 1;
  int repeats = 12;
  bool list = false;
  bool thread_time = false;
  std::vector<std::string> prefixes;

  auto clock() const { return thread_time ? bench::thread_time : now; }
};

constexpr double shortest_sample = 0.005;  // seconds

struct Result {
  std::vector<double> shares;  // of the limit, 1 = reached
  std::vector<double> rates;   // operations or bytes a second
  double error = 0;
};

// Seconds per call, in a sample of `calls` calls.
double seconds_per_call(const Options& options, const std::function<void()>& call, int calls) {
  const auto clock = options.clock();
  const double begin = clock();
  for (int i = 0; i < calls; ++i) call();
  return (clock() - begin) / calls;
}

int calls_per_sample(const Options& options, const std::function<void()>& call) {
  call();
  return std::max(1, static_cast<int>(shortest_sample / seconds_per_call(options, call, 1) + 1));
}

Result arithmetic_shares(const Case& test, const Options& options, const std::function<void()>& call) {
  const auto peak = [&] { return options.threads * peak_flops_per_second(active_isa(), test.is_double); };
  const double flops = useful_flops(test.shape, test.causal);
  const int calls = calls_per_sample(options, call);
  Result result;
  for (int i = 0; i < options.repeats; ++i) {
    const double before = peak();
    if (options.threads > 1) call();  // wakes the workers
    const double rate = flops / seconds_per_call(options, call, calls);
    const double after = peak();
    result.rates.push_back(rate);
    result.shares.push_back(rate / ((before + after) / 2));
  }
  return result;
}

// `bandwidth_sample` reads memory like the caches of the case.
Result bandwidth_shares(const Case& test, double bytes, const Options& options, const std::function<void()>& call,
                        const std::function<void(ReadBandwidth&)>& bandwidth_sample) {
  const int calls = calls_per_sample(options, call);
  ReadBandwidth bandwidth(options.threads, test.limit == Limit::cache, options.clock());
  Result result;
  for (int i = 0; i < options.repeats; ++i) {
    bandwidth_sample(bandwidth);
    if (options.threads > 1) call();  // wakes the workers
    result.rates.push_back(bytes / seconds_per_call(options, call, calls));
  }
  bandwidth_sample(bandwidth);
  for (const double rate : result.rates) result.shares.push_back(rate / bandwidth.bytes_per_second());
  return result;
}

template <class T>
Result measure(const Case& test, const Options& options) {
  const std::int64_t bytes = cache_bytes(test.shape, sizeof(T));
  const AttentionTensors<T> tensors(test.shape, test.layout,
                                    test.limit == Limit::memory ? copies_out_of_cache(bytes) : 1);
  const AttentionPlan<T> plan(test.shape, {.causal = test.causal, .num_threads = options.threads});
  const AlignedBuffer<std::byte> workspace(plan.workspace_bytes());
  plan.run(tensors.arguments(), workspace.span());
  const double error = largest_error(tensors.arguments(), test.causal);

  std::int64_t copy = 0;
  const auto call = [&] { plan.run(tensors.arguments(copy++), workspace.span()); };
  Result result = test.limit == Limit::arithmetic
                      ? arithmetic_shares(test, options, call)
                      : bandwidth_shares(test, static_cast<double>(bytes), options, call,
                                         [&](ReadBandwidth& bandwidth) { bandwidth.sample(tensors.cache(copy++)); });
  result.error = error;
  return result;
}

void print(const Case& test, const Options& options, const Result& result) {
  const auto [least, most] = std::ranges::minmax(result.shares);
  const double middle = median(result.shares);
  const std::string name = test.name + (options.threads > 1 ? "-t" + std::to_string(options.threads) : "");
  const double largest_acceptable_error = test.is_double ? 1e-14 : 3e-6;
  std::printf("%-38s %6.1f %%  (%5.1f … %5.1f)  %7.1f %s  error %.1e%s%s\n", name.c_str(), 100 * middle, 100 * least,
              100 * most, median(result.rates) * 1e-9, test.limit == Limit::arithmetic ? "GF/s" : "GB/s", result.error,
              result.error < largest_acceptable_error ? "" : "  WRONG RESULT",
              test.limit == Limit::arithmetic && middle > 0.98 ? "  MEASURING FAULT" : "");
  std::fflush(stdout);
}

// Time per useful operation with and without an option, in turns, and their ratio.
template <class T>
void print_option(const OptionCase<T>& test, const Options& options) {
  const auto with = test.make(), without = test.make_baseline();
  with->prepare(options.threads);
  without->prepare(options.threads);
  const std::function<void()> call = [&] { with->run(); }, baseline = [&] { without->run(); };
  const int calls = calls_per_sample(options, call), baseline_calls = calls_per_sample(options, baseline);
  std::vector<double> ratios, rates;
  for (int i = 0; i < options.repeats; ++i) {
    const double before = without->flops / seconds_per_call(options, baseline, baseline_calls);
    const double rate = with->flops / seconds_per_call(options, call, calls);
    const double after = without->flops / seconds_per_call(options, baseline, baseline_calls);
    rates.push_back(rate);
    ratios.push_back((before + after) / 2 / rate);
  }
  const auto [least, most] = std::ranges::minmax(ratios);
  std::printf("%-38s %6.2f x  (%5.2f … %5.2f)  %7.1f GF/s\n", test.name.c_str(), median(ratios), least, most,
              median(rates) * 1e-9);
  std::fflush(stdout);
}

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = words[i];
    const auto number = [&] { return std::stoi(std::string(word.substr(word.find('=') + 1))); };
    if (word.starts_with("--threads=")) {
      options.threads = number();
    } else if (word.starts_with("--repeats=")) {
      options.repeats = number();
    } else if (word == "--list") {
      options.list = true;
    } else if (word == "--thread-time") {
      options.thread_time = true;
    } else if (word.starts_with("-")) {
      throw std::invalid_argument(std::string(word) +
                                  ": expected --threads=N, --repeats=N, --list, --thread-time or a case");
    } else {
      options.prefixes.emplace_back(word);
    }
  }
  if (options.threads < 1 || options.repeats < 1) throw std::invalid_argument("threads and repeats must be positive");
  if (options.thread_time && options.threads > 1) throw std::invalid_argument("--thread-time is for one thread");
  return options;
}

bool is_chosen(const std::string& name, const Options& options) {
  return options.prefixes.empty() ||
         std::ranges::any_of(options.prefixes, [&](const std::string& prefix) { return name.starts_with(prefix); });
}

// Prints every chosen case, or its name.
template <class Cases, class Print>
void for_each_chosen(const Cases& cases, const Options& options, const Print& print_case) {
  for (const auto& test : cases) {
    if (!is_chosen(test.name, options)) continue;
    if (options.list) {
      std::printf("%s\n", test.name.c_str());
    } else {
      print_case(test);
    }
  }
}

void run(const Options& options) {
  if (!options.list) {
    std::printf("%s, %d thread%s: median share of the limit (minimum … maximum of %d samples), for options-* the time\n"
                "per useful operation as a multiple of the plain call's\n",
                active_isa(), options.threads, options.threads > 1 ? "s" : "", options.repeats);
  }
  for_each_chosen(all_cases(), options, [&](const Case& test) {
    print(test, options, test.is_double ? measure<double>(test, options) : measure<float>(test, options));
  });
  const auto print_any_option = [&](const auto& test) { print_option(test, options); };
  for_each_chosen(option_cases<float>(), options, print_any_option);
  for_each_chosen(option_cases<double>(), options, print_any_option);
}

}  // namespace
}  // namespace headwise::bench

int main(int count, char** words) {
  try {
    headwise::bench::run(headwise::bench::parse(count, words));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "headwise_shares: %s\n", error.what());
    return 1;
  }
}
