#include "platform/blas.hpp"

#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string_view>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "platform/parallel.hpp"

namespace headwise::detail {
namespace {

/// While it lives, BLAS called by this thread uses no other: an OpenBLAS built on OpenMP reads the thread's own OpenMP
/// limit at each call. OpenBLAS's own setting would change the whole process and not last.
class OneThread {
 public:
#ifdef _OPENMP
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
#else
  OneThread() {}
#endif
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
#ifdef _OPENMP
  int before_;
#endif
};

/// Parts of a product begin at multiples of so many rows, which OpenBLAS's kernels take 4 to 24 at once: a row then has
/// the same bits in whatever part (measured: Prescott, Sandybridge, Haswell, Zen, SkylakeX, ARMV8). Columns would not: the
/// kernels of Haswell and Zen compute those at the end of a part in another way.
constexpr std::int64_t part_unit = 24;

/// Every part has more multiply-adds than this: threads hardly pay below, and up to there OpenBLAS takes other kernels
/// on SkylakeX.
constexpr double part_products = 1e6;

int threads_for(int num_threads) {
  // An OpenBLAS on pthreads has threads of its own, which take part in every call. One without threads may have been
  // built without the locks that calls at the same time need.
  if (openblas_get_parallel() != OPENBLAS_OPENMP) return 1;
#ifdef _OPENMP
  // OpenBLAS keeps a buffer per thread, so an absurd number must not reach it.
  const int most = std::max(omp_get_max_threads(), omp_get_num_procs());
#else
  const int most = 1;
#endif
  return num_threads > 0 ? std::min(num_threads, most) : default_num_threads();
}

/// Parts of so many units of rows.
template <class T>
std::int64_t count_parts(const GemmArguments<T>& arguments, std::int64_t units, int threads) {
  if (units == 0) return 0;
  const double row_products = static_cast<double>(arguments.columns) * static_cast<double>(arguments.inner);
  const double least_rows = std::floor(part_products / row_products) + 1;  // infinity where there are no products
  const auto missing_rows = static_cast<double>(units * part_unit - arguments.rows);  // of the last part
  const double least_units = std::ceil((least_rows + missing_rows) / static_cast<double>(part_unit));
  const auto worth = static_cast<std::int64_t>(static_cast<double>(units) / least_units);
  // Strides within the limit bound columns and inner too; only the rows can be too many for one call.
  const std::int64_t most_units = max_leading_dimension() / part_unit;
  return std::max({std::int64_t{1}, std::min<std::int64_t>(threads, worth), (units + most_units - 1) / most_units});
}

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

  // Threads are headwise's, each with a part of the product, not OpenBLAS's: those serve one call at a time in the
  // whole process while others wait without sleeping, which takes minutes where 64 threads call; and they compute in
  // whatever floating-point mode they were created.
  const int threads = threads_for(num_threads);
  const std::int64_t units = (arguments.rows + part_unit - 1) / part_unit;
  const std::int64_t parts = count_parts(arguments, units, threads);
  parallel_for(threads, parts, [&](int, std::int64_t index) {
    const OneThread limit;
    const std::int64_t row = units * index / parts * part_unit;
    const std::int64_t end = std::min(units * (index + 1) / parts * part_unit, arguments.rows);
    call_blas(arguments.b_transposed ? CblasTrans : CblasNoTrans,
              static_cast<blasint>(end - row), static_cast<blasint>(arguments.columns),
              static_cast<blasint>(arguments.inner), arguments.a + row * arguments.a_stride,
              static_cast<blasint>(arguments.a_stride), arguments.b, static_cast<blasint>(arguments.b_stride),
              arguments.accumulate ? T(1) : T(0), arguments.c + row * arguments.c_stride,
              static_cast<blasint>(arguments.c_stride));
  });
}

template void gemm<float>(const GemmArguments<float>&, int);
template void gemm<double>(const GemmArguments<double>&, int);

int blas_vector_bytes() {
  const std::string_view core = openblas_get_corename();
  const auto is_any_of = [core](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), core) != names.end();
  };
  if (is_any_of({"SkylakeX", "Cooperlake", "SapphireRapids"})) return 64;
  return is_any_of({"Haswell", "Zen", "Excavator"}) ? 32 : 16;
}

BlasInfo blas_info() {
  return {openblas_get_config(), openblas_get_corename(), threading_name(openblas_get_parallel())};
}

}  // namespace headwise::detail
