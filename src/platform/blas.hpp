// Matrix products by BLAS, and what BLAS is loaded. The only door to it: blas.cpp alone includes cblas.h.
#pragma once

#include <cstdint>
#include <string>

namespace headwise::detail {

/// The largest leading dimension (row stride in elements) that BLAS can take.
std::int64_t max_leading_dimension();

/// C = A·B, or C + A·B: row-major matrices with a row stride of their own.
template <class T>
struct GemmArguments {
  std::int64_t rows = 0;     ///< of A and C, any number
  std::int64_t columns = 0;  ///< of B and C
  std::int64_t inner = 0;    ///< columns of A, rows of B
  const T* a = nullptr;      ///< [rows, inner]
  std::int64_t a_stride = 0;
  const T* b = nullptr;  ///< [inner, columns], or [columns, inner] where b_transposed
  std::int64_t b_stride = 0;
  bool b_transposed = false;
  T* c = nullptr;  ///< [rows, columns]; overlaps neither A nor B
  std::int64_t c_stride = 0;
  bool accumulate = false;  ///< false: what C held, NaN too, has no effect
};

/// Computes the product with at most num_threads threads (0 = what OpenMP would use), in parts of whole rows, whose bits do
/// not depend on the part. The OpenMP state of the calling thread is the same afterwards. A BLAS built on pthread has
/// its own threads and ignores num_threads, one without threads is called on one.
/// \throws std::invalid_argument naming the stride that is shorter than its row or beyond max_leading_dimension().
template <class T>
void gemm(const GemmArguments<T>& arguments, int num_threads);

extern template void gemm<float>(const GemmArguments<float>&, int);
extern template void gemm<double>(const GemmArguments<double>&, int);

/// Bytes of the vectors that the loaded BLAS computes with on x86-64; elsewhere those of every processor, 16.
int blas_vector_bytes();

/// The BLAS that is loaded now.
struct BlasInfo {
  std::string configuration;  ///< its own description of itself
  std::string core;           ///< the processor core its kernels are for
  std::string threading;      ///< "openmp", "pthread" or "serial"
};
BlasInfo blas_info();

}  // namespace headwise::detail
