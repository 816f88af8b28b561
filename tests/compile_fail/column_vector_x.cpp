// SPDX-License-Identifier: MIT
// expect: tensornorm: a column vector is as many rows of one number, each normalized by itself
#include <tensornorm/tensornorm.hpp>

int main() {
  Eigen::VectorXf x = Eigen::VectorXf::Random(8), y(8);
  tensornorm::layer_norm(x.transpose(), y.transpose());
  tensornorm::rms_norm<2>(x, y);  // both axes
#ifdef MISTAKE
  tensornorm::layer_norm(x, y);
#endif
}
