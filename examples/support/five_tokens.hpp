// Five tokens of six features and the three weight matrices of exercises 1 and 2, row-major.
#pragma once

#include <vector>

// clang-format off
namespace examples::five_tokens {

inline const std::vector<double> x = {
     0.7, -0.8, -1.2, -1.0,  0.0, -0.3,
     2.7,  0.1,  1.6,  1.8,  1.5,  0.3,
     0.1,  2.6, -0.1, -1.3, -0.5, -0.7,
     1.1,  1.5,  1.0, -0.5,  0.4,  0.4,
    -0.7, -0.7,  0.7, -1.5, -0.8,  1.0};

inline const std::vector<double> weights_query = {
    -1.7,  1.6,  0.9, -0.5,  0.4, -1.0,
    -0.4,  1.0, -0.3,  1.0,  0.5,  1.1,
     0.4, -0.9, -1.0,  0.5, -1.4,  0.0,
     0.3,  1.4, -1.2,  0.2,  0.1,  1.6,
    -0.8,  0.8, -0.7, -1.3,  0.3,  0.8,
     1.1,  0.3, -1.5, -2.3,  2.2, -0.7};

inline const std::vector<double> weights_key = {
     0.3, -0.4, -1.3,  0.3, -1.7,  1.1,
    -2.3, -1.1,  0.6, -1.2,  2.2,  0.3,
     1.1, -0.4, -0.5,  1.9, -1.1, -1.2,
    -0.4,  1.0, -1.7,  0.0, -3.3, -1.4,
    -0.9, -1.1, -1.0,  1.4,  1.3,  1.2,
    -0.7,  0.4,  0.4, -1.4, -0.2, -0.5};

inline const std::vector<double> weights_value = {
    -0.1,  0.7,  1.0, -0.1,  1.6,  0.9,
     0.4, -1.0, -0.7, -0.6, -0.9, -0.1,
    -0.4,  0.5, -1.4,  0.1,  0.6,  0.4,
     1.4, -1.3, -1.3, -0.6,  1.6, -0.2,
    -0.4, -0.6, -1.4, -1.0,  0.4, -0.8,
     0.2,  0.5,  0.4, -0.5,  1.4,  2.3};

}  // namespace examples::five_tokens
