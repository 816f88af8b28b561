// SPDX-License-Identifier: MIT
// expect: tensornorm: expected Eigen::DefaultDevice or Eigen::ThreadPoolDevice
#include <tensornorm/tensornorm.hpp>

#include "device.hpp"

int main() {
  tensornorm::BatchNorm2d<float> layer(3);
  Eigen::Tensor<float, 4, Eigen::RowMajor> x(2, 3, 4, 4), y(2, 3, 4, 4);
  layer.forward(x, y, Device());
}
