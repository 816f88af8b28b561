// SPDX-License-Identifier: MIT
// expect: tensornorm: kernels are for the type of x's elements
#include <tensornorm/tensornorm.hpp>
#include <tensornorm/kernels_once.hpp>

#ifdef MISTAKE
TENSORNORM_DECLARE_KERNELS(int);
#else
TENSORNORM_DECLARE_KERNELS(float);
#endif
