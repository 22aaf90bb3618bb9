#include "conformance/case.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <utility>

namespace headwise::test {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little);

constexpr std::array element_types{
    ElementType{"f16", 2, 11, -14}, ElementType{"bf16", 2, 8, -126}, ElementType{"f32", 4}, ElementType{"f64", 8},
    ElementType{"bool", 1},         ElementType{"u8", 1},            ElementType{"i8", 1},  ElementType{"i32", 4},
    ElementType{"i64", 8}};

/// A number of type f16 or bf16.
double decode_16_bits(std::uint16_t bits, const ElementType& type) {
  const int fraction_bits = type.precision - 1;
  const int exponent_bits = 15 - fraction_bits;
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = (bits >> 15) == 0 ? 1 : -1;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  const int significand = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
  return sign * std::ldexp(significand, std::max(exponent, 1) - 1 + type.smallest_exponent - fraction_bits);
}

template <class Element>
Element load(const char* bytes) {
  Element element;
  std::memcpy(&element, bytes, sizeof element);
  return element;
}

template <class Element, class T>
void convert(const std::vector<char>& bytes, std::vector<T>& elements) {
  for (std::size_t i = 0; i < elements.size(); ++i) {
    elements[i] = static_cast<T>(load<Element>(bytes.data() + i * sizeof(Element)));
  }
}

template <class T>
void decode(const ElementType& type, const std::vector<char>& bytes, std::vector<T>& elements) {
  if (type.name == "f32") return convert<float>(bytes, elements);
  if (type.name == "f64") return convert<double>(bytes, elements);
  if (type.name == "u8" || type.name == "bool") return convert<std::uint8_t>(bytes, elements);
  if (type.name == "i8") return convert<std::int8_t>(bytes, elements);
  if (type.name == "i32") return convert<std::int32_t>(bytes, elements);
  if (type.name == "i64") return convert<std::int64_t>(bytes, elements);
  for (std::size_t i = 0; i < elements.size(); ++i) {
    elements[i] = static_cast<T>(decode_16_bits(load<std::uint16_t>(bytes.data() + 2 * i), type));
  }
}

TensorFile read_tensor(const json& entry, const std::filesystem::path& folder) {
  return {.role = entry.value("role", entry.value("name", "")),
          .type = entry.value("dtype", ""),
          .shape = entry.value("shape", std::vector<std::int64_t>{}),
          .file = folder / entry.at("file").get<std::string>()};
}

/// The tensors of a list in case.json, which need not be there. An entry without a file is no tensor.
std::vector<std::pair<TensorFile, json>> read_tensors(const json& parent, const char* key,
                                                      const std::filesystem::path& folder) {
  std::vector<std::pair<TensorFile, json>> tensors;
  for (const json& entry : parent.value(key, json::array())) {
    const auto file = entry.find("file");
    if (file != entry.end() && file->is_string()) tensors.emplace_back(read_tensor(entry, folder), entry);
  }
  return tensors;
}

/// bound_u of an entry of outputs or outputs_f64; of the whole case it belongs to Y unless it has a role of its own.
void read_bound(ExpectedOutput& output, const json& holder, const std::filesystem::path& folder, bool whole_case) {
  const auto bound = holder.find("bound_u");
  if (bound == holder.end() || !bound->is_object()) return;
  if (whole_case && bound->value("role", "Y") != output.values.role) return;
  output.bound_u = TensorFile{"bound_u of " + output.values.role, "f64", output.values.shape,
                              folder / bound->at("file").get<std::string>()};
}

}  // namespace

const ElementType* find_element_type(std::string_view name) {
  const auto* type = std::find_if(element_types.begin(), element_types.end(),
                                  [name](const ElementType& candidate) { return candidate.name == name; });
  return type == element_types.end() ? nullptr : type;
}

double half_unit_in_last_place(const ElementType& type, double x) {
  if (type.precision == 0 || !std::isfinite(x)) return 0;
  const int exponent = x == 0 ? type.smallest_exponent : std::max(std::ilogb(x), type.smallest_exponent);
  return std::ldexp(1, exponent - type.precision);
}

double rounded_to(const ElementType& type, double x) {
  const double unit = 2 * half_unit_in_last_place(type, x);
  if (unit == 0) return x;
  const double rounded = unit * std::nearbyint(x / unit);
  const double overflow = std::ldexp(1, 2 - type.smallest_exponent);
  return std::abs(rounded) < overflow ? rounded : std::copysign(std::numeric_limits<double>::infinity(), x);
}

std::int64_t TensorFile::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

const TensorFile* Case::input(std::string_view role) const {
  const auto found = std::find_if(inputs.begin(), inputs.end(), [role](const TensorFile& t) { return t.role == role; });
  return found == inputs.end() ? nullptr : &*found;
}

Case read_case(const std::filesystem::path& folder) {
  std::ifstream file(folder / "case.json");
  if (!file) throw std::runtime_error((folder / "case.json").string() + " cannot be read");
  const json description = json::parse(file);

  Case result;
  result.name = description.value("name", folder.filename().string());
  result.operator_name = description.value("op", "");
  result.attributes = description.value("attributes", json::object());
  result.rtol = description.value("rtol", 1e-3);
  result.atol = description.value("atol", 1e-7);
  for (const auto& [tensor, entry] : read_tensors(description, "inputs", folder)) result.inputs.push_back(tensor);

  std::vector<ExpectedOutput>& outputs = result.outputs;
  for (const auto& [tensor, entry] : read_tensors(description, "outputs", folder)) {
    outputs.push_back({.values = tensor, .type = tensor.type});
    read_bound(outputs.back(), entry, folder, false);
  }
  const TensorFile* query = result.input("Q");
  for (const auto& [tensor, entry] : read_tensors(description, "outputs_f64", folder)) {
    const auto same_role = [&role = tensor.role](const ExpectedOutput& output) { return output.values.role == role; };
    auto output = std::find_if(outputs.begin(), outputs.end(), same_role);
    if (output == outputs.end()) {
      output = outputs.insert(output, {.values = tensor, .type = query == nullptr ? tensor.type : query->type});
    }
    output->values = tensor;
    output->exact = true;
    read_bound(*output, entry, folder, false);
  }
  for (ExpectedOutput& output : outputs) {
    if (!output.bound_u) read_bound(output, description, folder, true);
  }
  return result;
}

template <class T>
std::vector<T> read_elements(const TensorFile& tensor) {
  const ElementType* type = find_element_type(tensor.type);
  if (type == nullptr) throw std::runtime_error(tensor.role + " has the unknown type " + tensor.type);
  std::ifstream file(tensor.file, std::ios::binary);
  if (!file) throw std::runtime_error(tensor.file.string() + " cannot be read");
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto count = static_cast<std::size_t>(tensor.elements());
  if (bytes.size() != count * type->bytes) {
    throw std::runtime_error(tensor.file.string() + " has " + std::to_string(bytes.size()) + " bytes, expected " +
                             std::to_string(count * type->bytes));
  }
  std::vector<T> elements(count);
  decode(*type, bytes, elements);
  return elements;
}

template std::vector<float> read_elements(const TensorFile&);
template std::vector<double> read_elements(const TensorFile&);
template std::vector<std::uint8_t> read_elements(const TensorFile&);
template std::vector<std::int64_t> read_elements(const TensorFile&);

}  // namespace headwise::test
