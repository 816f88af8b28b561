// SPDX-License-Identifier: MIT
// expect: tensornorm: expected outputs of the same rank as x
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  Eigen::Tensor<float, 2> y(2, 12);
#else
  Eigen::Tensor<float, 3> y(2, 3, 4);
#endif
  Eigen::Tensor<float, 3> x(2, 3, 4);
  tensornorm::LayerNorm<float> layer(4);
  layer.forward(x, y);
}
