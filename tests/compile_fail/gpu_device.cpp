// SPDX-License-Identifier: MIT
// expect: tensornorm: expected Eigen::DefaultDevice or Eigen::ThreadPoolDevice
#include <tensornorm/tensornorm.hpp>

// As a GPU library might hand it over: nothing that runs on the host.
struct GpuDevice {
  void* stream = nullptr;
};

int main() {
#ifdef MISTAKE
  const GpuDevice device;
#else
  const Eigen::DefaultDevice device;
#endif
  tensornorm::BatchNorm2d<float> layer(3);
  Eigen::Tensor<float, 4, Eigen::RowMajor> x(2, 3, 4, 4), y(2, 3, 4, 4);
  layer.forward(x, y, device);
}
