// SPDX-License-Identifier: MIT
// expect: tensornorm: the elements of x are wider than the layer's parameters
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  Eigen::Tensor<double, 4, Eigen::RowMajor> x(2, 3, 4, 4);
#else
  Eigen::Tensor<float, 4, Eigen::RowMajor> x(2, 3, 4, 4);
#endif
  tensornorm::BatchNorm2d<float> layer(3);
  layer(x);
}
