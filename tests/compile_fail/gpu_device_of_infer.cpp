// SPDX-License-Identifier: MIT
// expect: tensornorm: expected Eigen::DefaultDevice or Eigen::ThreadPoolDevice
#include <tensornorm/tensornorm.hpp>

#include "device.hpp"

int main() {
  const tensornorm::InstanceNorm1d<float> layer(3);
  layer.infer(Eigen::Tensor<float, 3>(2, 3, 4), Device());
}
