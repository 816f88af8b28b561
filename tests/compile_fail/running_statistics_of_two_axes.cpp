// SPDX-License-Identifier: MIT
// expect: tensornorm: expected a policy of one statistic per channel
#include <tensornorm/tensornorm.hpp>

struct TwoAxes {
  static constexpr tensornorm::AxisRole role(int axis, int /*rank*/) {
#ifdef MISTAKE
    return axis == 0 ? tensornorm::AxisRole::reduced : tensornorm::AxisRole::kept_affine;
#else
    return axis != 1 ? tensornorm::AxisRole::reduced : tensornorm::AxisRole::kept_affine;
#endif
  }
};

int main() { tensornorm::BatchNorm<float, 1, TwoAxes> layer(12); }
