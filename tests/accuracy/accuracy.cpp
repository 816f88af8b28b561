// SPDX-License-Identifier: MIT
// The error of every layer, storage order and number type on hard data, beside its bound; fails where one is broken.
//
//   accuracy [--full] [--every-case]
//
// --full: data sets at all of their sizes, up to 2^24 numbers: minutes in the place of seconds. --every-case: each
// layer on each data set too, not only the worst of them.
#include <cstdio>
#include <cstring>

#include "measure.hpp"
#include "support/instruction_sets.hpp"

int main(int argc, char** argv) {
  bool full = false, every_case = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--full") == 0) {
      full = true;
    } else if (std::strcmp(argv[i], "--every-case") == 0) {
      every_case = true;
    } else {
      std::fprintf(stderr, "usage: %s [--full] [--every-case]\n", argv[0]);
      return 2;
    }
  }
  accuracy::Report report;
  accuracy::measure<float, float>(report, full);
  accuracy::measure<double, double>(report, full);
  accuracy::measure<Eigen::half, Eigen::half>(report, full);
  accuracy::measure<Eigen::half, float>(report, full);
  accuracy::measure<Eigen::bfloat16, Eigen::bfloat16>(report, full);
  accuracy::measure<Eigen::bfloat16, float>(report, full);
  std::printf("Errors in ulp, against arithmetic of 113 bits; instruction set %s.\n",
              support::name_of(tensornorm::kernels::level()));
  report.print(every_case);
  report.print_summary();
  const int broken = report.broken();
  std::printf("\n%s: %d of the bounds broken\n", broken == 0 ? "passed" : "FAILED", broken);
  return broken == 0 ? 0 : 1;
}
