// SPDX-License-Identifier: MIT
// expect: tensornorm: x has no axis of channels where the policy says
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  tensornorm::BatchNorm1d<float, tensornorm::BatchAxes<2>> layer(6);
#else
  tensornorm::BatchNorm1d<float, tensornorm::BatchAxes<1>> layer(6);
#endif
  Eigen::Tensor<float, 2> x(4, 6);
  layer(x);
}
