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
  const tensornorm::LayerNorm<float> layer(4);
  const tensornorm::SavedStats<float> saved;
  const Eigen::Tensor<float, 2, Eigen::RowMajor> x(2, 4), dy(2, 4);
  const auto gradients = layer.backward(dy, x, saved, device);
}
