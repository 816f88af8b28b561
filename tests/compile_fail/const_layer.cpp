// SPDX-License-Identifier: MIT
// expect: deleted
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 4> x(2, 3, 4, 4);
  const tensornorm::BatchNorm2d<float> layer(3);
#ifdef MISTAKE
  const Eigen::Tensor<float, 4>& y = (layer(x), x);
#else
  const Eigen::Tensor<float, 4> y = layer.infer(x);
#endif
  static_cast<void>(y);
}
