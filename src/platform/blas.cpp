#include "platform/blas.hpp"

#include <algorithm>
#include <array>
#include <cblas.h>
#include <limits>
#include <optional>
#include <stdexcept>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "platform/task_environment.hpp"

namespace headwise::detail {
namespace {

/// Limits the threads of BLAS calls made by this thread, by the thread's own OpenMP limit: that is what an OpenBLAS
/// built on OpenMP reads at each call. openblas_set_num_threads would change the whole process and not last.
class ThreadLimit {
 public:
#ifdef _OPENMP
  explicit ThreadLimit(int num_threads) : before_(omp_get_max_threads()) {
    // OpenBLAS keeps a buffer per thread, so an absurd number must not reach it.
    if (num_threads > 0) omp_set_num_threads(std::min(num_threads, std::max(before_, omp_get_num_procs())));
  }
  ~ThreadLimit() { omp_set_num_threads(before_); }
#else
  explicit ThreadLimit(int) {}
#endif
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
#ifdef _OPENMP
  int before_;
#endif
};

/// Puts the threads that BLAS will use beside this one into a TaskEnvironment, as far as they are OpenMP's: they keep
/// the mode of the thread that once created them. Needed where this thread was in an odd mode; else they are taken to
/// be in the default one, as headwise creates them: visiting them would cost small products more than they take.
class TeamEnvironment {
 public:
#ifdef _OPENMP
  TeamEnvironment() : threads_(std::min(omp_get_max_threads(), most_threads)) {
    omp_set_num_threads(threads_);
    if (threads_ == 1) return;
#pragma omp parallel num_threads(threads_)
    environments_[static_cast<std::size_t>(omp_get_thread_num())].emplace();
  }
  ~TeamEnvironment() {
    if (threads_ == 1) return;
#pragma omp parallel num_threads(threads_)
    environments_[static_cast<std::size_t>(omp_get_thread_num())].reset();
  }
#else
  TeamEnvironment() {}
#endif
  TeamEnvironment(const TeamEnvironment&) = delete;
  TeamEnvironment& operator=(const TeamEnvironment&) = delete;

 private:
#ifdef _OPENMP
  static constexpr int most_threads = 256;  // in such a mode: there is no memory to ask for in the middle of a call
  int threads_;
  std::array<std::optional<TaskEnvironment>, most_threads> environments_;
#endif
};

// OpenBLAS reports a bad leading dimension by a line on the terminal and leaves C as it was.
void check_stride(const char* name, std::int64_t stride, std::int64_t row_length) {
  if (stride >= std::max<std::int64_t>(row_length, 1) && stride <= max_leading_dimension()) return;
  throw std::invalid_argument(std::string("headwise: gemm: ") + name + " is " + std::to_string(stride) + ", expected " +
                              std::to_string(std::max<std::int64_t>(row_length, 1)) + " to " +
                              std::to_string(max_leading_dimension()));
}

void call_blas(CBLAS_TRANSPOSE b_order, blasint rows, blasint columns, blasint inner, const float* a, blasint lda,
               const float* b, blasint ldb, float beta, float* c, blasint ldc) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, b_order, rows, columns, inner, 1.0F, a, lda, b, ldb, beta, c, ldc);
}

void call_blas(CBLAS_TRANSPOSE b_order, blasint rows, blasint columns, blasint inner, const double* a, blasint lda,
               const double* b, blasint ldb, double beta, double* c, blasint ldc) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, b_order, rows, columns, inner, 1.0, a, lda, b, ldb, beta, c, ldc);
}

std::string threading_name(int parallel) {
  switch (parallel) {
    case OPENBLAS_OPENMP: return "openmp";
    case OPENBLAS_THREAD: return "pthread";
    default: return "serial";
  }
}

}  // namespace

std::int64_t max_leading_dimension() { return std::numeric_limits<blasint>::max(); }

template <class T>
void gemm(const GemmArguments<T>& arguments, int num_threads) {
  check_stride("a_stride", arguments.a_stride, arguments.inner);
  check_stride("b_stride", arguments.b_stride, arguments.b_transposed ? arguments.inner : arguments.columns);
  check_stride("c_stride", arguments.c_stride, arguments.columns);

  const ThreadLimit limit(num_threads);
  const TaskEnvironment environment;
  std::optional<TeamEnvironment> team;
  if (environment.changes()) team.emplace();
  const CBLAS_TRANSPOSE b_order = arguments.b_transposed ? CblasTrans : CblasNoTrans;
  // Strides within the limit bound columns and inner too; only the rows can be too many for one call.
  const std::int64_t most_rows = max_leading_dimension();
  for (std::int64_t row = 0; row < arguments.rows; row += most_rows) {
    call_blas(b_order, static_cast<blasint>(std::min(most_rows, arguments.rows - row)),
              static_cast<blasint>(arguments.columns), static_cast<blasint>(arguments.inner),
              arguments.a + row * arguments.a_stride, static_cast<blasint>(arguments.a_stride), arguments.b,
              static_cast<blasint>(arguments.b_stride), arguments.accumulate ? T(1) : T(0),
              arguments.c + row * arguments.c_stride, static_cast<blasint>(arguments.c_stride));
  }
}

template void gemm<float>(const GemmArguments<float>&, int);
template void gemm<double>(const GemmArguments<double>&, int);

BlasInfo blas_info() {
  return {openblas_get_config(), openblas_get_corename(), threading_name(openblas_get_parallel())};
}

}  // namespace headwise::detail
