// SPDX-License-Identifier: MIT
// expect: deleted
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 4> x(2, 3, 4, 4), y(2, 3, 4, 4);
  const tensornorm::BatchNorm2d<float> layer(3);
#ifdef MISTAKE
  layer.forward(x, y);
#else
  layer.infer(x, y);
#endif
}
