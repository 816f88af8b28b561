// SPDX-License-Identifier: MIT
// expect: tensornorm: expected Eigen::DefaultDevice or Eigen::ThreadPoolDevice
#include <tensornorm/tensornorm.hpp>

#include "device.hpp"

int main() {
  const Eigen::MatrixXf x(2, 4);
  const auto gradients = tensornorm::RMSNorm<float>(4).backward(x, x, tensornorm::SavedStats<float>(), Device());
}
