// linked_twice <shared object> <shared object>: two shared objects, each with a headwise of its own. Their names do not
// mix, they compute the same at the same time, and one outlives the other.
#include <dlfcn.h>

#include <cstddef>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "linked_twice/part.hpp"

namespace {

class Part {
 public:
  // All that it exports is visible to the others: so names would mix, if any did.
  explicit Part(const char* file) : handle_(dlopen(file, RTLD_NOW | RTLD_GLOBAL)) {
    if (handle_ == nullptr) throw std::runtime_error(dlerror());
    attend_ = function<decltype(&headwise_part_attend)>("headwise_part_attend");
    addresses_ = function<decltype(&headwise_part_addresses)>("headwise_part_addresses");
  }
  void unload() { dlclose(handle_); }

  std::vector<float> attend(int num_threads) const {
    std::vector<float> output(part_outputs, -1);
    attend_(output.data(), num_threads);
    return output;
  }
  PartAddresses addresses() const { return addresses_(); }

 private:
  template <class Function>
  Function function(const char* name) const {
    void* found = dlsym(handle_, name);
    if (found == nullptr) throw std::runtime_error(dlerror());
    return reinterpret_cast<Function>(found);
  }

  void* handle_;
  decltype(&headwise_part_attend) attend_;
  decltype(&headwise_part_addresses) addresses_;
};

void expect(bool held, const char* promise) {
  if (!held) throw std::runtime_error(std::string("not so: ") + promise);
}

void check(const char* first_file, const char* second_file) {
  Part first(first_file);
  const Part second(second_file);
  expect(first.addresses().attention != second.addresses().attention, "each calls an attention() of its own");
  expect(first.addresses().active_isa != second.addresses().active_isa, "each has a choice of its own");

  // The first calls of all, at the same time.
  std::vector<std::vector<float>> outputs(8);
  std::vector<std::thread> threads;
  for (std::size_t n = 0; n < outputs.size(); ++n) {
    threads.emplace_back([&, n] { outputs[n] = (n % 2 == 0 ? first : second).attend(1 + static_cast<int>(n) / 4); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& output : outputs) expect(output == outputs[0], "the same bits from both");

  first.unload();
  expect(second.attend(2) == outputs[0], "the same bits after the other is gone");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 3) throw std::invalid_argument("linked_twice <shared object> <shared object>");
    check(argv[1], argv[2]);
    std::cout << "two copies of headwise in one program: apart, and alike\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
