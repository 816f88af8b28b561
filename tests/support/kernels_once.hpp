// SPDX-License-Identifier: MIT
// kernels_once*.cpp compile the kernels for all tests that include this, which is most of what such a test would take to
// compile, with sanitizers above all.
#pragma once

#include <tensornorm/kernels_once.hpp>
#include <tensornorm/tensornorm.hpp>

TENSORNORM_DECLARE_KERNELS(float);
TENSORNORM_DECLARE_KERNELS(double);
TENSORNORM_DECLARE_KERNELS(Eigen::half);
TENSORNORM_DECLARE_KERNELS(Eigen::bfloat16);
