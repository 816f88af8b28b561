// SPDX-License-Identifier: MIT
// expect: tensornorm: at least one axis must be normalized
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  tensornorm::LayerNorm<float, 0> layer(tensornorm::Extents<0>{});
#else
  tensornorm::LayerNorm<float, 1> layer(tensornorm::Extents<1>{{5}});
#endif
}
