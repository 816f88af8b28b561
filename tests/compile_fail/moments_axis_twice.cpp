// SPDX-License-Identifier: MIT
// expect: tensornorm: an axis of over<...> is out of range for x, or is named twice
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  constexpr auto axes = tensornorm::over<2, -1>;
#else
  constexpr auto axes = tensornorm::over<1, -1>;
#endif
  Eigen::Tensor<float, 3> x(2, 3, 4);
  tensornorm::moments(x, axes);
}
