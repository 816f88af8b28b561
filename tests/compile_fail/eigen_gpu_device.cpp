// SPDX-License-Identifier: MIT
// expect: tensornorm: expected Eigen::DefaultDevice or Eigen::ThreadPoolDevice
#include <tensornorm/tensornorm.hpp>

// What Eigen::GpuDevice has where its headers are compiled by a GPU compiler.
struct GpuDevice {
  void* allocate(std::size_t bytes) const;
  void deallocate(void* buffer) const;
  void synchronize() const;
  int maxCudaThreadsPerBlock() const;
};

int main() {
#ifdef MISTAKE
  const GpuDevice device;
#else
  const Eigen::DefaultDevice device;
#endif
  tensornorm::LayerNorm<float> layer(4);
  Eigen::Tensor<float, 4, Eigen::RowMajor> x(2, 3, 4, 4), y(2, 3, 4, 4);
  layer.infer(x, y, device);
}
