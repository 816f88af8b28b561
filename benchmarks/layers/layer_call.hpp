// SPDX-License-Identifier: MIT
#pragma once

#include "../harness/contender.hpp"

namespace bench {

/// The library through its public interface: a layer object, tensor maps in and out, statistics saved in forward.
Call tensornorm_layer(const Case& c, const Tensors& tensors);

}  // namespace bench
