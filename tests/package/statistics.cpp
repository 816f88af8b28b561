// SPDX-License-Identifier: MIT
// Returns 0 if the library that was found takes a variance: of no layer, whose kernels take long to compile.
#include <cstdio>
#include <tensornorm/tensornorm.hpp>

int main() {
  tensornorm::Welford<double> statistics;
  for (const double x : {1.0, 2.0, 3.0}) statistics.push(x);
  const bool right = statistics.mean() == 2 && statistics.unbiased_variance() == 1;
  std::printf("tensornorm %d.%d.%d: %s\n", TENSORNORM_VERSION_MAJOR, TENSORNORM_VERSION_MINOR, TENSORNORM_VERSION_PATCH, right ? "right" : "wrong");
  return right ? 0 : 1;
}
