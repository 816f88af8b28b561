// SPDX-License-Identifier: MIT
// expect: tensornorm: expected an Eigen Tensor, TensorMap, .* evaluate an expression into one first
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 2> a(3, 4), b(3, 4);
#ifdef MISTAKE
  const auto x = a + b;
#else
  const Eigen::Tensor<float, 2> x = a + b;
#endif
  tensornorm::LayerNorm<float> layer(4);
  const Eigen::Tensor<float, 2> y = layer(x);
}
