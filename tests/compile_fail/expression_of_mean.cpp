// SPDX-License-Identifier: MIT
// expect: tensornorm: expected mean and variance as an Eigen Tensor
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 2> x(3, 4);
  Eigen::Tensor<float, 1> mean(4), variance(4);
#ifdef MISTAKE
  tensornorm::normalize(x, mean * 2.0f, variance, tensornorm::over<0>);
#else
  tensornorm::normalize(x, mean, variance, tensornorm::over<0>);
#endif
}
