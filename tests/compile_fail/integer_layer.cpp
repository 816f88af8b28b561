// SPDX-License-Identifier: MIT
// expect: tensornorm: a layer's scalar must be a real floating-point type
#include <tensornorm/tensornorm.hpp>

int main() {
#ifdef MISTAKE
  using Scalar = int;
#else
  using Scalar = double;
#endif
  tensornorm::LayerNorm<Scalar> layer(5);
}
