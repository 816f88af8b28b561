// SPDX-License-Identifier: MIT
// Read by the preprocessor alone.
#include <tensornorm/core/abi.hpp>
units of these flags: TENSORNORM_ABI
