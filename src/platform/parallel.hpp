// Threads: the only place that knows OpenMP (beside the one call in blas.cpp).
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "platform/task_environment.hpp"

namespace headwise::detail {

/// What num_threads = 0 stands for.
inline int default_num_threads() {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

/// Calls task(thread, index) once for every index in [0, count), on at most num_threads threads; `thread` is in
/// [0, num_threads). Indices are handed out in order. Tasks run in a TaskEnvironment, must not throw and must not
/// depend on the thread. One thread or one task enters no parallel region.
template <class Task>
void parallel_for(int num_threads, std::int64_t count, const Task& task) {
  const int threads = static_cast<int>(std::min<std::int64_t>(num_threads, count));
  const TaskEnvironment caller;  // also what threads start with that are made here
#if defined(_OPENMP)
  if (threads > 1) {
#pragma omp parallel num_threads(threads)
    {
      const TaskEnvironment environment;  // of a thread that was there before
      const int thread = omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t index = 0; index < count; ++index) task(thread, index);
    }
    return;
  }
#endif
  (void)threads;
  for (std::int64_t index = 0; index < count; ++index) task(0, index);
}

}  // namespace headwise::detail
