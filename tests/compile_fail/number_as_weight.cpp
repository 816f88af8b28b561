// SPDX-License-Identifier: MIT
// expect: tensornorm: expected weight, bias and their gradients as an Eigen Tensor
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 2> x(3, 4), y(3, 4);
#ifdef MISTAKE
  tensornorm::layer_norm(x, y, 1.0f);
#else
  tensornorm::layer_norm(x, y);
#endif
}
