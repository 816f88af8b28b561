// SPDX-License-Identifier: MIT
// expect: tensornorm: mean and variance have the kept axes of x
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  constexpr auto axes = tensornorm::over<0>;
#else
  constexpr auto axes = tensornorm::over<0, 2>;
#endif
  Eigen::Tensor<float, 3> x(2, 3, 4);
  Eigen::Tensor<float, 1> mean(3), variance(3);
  const Eigen::Tensor<float, 3> y = tensornorm::normalize(x, mean, variance, axes);
}
