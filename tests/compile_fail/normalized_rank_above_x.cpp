// SPDX-License-Identifier: MIT
// expect: tensornorm: x has fewer axes than are normalized
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  Eigen::Tensor<float, 1> x(4);
#else
  Eigen::Tensor<float, 2> x(3, 4);
#endif
  tensornorm::LayerNorm<float, 2> layer({3, 4});
  layer(x);
}
