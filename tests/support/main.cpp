// The test program. It fails when no test case ran: a filter that matches nothing must not look like success.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdint>
#include <iostream>

#include "support/environment.hpp"

namespace {

unsigned test_cases_run = 0;

struct CountingListener : doctest::IReporter {
  explicit CountingListener(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData&) override { ++test_cases_run; }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException& exception) override {
    const std::uint64_t seed = headwise::test::seed_in_use;
    if (exception.is_crash && seed > 0) std::cerr << "HEADWISE_TEST_SEEDS=" << seed << '\n';
  }
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("counting", 1, CountingListener);

}  // namespace

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit()) return result;  // a query, such as --list-test-cases
  if (result == 0 && test_cases_run == 0) {
    std::cerr << "no test case ran\n";
    return 1;
  }
  return result;
}
