// SPDX-License-Identifier: MIT
// expect: tensornorm: expected outputs of the same scalar type as x
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  Eigen::Tensor<double, 4, Eigen::RowMajor> y(2, 3, 4, 4);
#else
  Eigen::Tensor<float, 4, Eigen::RowMajor> y(2, 3, 4, 4);
#endif
  Eigen::Tensor<float, 4, Eigen::RowMajor> x(2, 3, 4, 4);
  tensornorm::BatchNorm2d<float> layer(3);
  layer.forward(x, y);
}
