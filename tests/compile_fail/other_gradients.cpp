// SPDX-License-Identifier: MIT
// expect: tensornorm: expected the gradients that zero_gradients.. returns, or tn::none
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 2> x(3, 4), y(3, 4), dx(3, 4), dy(3, 4);
  tensornorm::LayerNorm<float> layer(4);
  tensornorm::SavedStats<float> saved;
  layer.forward(x, y, saved);
#ifdef MISTAKE
  Eigen::Tensor<float, 1> gradients(4);
#else
  auto gradients = layer.zero_gradients();
#endif
  layer.backward(dy, x, saved, dx, gradients);
}
