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

/// Calls worker(index) once for every index in [0, count), on at most num_threads threads, each with a worker of its own,
/// make_worker(thread), thread in [0, num_threads). Indices are handed out in order. Workers run in a TaskEnvironment and
/// must not throw. One thread or one index enters no parallel region.
template <class MakeWorker>
void parallel_workers(int num_threads, std::int64_t count, const MakeWorker& make_worker) {
  const int threads = static_cast<int>(std::min<std::int64_t>(num_threads, count));
  if (threads < 1) return;
  const TaskEnvironment caller;  // also what threads start with that are made here
#if defined(_OPENMP)
  if (threads > 1) {
#pragma omp parallel num_threads(threads)
    {
      const TaskEnvironment environment;  // of a thread that was there before
      const auto worker = make_worker(omp_get_thread_num());
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t index = 0; index < count; ++index) worker(index);
    }
    return;
  }
#endif
  const auto worker = make_worker(0);
  for (std::int64_t index = 0; index < count; ++index) worker(index);
}

/// The same with one task(thread, index) for all threads; tasks must not depend on the thread.
template <class Task>
void parallel_for(int num_threads, std::int64_t count, const Task& task) {
  parallel_workers(num_threads, count, [&task](int thread) {
    return [&task, thread](std::int64_t index) { task(thread, index); };
  });
}

}  // namespace headwise::detail
