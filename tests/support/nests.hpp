// SPDX-License-Identifier: MIT
// Loop nests of a policy whose roles are letters, for tests of what lies below the layers.
#pragma once

#include <tensornorm/axes/loop_nest.hpp>

#include <string>

#include "support/logical.hpp"

namespace support {

/// k / K kept without / with weight and bias, r / R reduced likewise.
inline constexpr const char* kLetters = "kKrR";

/// A user's policy whose roles are known at run time only.
struct RolesOf {
  std::string letters;
  tensornorm::AxisRole role(int axis, int /*rank*/) const {
    return static_cast<tensornorm::AxisRole>(std::string(kLetters).find(letters[static_cast<std::size_t>(axis)]));
  }
};

/// The nest of dense operands of this shape; an axis in groups stands as two.
template <int kOrder>
tensornorm::LoopNest nest_of_roles(const Shape& shape, const std::string& letters) {
  tensornorm::LoopNest nest;
  with_rank<2, 3, 4, 5, 6>(shape.size(), [&]<int kRank>() {
    tensornorm::Extents<kRank> extents{}, strides{};
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      Shape unit(shape.size(), 0);
      unit[axis] = 1;
      extents[static_cast<tensornorm::Index>(axis)] = shape[axis];
      strides[static_cast<tensornorm::Index>(axis)] = storage_index<kOrder>(unit, shape);
    }
    nest = tensornorm::make_loop_nest<kRank, kOrder == Eigen::RowMajor>(extents, {{strides, strides, strides}}, RolesOf{letters});
  });
  return nest;
}

}  // namespace support
