// SPDX-License-Identifier: MIT
#include "kernels_once.hpp"

namespace tensornorm::kernels {

TENSORNORM_TEST_KERNELS(template, Eigen::half);
TENSORNORM_TEST_KERNELS(template, Eigen::bfloat16);

}  // namespace tensornorm::kernels
