// SPDX-License-Identifier: MIT
// expect: tensornorm: expected an Eigen Tensor, TensorMap
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 4> x(2, 3, 4, 4), y(2, 3, 4, 4);
  tensornorm::BatchNorm2d<float> layer(3);
#ifdef MISTAKE
  layer.forward(x.data(), y.data());
#else
  layer.forward(x, y);
#endif
}
