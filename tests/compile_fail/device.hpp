// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <unsupported/Eigen/CXX11/Tensor>

// What Eigen::GpuDevice has where its headers are compiled by a GPU compiler.
struct GpuDevice {
  void* allocate(std::size_t bytes) const;
  void deallocate(void* buffer) const;
  void synchronize() const;
  int maxCudaThreadsPerBlock() const;
};

#ifdef MISTAKE
using Device = GpuDevice;
#else
using Device = Eigen::DefaultDevice;
#endif
