// SPDX-License-Identifier: MIT
#include "kernels_once.hpp"

namespace tensornorm::kernels {

TENSORNORM_TEST_KERNELS(template, float);
TENSORNORM_TEST_KERNELS(template, double);

}  // namespace tensornorm::kernels
