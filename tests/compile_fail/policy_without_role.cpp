// SPDX-License-Identifier: MIT
// expect: tensornorm: a policy needs a member .*role
#include <tensornorm/tensornorm.hpp>

struct WithoutRole {
#ifndef MISTAKE
  static constexpr tensornorm::AxisRole role(int axis, int /*rank*/) {
    return axis == 1 ? tensornorm::AxisRole::reduced_affine : tensornorm::AxisRole::kept;
  }
#endif
};

int main() { tensornorm::Normalization<float, WithoutRole> layer({4}); }
