// SPDX-License-Identifier: MIT
// expect: tensornorm: expected Eigen::DefaultDevice or Eigen::ThreadPoolDevice
#include <tensornorm/tensornorm.hpp>

#include "device.hpp"

int main() {
  tensornorm::BatchNorm2d<float> layer(3);
  layer(Eigen::Tensor<float, 4, Eigen::RowMajor>(2, 3, 4, 4), Device());
}
