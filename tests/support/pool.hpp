// SPDX-License-Identifier: MIT
// A pool of Eigen's and its device. Before any Eigen header the including test says #define EIGEN_USE_THREADS.
#pragma once

#include <functional>
#include <unsupported/Eigen/CXX11/Tensor>

namespace support {

struct Pool {
  /// used: the threads that the device says it has, where not all.
  explicit Pool(int threads, int used = 0) : pool(threads), device(&pool, used > 0 ? used : threads) {}
  Eigen::ThreadPool pool;
  Eigen::ThreadPoolDevice device;
};

/// A device of `threads` threads that leaves to a test when a task runs, and on which thread.
struct ScheduledBy {
  std::function<void(const std::function<void()>& task)> schedule;
  int threads = 2;

  const ScheduledBy* getPool() const { return this; }
  void Schedule(const std::function<void()>& task) const { schedule(task); }
  int numThreads() const { return threads; }
  int currentThreadId() const { return -1; }
};

}  // namespace support
