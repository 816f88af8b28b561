// SPDX-License-Identifier: MIT
// expect: tensornorm: the elements of x are wider than the layer's parameters
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  Eigen::Tensor<double, 2> x(3, 4);
#else
  Eigen::Tensor<float, 2> x(3, 4);
#endif
  tensornorm::LayerNorm<float> layer(4);
  tensornorm::SavedStats<float> saved;
  layer.backward(x, x, saved, tensornorm::none, tensornorm::none);
}
