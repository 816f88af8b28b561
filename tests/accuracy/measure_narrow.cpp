// SPDX-License-Identifier: MIT
#include "measure_layers.hpp"

namespace accuracy {

template void measure<Eigen::half, Eigen::half>(Report&, bool);
template void measure<Eigen::half, float>(Report&, bool);
template void measure<Eigen::bfloat16, Eigen::bfloat16>(Report&, bool);
template void measure<Eigen::bfloat16, float>(Report&, bool);

}  // namespace accuracy
