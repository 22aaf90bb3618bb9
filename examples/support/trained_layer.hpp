// A trained attention layer and two real sentences, from .npy files.
#pragma once

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "headwise/headwise.hpp"
#include "support/npy.hpp"

namespace examples {

/// The files of a folder; its README names them.
class TrainedLayer {
 public:
  /// \throws std::runtime_error naming the file that is missing or not as expected.
  explicit TrainedLayer(const std::string& folder) : folder_(folder) {
    std::ifstream file(folder + "/about.json");
    if (!file) throw std::runtime_error(folder + "/about.json: cannot be opened");
    about = nlohmann::json::parse(file);
    num_heads = about.at("num_heads").get<std::int64_t>();
    const headwise::test::NpyArray x = load("x", 3);
    batch = x.shape[0], tokens = x.shape[1], features = x.shape[2];
    key_lengths = load("key_lengths", 1).as<std::int64_t>();
    for (const char* part : {"query", "key", "value", "output"}) {
      parts_.push_back(
          {load(std::string("weight_") + part, 2).as<float>(), load(std::string("bias_") + part, 1).as<float>()});
      if (parts_.back().weight.size() != static_cast<std::size_t>(features * features)) {
        throw std::runtime_error(std::string("weight_") + part + ".npy: not as wide as x.npy");
      }
    }
    input_ = x.as<float>();
    expected_output = load("expected_output", 3).as<double>();
    expected_weights = load("expected_weights", 4).as<double>();
  }

  headwise::TensorView<const float, 3> input() const {
    return headwise::TensorView<const float, 3>::contiguous(input_.data(), {batch, tokens, features});
  }
  headwise::MultiHeadAttentionWeights<float> weights() const {
    return {.query = projection(0), .key = projection(1), .value = projection(2), .output = projection(3)};
  }

  nlohmann::json about;
  std::int64_t batch = 0, tokens = 0, features = 0, num_heads = 0;
  std::vector<std::int64_t> key_lengths;
  std::vector<double> expected_output, expected_weights;

 private:
  struct Part {
    std::vector<float> weight, bias;
  };

  headwise::test::NpyArray load(const std::string& name, std::size_t rank) const {
    headwise::test::NpyArray array = headwise::test::load_npy(folder_ + "/" + name + ".npy");
    if (array.shape.size() != rank) throw std::runtime_error(name + ".npy: expected " + std::to_string(rank) + " axes");
    return array;
  }
  headwise::Projection<float> projection(std::size_t part) const {
    const auto weight =
        headwise::TensorView<const float, 2>::contiguous(parts_[part].weight.data(), {features, features});
    return {.weight = weight, .order = headwise::WeightOrder::out_in, .bias = parts_[part].bias};
  }

  std::string folder_;
  std::vector<float> input_;
  std::vector<Part> parts_;
};

}  // namespace examples
