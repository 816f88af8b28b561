// SPDX-License-Identifier: MIT
// expect: tensornorm: expected an Eigen Tensor, TensorMap, .* evaluate an expression into one first
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 2> x(3, 4), y(3, 4), dx(3, 4), dy(3, 4);
  tensornorm::LayerNorm<float> layer(4);
  tensornorm::SavedStats<float> saved;
  layer.forward(x, y, saved);
#ifdef MISTAKE
  layer.backward(dy * 2.0f, x, saved, dx, tensornorm::none);
#else
  layer.backward(dy, x, saved, dx, tensornorm::none);
#endif
}
