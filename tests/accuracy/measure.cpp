// SPDX-License-Identifier: MIT
#include "measure_layers.hpp"

namespace accuracy {

template void measure<float, float>(Report&, bool);
template void measure<double, double>(Report&, bool);

}  // namespace accuracy
