// SPDX-License-Identifier: MIT
#include "layer_call.hpp"

#include "layer_call_on.hpp"

namespace bench {

Call tensornorm_layer(const Case& c, const Tensors& t) {
  return c.precision == Precision::float32 ? layer_call_of<float>(c, t) : layer_call_of<double>(c, t);
}

}  // namespace bench
