// SPDX-License-Identifier: MIT
// expect: tensornorm: expected an Eigen Tensor, TensorMap
#include <tensornorm/tensornorm.hpp>

#include <vector>

int main() {
  const tensornorm::LayerNorm<float> layer(4);
#ifdef MISTAKE
  const std::vector<float> x(4);
#else
  const Eigen::Tensor<float, 1> x(4);
#endif
  layer.infer(x);
}
