// SPDX-License-Identifier: MIT
// expect: tensornorm: weight and bias must have the same scalar type
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  Eigen::VectorXd bias(4);
#else
  Eigen::VectorXf bias(4);
#endif
  Eigen::Tensor<float, 2> x(3, 4), y(3, 4);
  Eigen::VectorXf weight(4);
  tensornorm::layer_norm(x, y, weight, bias);
}
