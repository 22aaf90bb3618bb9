#include "support/npy.hpp"

#include <bit>
#include <cctype>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string_view>

namespace headwise::test {
namespace {

static_assert(std::endian::native == std::endian::little, "elements are copied as they are stored");

[[noreturn]] void fail(const std::string& reason) { throw std::runtime_error("npy: " + reason); }

struct Header {
  std::string type;
  std::vector<std::int64_t> shape;
};

/// Reads the one Python dictionary literal that NumPy writes: {'descr': '<f4', 'fortran_order': False, 'shape': (2,)}.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  Header parse() {
    Header header;
    bool has_type = false;
    bool has_order = false;
    bool has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !has_type) {
        has_type = true;
        header.type = quoted();
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        if (word() != "False") fail("fortran_order is not False: only C order is read");
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        header.shape = extents();
      } else {
        fail("unexpected or repeated header key '" + key + "'");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (!text_.empty()) fail("text after the header dictionary");
    if (!has_type || !has_order || !has_shape) fail("header lacks descr, fortran_order or shape");
    return header;
  }

 private:
  void skip_space() {
    while (!text_.empty() && std::isspace(static_cast<unsigned char>(text_.front())) != 0) text_.remove_prefix(1);
  }

  bool accept(char wanted) {
    skip_space();
    if (text_.empty() || text_.front() != wanted) return false;
    text_.remove_prefix(1);
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail(std::string("header: expected '") + wanted + "'");
  }

  std::string quoted() {
    expect('\'');
    const std::size_t end = text_.find('\'');
    if (end == std::string_view::npos) fail("header: string without end");
    std::string content(text_.substr(0, end));
    text_.remove_prefix(end + 1);
    return content;
  }

  std::string word() {
    skip_space();
    std::size_t length = 0;
    while (length < text_.size() && std::isalpha(static_cast<unsigned char>(text_[length])) != 0) ++length;
    std::string content(text_.substr(0, length));
    text_.remove_prefix(length);
    return content;
  }

  std::vector<std::int64_t> extents() {
    std::vector<std::int64_t> shape;
    expect('(');
    while (!accept(')')) {
      skip_space();
      std::int64_t extent = 0;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), extent);
      if (error != std::errc() || extent < 0) fail("header: shape holds something that is no extent");
      text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
      shape.push_back(extent);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  std::string_view text_;
};

/// Splits off the magic string, the version and the header; `bytes` keeps the elements.
std::string_view take_header(std::span<const std::byte>& bytes) {
  constexpr std::string_view magic = "\x93NUMPY";
  if (bytes.size() < 10 || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) fail("no .npy file");
  const int version = std::to_integer<int>(bytes[6]);
  if (version < 1 || version > 3) fail("version " + std::to_string(version) + " is unknown");
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  if (bytes.size() < 8 + length_bytes) fail("file ends within the header");
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) length |= std::to_integer<std::size_t>(bytes[8 + i]) << (8 * i);
  bytes = bytes.subspan(8 + length_bytes);
  if (bytes.size() < length) fail("file ends within the header");
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()), length);
  bytes = bytes.subspan(length);
  return header;
}

template <class T>
std::vector<T> read_elements(std::span<const std::byte> bytes, const std::vector<std::int64_t>& shape) {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) {
    if (__builtin_mul_overflow(count, static_cast<std::size_t>(extent), &count)) fail("shape has too many elements");
  }
  if (bytes.size() % sizeof(T) != 0 || bytes.size() / sizeof(T) != count) {
    fail("holds " + std::to_string(bytes.size()) + " bytes of elements, the shape asks for " + std::to_string(count) +
         " elements of " + std::to_string(sizeof(T)));
  }
  std::vector<T> elements(count);
  if (count > 0) std::memcpy(elements.data(), bytes.data(), bytes.size());
  return elements;
}

}  // namespace

NpyArray parse_npy(std::span<const std::byte> bytes) {
  Header header = HeaderParser(take_header(bytes)).parse();
  NpyArray array{std::move(header.shape), {}};
  if (header.type == "<f4") {
    array.elements = read_elements<float>(bytes, array.shape);
  } else if (header.type == "<f8") {
    array.elements = read_elements<double>(bytes, array.shape);
  } else if (header.type == "<i8") {
    array.elements = read_elements<std::int64_t>(bytes, array.shape);
  } else {
    fail("element type '" + header.type + "' is not read: only <f4, <f8 and <i8");
  }
  return array;
}

NpyArray load_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
  try {
    return parse_npy(std::as_bytes(std::span(content)));
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(path + ": " + error.what());
  }
}

}  // namespace headwise::test
