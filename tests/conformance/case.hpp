/// \file
/// A conformance case as it lies on disk: case.json, which names an operator, its attributes and tensors, and raw
/// tensors beside it (little-endian, C order, no header).
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace headwise::test {

/// An element type of the files.
struct ElementType {
  std::string_view name;  ///< as in case.json: "f16", "bool", …
  std::size_t bytes = 0;
  int precision = 0;          ///< f16, bf16: bits of the significand, the leading one included
  int smallest_exponent = 0;  ///< f16, bf16: of the smallest normal number
};

/// nullptr if there is no such type.
const ElementType* find_element_type(std::string_view name);

/// The number of that type next to x; x itself unless the type is f16 or bf16.
double rounded_to(const ElementType& type, double x);
/// Half the distance between numbers of that type near x; 0 unless the type is f16 or bf16: the bounds of f32 and f64
/// hold for what was computed in them.
double half_unit_in_last_place(const ElementType& type, double x);

struct TensorFile {
  std::string role;  ///< the operator's name of the input or output
  std::string type;
  std::vector<std::int64_t> shape;
  std::filesystem::path file;

  std::int64_t elements() const;
};

struct ExpectedOutput {
  TensorFile values;
  std::string type = {};                   ///< of the operator's output: f16 where the values are its f64 expectation
  bool exact = false;                      ///< the values were computed in double
  std::optional<TensorFile> bound_u = {};  ///< allowed errors in units of u
};

struct Case {
  std::string name;
  std::string operator_name;
  nlohmann::json attributes;
  double rtol = 0, atol = 0;
  std::vector<TensorFile> inputs;
  std::vector<ExpectedOutput> outputs;

  /// nullptr if the case has no such input.
  const TensorFile* input(std::string_view role) const;
};

/// Reads folder/case.json. Unknown keys are passed over; outputs without a file are not there.
/// \throws std::runtime_error or nlohmann::json::exception
Case read_case(const std::filesystem::path& folder);

/// The elements of a tensor, converted to T, which is float, double, std::uint8_t or std::int64_t.
/// \throws std::runtime_error if the file is missing or has another size
template <class T>
std::vector<T> read_elements(const TensorFile& tensor);

}  // namespace headwise::test
