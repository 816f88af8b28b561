// SPDX-License-Identifier: MIT
#pragma once

#include "../harness/contender.hpp"

namespace bench {

/// What one does who knows the memory layout: Eigen::Map over each row, slice or image plane, statistics in two passes.
namespace plain {
Call hand_loop(const Case& c, const Tensors& tensors);  ///< built with -O2
}
namespace native {
Call hand_loop(const Case& c, const Tensors& tensors);  ///< built with -O3 -march=native
}

/// The formula written down with Eigen's tensor expressions: mean over axes, reshape, broadcast.
Call eigen_expression(const Case& c, const Tensors& tensors);

}  // namespace bench
