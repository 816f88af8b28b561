// SPDX-License-Identifier: MIT
// expect: tensornorm: expected mean and variance as an Eigen Tensor
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 2> x(3, 4), y(3, 4);
  Eigen::Tensor<float, 1> mean(4), variance(4);
#ifdef MISTAKE
  tensornorm::batch_norm(x, y, tensornorm::none, tensornorm::none);
#else
  tensornorm::batch_norm(x, y, mean, variance);
#endif
}
