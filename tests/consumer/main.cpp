// Uses the library as a user would: attention (kernels, OpenMP) and a projection (BLAS) with results known by heart,
// and facts of build_info() given as arguments, such as threading=serial.
#include <array>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "headwise/headwise.hpp"

namespace {

// One query that scores both keys alike gets the mean of their values.
bool attention_is_right() {
  std::array<float, 2> query{1, 0}, output{};
  std::array<float, 4> key{0, 1, 0, -1}, value{1, 10, 3, 30};
  headwise::attention<float>(headwise::TensorView<float, 4>::contiguous(query.data(), {1, 1, 1, 2}),
                             headwise::TensorView<float, 4>::contiguous(key.data(), {1, 1, 2, 2}),
                             headwise::TensorView<float, 4>::contiguous(value.data(), {1, 1, 2, 2}),
                             headwise::TensorView<float, 4>::contiguous(output.data(), {1, 1, 1, 2}));
  return std::abs(output[0] - 2) < 1e-5F && std::abs(output[1] - 20) < 1e-4F;
}

bool projection_is_right() {
  const std::array<double, 2> input{1, 2};
  const std::array<double, 4> weight{1, 2, 3, 4};
  std::array<double, 2> output{};
  headwise::Projection<double> projection;
  projection.weight = headwise::TensorView<const double, 2>::contiguous(weight.data(), {2, 2});
  headwise::project<double>(headwise::TensorView<const double, 3>::contiguous(input.data(), {1, 1, 2}), projection,
                            headwise::TensorView<double, 3>::contiguous(output.data(), {1, 1, 2}));
  return output[0] == 7 && output[1] == 10;
}

bool facts_are_right(const std::vector<std::string>& expected) {
  const headwise::BuildInfo info = headwise::build_info();
  const std::vector<std::string> facts{"threading=" + info.threading, "blas_threading=" + info.blas_threading};
  bool right = true;
  for (const std::string& fact : expected) {
    if (fact == facts[0] || fact == facts[1]) continue;
    std::cout << "expected " << fact << ", built with " << facts[0] << " and " << facts[1] << '\n';
    right = false;
  }
  return right;
}

}  // namespace

int main(int count, char** arguments) {
  const bool attention = attention_is_right();
  const bool projection = projection_is_right();
  std::cout << "headwise " << headwise::version() << ", " << headwise::active_isa() << ": attention "
            << (attention ? "right" : "wrong") << ", projection " << (projection ? "right" : "wrong") << '\n';
  return attention && projection && facts_are_right({arguments + 1, arguments + count}) ? 0 : 1;
}
