// SPDX-License-Identifier: MIT
// expect: tensornorm: a matrix must have an inner stride of 1
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  using Stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  const Stride stride(16, 2);
#else
  using Stride = Eigen::OuterStride<>;
  const Stride stride(16);
#endif
  Eigen::MatrixXf matrix(16, 8);
  const Eigen::Map<Eigen::MatrixXf, 0, Stride> x(matrix.data(), 8, 4, stride);
  tensornorm::LayerNorm<float> layer(4);
  Eigen::MatrixXf y = layer(x);
}
