// SPDX-License-Identifier: MIT
// expect: tensornorm: normalized_shape must have as many extents
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  tensornorm::RMSNorm<float, 2> layer({5});
#else
  tensornorm::RMSNorm<float, 2> layer({5, 4});
#endif
}
