// SPDX-License-Identifier: MIT
// expect: tensornorm: the output must be writable, neither const nor a map of const data
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  const Eigen::Tensor<float, 2> y(3, 4);
#else
  Eigen::Tensor<float, 2> y(3, 4);
#endif
  Eigen::Tensor<float, 2> x(3, 4);
  tensornorm::LayerNorm<float> layer(4);
  layer.infer(x, y);
}
