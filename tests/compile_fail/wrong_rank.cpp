// SPDX-License-Identifier: MIT
// expect: tensornorm: x has the wrong rank
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  Eigen::Tensor<float, 3, Eigen::RowMajor> x(2, 3, 4);
#else
  Eigen::Tensor<float, 4, Eigen::RowMajor> x(2, 3, 4, 4);
#endif
  tensornorm::BatchNorm2d<float> layer(3);
  layer(x);
}
