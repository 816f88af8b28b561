// SPDX-License-Identifier: MIT
// expect: tensornorm: expected SavedStats of the scalar type of weight and bias
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  tensornorm::SavedStats<double> saved;
#else
  tensornorm::SavedStats<float> saved;
#endif
  const Eigen::Tensor<float, 2, Eigen::RowMajor> x(2, 4);
  Eigen::Tensor<float, 2, Eigen::RowMajor> y(2, 4);
  tensornorm::layer_norm(x, y, saved, tensornorm::none, tensornorm::none);
}
