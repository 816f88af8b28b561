// SPDX-License-Identifier: MIT
// expect: tensornorm: x has fewer axes than are normalized
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  tensornorm::GroupNorm<float, tensornorm::GroupAxes<2>> layer(1, 1);
#else
  tensornorm::GroupNorm<float, tensornorm::GroupAxes<1>> layer(1, 6);
#endif
  Eigen::Tensor<float, 2> x(4, 6);
  layer(x);
}
