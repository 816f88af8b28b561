// SPDX-License-Identifier: MIT
// Built with -fno-exceptions: an error prints its message on stderr and aborts.
#include <tensornorm/tensornorm.hpp>

int main() {
  tensornorm::LayerNorm<float> layer(0);
  return 0;
}
