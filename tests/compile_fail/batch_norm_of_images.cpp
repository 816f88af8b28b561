// SPDX-License-Identifier: MIT
// expect: tensornorm: expected a policy of one statistic per channel
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  tensornorm::BatchNorm2d<float, tensornorm::InstanceAxes<1>> layer(3);
#else
  tensornorm::BatchNorm2d<float, tensornorm::BatchAxes<1>> layer(3);
#endif
  Eigen::Tensor<float, 4> x(4, 3, 2, 2);
  layer(x);
}
