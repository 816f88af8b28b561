// SPDX-License-Identifier: MIT
// A pool of Eigen's and its device. Before any Eigen header the including test says #define EIGEN_USE_THREADS.
#pragma once

#include <unsupported/Eigen/CXX11/Tensor>

namespace support {

struct Pool {
  /// used: the threads that the device says it has, where not all.
  explicit Pool(int threads, int used = 0) : pool(threads), device(&pool, used > 0 ? used : threads) {}
  Eigen::ThreadPool pool;
  Eigen::ThreadPoolDevice device;
};

}  // namespace support
