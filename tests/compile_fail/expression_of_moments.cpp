// SPDX-License-Identifier: MIT
// expect: tensornorm: expected an Eigen Tensor, TensorMap, .* evaluate an expression into one first
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 2> x(3, 4);
#ifdef MISTAKE
  tensornorm::moments(x * 2.0f, tensornorm::over<0>);
#else
  tensornorm::moments(x, tensornorm::over<0>);
#endif
}
