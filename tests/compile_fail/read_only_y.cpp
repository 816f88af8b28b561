// SPDX-License-Identifier: MIT
// expect: tensornorm: the output must be writable, neither const nor a map of const data
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 2> buffer(3, 4);
#ifdef MISTAKE
  Eigen::TensorMap<const Eigen::Tensor<float, 2>> y(buffer.data(), 3, 4);
#else
  Eigen::TensorMap<Eigen::Tensor<float, 2>> y(buffer.data(), 3, 4);
#endif
  Eigen::Tensor<float, 2> x(3, 4);
  tensornorm::LayerNorm<float> layer(4);
  layer.forward(x, y);
}
