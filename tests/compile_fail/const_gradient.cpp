// SPDX-License-Identifier: MIT
// expect: tensornorm: the output must be writable, neither const nor a map of const data
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<float, 2> x(3, 4), y(3, 4), dx(3, 4), dy(3, 4);
#ifdef MISTAKE
  const Eigen::Tensor<float, 1> weight(4), dweight(4);
#else
  Eigen::Tensor<float, 1> weight(4), dweight(4);
#endif
  tensornorm::SavedStats<float> saved;
  tensornorm::layer_norm(x, y, saved, weight);
  tensornorm::layer_norm_backward(dy, x, saved, weight, dx, dweight, tensornorm::none);
}
