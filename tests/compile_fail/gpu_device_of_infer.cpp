// SPDX-License-Identifier: MIT
// expect: tensornorm: expected Eigen::DefaultDevice or Eigen::ThreadPoolDevice
#include <tensornorm/tensornorm.hpp>

struct GpuDevice {
  void synchronize() const;
};

int main() {
#ifdef MISTAKE
  const GpuDevice device;
#else
  const Eigen::DefaultDevice device;
#endif
  const tensornorm::BatchNorm2d<float> layer(3);
  const Eigen::Tensor<float, 4, Eigen::RowMajor> x(2, 3, 4, 4);
  const auto y = layer.infer(x, device);
}
