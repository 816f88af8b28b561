// SPDX-License-Identifier: MIT
// Returns 0 if the library that was found normalizes two rows to 1 and -1.
#include <cstdio>
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::Tensor<double, 2, Eigen::RowMajor> x(2, 3);
  x.setValues({{2, 2, 2}, {0, 0, 0}});
  tensornorm::BatchNorm1d<double> layer(3, {.eps = 0});
  const Eigen::Tensor<double, 2, Eigen::RowMajor> y = layer(x);
  bool right = true;
  for (int column = 0; column < 3; ++column) right = right && y(0, column) == 1 && y(1, column) == -1;
  std::printf("tensornorm %d.%d.%d, Eigen %d.%d.%d: %s\n", TENSORNORM_VERSION_MAJOR, TENSORNORM_VERSION_MINOR,
              TENSORNORM_VERSION_PATCH, EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION,
              right ? "right" : "wrong");
  return right ? 0 : 1;
}
