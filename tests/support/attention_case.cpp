#include "support/attention_case.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "support/random.hpp"

namespace headwise::test {

template <class T>
Outputs<T> copy_outputs(const AttentionArguments<T>& arguments) {
  const auto copy = [](const auto& view) { return view ? dense(*view) : std::vector<T>(); };
  return {dense(arguments.output), copy(arguments.logsumexp), copy(arguments.weights), copy(arguments.mean_weights),
          copy(arguments.scores)};
}

namespace {

/// Positions [begin, end).
struct PositionRange {
  std::int64_t begin, end;
};

/// What the runs of sequence b hold.
std::vector<PositionRange> run_ranges(const AttentionCase& problem, std::int64_t b) {
  const std::int64_t keys = problem.shape.key_length;
  if (problem.key_storage == KeyStorage::ring) {
    const std::int64_t shift = keys == 0 ? 0 : (keys / 3 + 50 * b) % keys;
    return {{0, keys - shift}, {keys - shift, keys}};
  }
  Random random(static_cast<std::uint64_t>(keys + b));
  std::vector<PositionRange> ranges;
  for (std::int64_t n = 0, end = 0; n < 4; ++n) {
    const std::int64_t begin = end + (random.yes() ? 0 : random.below((keys - end) / 3 + 1));
    end = begin + (random.below(5) == 0 ? 0 : random.below(keys - begin + 1));
    ranges.push_back({begin, end});
  }
  return ranges;
}

}  // namespace

KeyRunPlaces::KeyRunPlaces(const AttentionCase& problem) {
  for (std::int64_t b = 0; b < problem.shape.batch; ++b) {
    const std::vector<PositionRange> ranges = run_ranges(problem, b);
    for (auto* list : {&first_slot_, &first_position_, &length_}) list->resize(ranges.size());
    for (std::size_t n = 0; n < ranges.size(); ++n) {
      first_slot_[n].push_back(problem.shape.key_length - ranges[n].end);
      first_position_[n].push_back(ranges[n].begin);
      length_[n].push_back(ranges[n].end - ranges[n].begin);
    }
  }
}

template <class T>
AttentionTensors<T>::AttentionTensors(const AttentionCase& problem) : problem_(problem), options_(problem) {
  const AttentionShape& s = problem.shape;
  const bool ragged = problem.is_ragged();
  const std::int64_t token_batch = ragged ? 1 : s.batch, key_batch = problem.one_key_sequence ? 1 : token_batch;
  const std::int64_t queries = ragged ? problem.query_starts.back() : s.query_length;
  const std::int64_t keys = ragged ? problem.key_starts.back() : s.key_length;
  const std::array query{token_batch, s.num_heads, queries, s.head_dim};
  const std::array key{key_batch, s.num_kv_heads, keys, s.head_dim};
  const std::array value{key_batch, s.num_kv_heads, keys, s.value_dim};
  int made = 0;
  const auto tensor = [&]<std::size_t Rank>(const std::array<std::int64_t, Rank>& extents) {
    return make_tensor<T, static_cast<int>(Rank)>(extents, problem.layout_of(made++), problem.placement);
  };
  const bool packed = problem.layout == Layout::packed_qkv && problem.layout_step == 0;
  inputs_ = packed ? make_packed_inputs<T>(query, key, value, problem.placement)
                   : InputTensors<T>{tensor(query), tensor(key), tensor(value)};
  output_ = tensor(std::array{token_batch, s.num_heads, queries, s.value_dim});
  const std::array scores_shaped{s.batch, s.num_heads, s.query_length, s.key_length};
  if (problem.logsumexp) logsumexp_ = tensor(std::array{token_batch, s.num_heads, queries});
  if (problem.weights) weights_ = tensor(scores_shaped);
  if (problem.mean_weights) mean_weights_ = tensor(std::array{s.batch, s.query_length, s.key_length});
  if (problem.scores) scores_ = tensor(scores_shaped);
  if (problem.key_storage != KeyStorage::tensor) {
    places_ = KeyRunPlaces(problem);
    runs_ = places_.runs<T>(over_batch(this->key()), over_batch(this->value()));
  }
}

template <class T>
AttentionArguments<T> AttentionTensors<T>::arguments() const {
  AttentionArguments<T> arguments;
  arguments.query = query();
  if (runs_.empty()) {
    arguments.key = over_batch(key());
    arguments.value = over_batch(value());
  }
  arguments.key_runs = runs_;
  arguments.output = output_.view;
  arguments.key_lengths = problem_.key_lengths;
  arguments.query_offsets = problem_.query_offsets;
  arguments.query_starts = problem_.query_starts;
  arguments.key_starts = problem_.key_starts;
  options_.add_to(arguments, problem_.shape);
  if (logsumexp_) arguments.logsumexp = logsumexp_->view;
  if (weights_) arguments.weights = weights_->view;
  if (mean_weights_) arguments.mean_weights = mean_weights_->view;
  if (scores_) arguments.scores = scores_->view;
  return arguments;
}

template <class T>
void AttentionTensors<T>::fill(std::uint64_t seed) {
  Random random(seed);
  for (const auto& view : {query(), key(), value()}) fill_normal(random, view);
  const auto fill_with_nan = [&](std::size_t b, std::int64_t begin, std::int64_t end) {
    const auto batch = static_cast<std::int64_t>(b);
    for (const auto& view : {key(), value()}) {
      fill_with(view.slice(0, batch, batch + 1).slice(2, begin, end), std::numeric_limits<T>::quiet_NaN());
    }
  };
  for (std::size_t b = 0; b < problem_.key_lengths.size(); ++b) {
    fill_with_nan(b, problem_.key_lengths[b], key().extent(2));
  }
  for (std::size_t b = 0; !runs_.empty() && b < static_cast<std::size_t>(problem_.shape.batch); ++b) {
    for (std::int64_t slot = 0; slot < key().extent(2); ++slot) {
      if (!places_.holds(b, slot)) fill_with_nan(b, slot, slot + 1);
    }
  }
  options_.fill(random);
}

template <class T>
void AttentionTensors<T>::make_inputs_read_only() {
  for (const auto* tensor : {&inputs_.query, &inputs_.key, &inputs_.value}) tensor->buffer->make_read_only();
  options_.make_read_only();
}

template <class T>
void AttentionTensors<T>::poison_outputs() {
  const auto poison = [](const auto& tensor) {
    if (tensor) tensor->buffer->poison();
  };
  output_.buffer->poison();
  poison(logsumexp_);
  poison(weights_);
  poison(mean_weights_);
  poison(scores_);
}

template <class T>
Outputs<T> AttentionTensors<T>::run(int num_threads, std::int64_t spare_keys) {
  poison_outputs();
  AttentionOptions options = problem_.options;
  options.num_threads = num_threads;
  AttentionShape planned = problem_.shape;
  planned.key_length += spare_keys;
  const AttentionPlan<T> plan(planned, options);
  if (num_runs_++ % 2 == 0) {
    const auto bytes = static_cast<std::int64_t>(plan.workspace_bytes());
    const GuardedBuffer<std::uint8_t> workspace(bytes, Placement::before_guard);
    plan.run(arguments(), std::as_writable_bytes(std::span(workspace.data(), plan.workspace_bytes())));
  } else {
    plan.run(arguments());
  }
  return copy_outputs(arguments());
}

template <class T>
bool AttentionTensors<T>::gaps_untouched() const {
  const auto untouched = [](const auto& tensor) { return !tensor || tensor->gaps_untouched(); };
  return output_.gaps_untouched() && untouched(logsumexp_) && untouched(weights_) && untouched(mean_weights_) &&
         untouched(scores_);
}

template <class T>
TensorView<T, 4> AttentionTensors<T>::over_batch(const TensorView<T, 4>& view) const {
  if (problem_.is_ragged()) return view;
  return view.broadcast_to({problem_.shape.batch, view.extent(1), view.extent(2), view.extent(3)});
}

template Outputs<float> copy_outputs(const AttentionArguments<float>&);
template Outputs<double> copy_outputs(const AttentionArguments<double>&);
template class AttentionTensors<float>;
template class AttentionTensors<double>;

}  // namespace headwise::test
