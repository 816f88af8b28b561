// SPDX-License-Identifier: MIT
// Axis policies of a user's own.
#pragma once

#include <tensornorm/axes/roles.hpp>

namespace support {

/// Normalizes the channels of every position, as PONO (Li et al. 2019) does.
struct PositionAxes {
  static constexpr tensornorm::AxisRole role(int axis, int /*rank*/) {
    return axis == 1 ? tensornorm::AxisRole::reduced_affine : tensornorm::AxisRole::kept;
  }
};

/// Every role once, and the affine axes not side by side.
struct EveryRoleAxes {
  static constexpr tensornorm::AxisRole role(int axis, int /*rank*/) {
    using tensornorm::AxisRole;
    constexpr AxisRole roles[] = {AxisRole::kept_affine, AxisRole::reduced, AxisRole::kept, AxisRole::reduced_affine};
    return roles[axis];
  }
};

}  // namespace support
