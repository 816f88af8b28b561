// SPDX-License-Identifier: MIT
// expect: tensornorm: the elements of x are neither of the layer's scalar type nor narrower
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  Eigen::Tensor<Eigen::half, 4, Eigen::RowMajor> x(2, 3, 4, 4);
#else
  Eigen::Tensor<Eigen::bfloat16, 4, Eigen::RowMajor> x(2, 3, 4, 4);
#endif
  tensornorm::BatchNorm2d<Eigen::bfloat16> layer(3);
  layer(x);
}
