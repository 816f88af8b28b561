// SPDX-License-Identifier: MIT
// expect: tensornorm: an axis of over<...> is out of range for x, or is named twice
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  constexpr auto axes = tensornorm::over<0, 3>;
#else
  constexpr auto axes = tensornorm::over<0, 2>;
#endif
  Eigen::Tensor<float, 3> x(2, 3, 4);
  tensornorm::moments(x, axes);
}
