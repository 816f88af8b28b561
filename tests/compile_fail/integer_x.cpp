// SPDX-License-Identifier: MIT
// expect: tensornorm: expected elements of a real floating-point type
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  Eigen::Tensor<int, 2> x(2, 5);
#else
  Eigen::Tensor<float, 2> x(2, 5);
#endif
  tensornorm::LayerNorm<float> layer(5);
  layer(x);
}
