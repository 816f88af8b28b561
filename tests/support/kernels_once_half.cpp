// SPDX-License-Identifier: MIT
#include "kernels_once.hpp"

TENSORNORM_DEFINE_KERNELS(Eigen::half);
