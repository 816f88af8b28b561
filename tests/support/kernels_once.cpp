// SPDX-License-Identifier: MIT
#define TENSORNORM_TEST_TEMPLATE template
#include "kernels_once.hpp"
