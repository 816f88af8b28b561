// SPDX-License-Identifier: MIT
// expect: tensornorm: expected an Eigen Tensor, TensorMap, .* evaluate an expression into one first
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::MatrixXf a(3, 4), b(3, 4);
#ifdef MISTAKE
  const auto x = a + b;
#else
  const Eigen::MatrixXf x = a + b;
#endif
  tensornorm::LayerNorm<float> layer(4);
  const Eigen::MatrixXf y = layer(x);
}
