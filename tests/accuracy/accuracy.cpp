// SPDX-License-Identifier: MIT
// The error of every layer, storage order and number type on hard data, beside its bound; fails where one is broken.
//
//   accuracy [--full] [--every-case] [--only <type>]
//
// --full: data sets at all of their sizes, up to 2^24 numbers: minutes in the place of seconds. --every-case: each
// layer on each data set too, not only the worst of them. --only: elements of float, double, half or bfloat16.
#include <cstdio>
#include <cstring>
#include <string>

#include "measure.hpp"
#include "support/instruction_sets.hpp"

int main(int argc, char** argv) {
  bool full = false, every_case = false;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--full") == 0) {
      full = true;
    } else if (std::strcmp(argv[i], "--every-case") == 0) {
      every_case = true;
    } else if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
      only = argv[++i];
    } else {
      std::fprintf(stderr, "usage: %s [--full] [--every-case] [--only <type>]\n", argv[0]);
      return 2;
    }
  }
  accuracy::Report report;
  const auto measure = [&]<class T, class P>() {
    if (only.empty() || only == accuracy::format_of<T>().name) accuracy::measure<T, P>(report, full);
  };
  measure.operator()<float, float>();
  measure.operator()<double, double>();
  measure.operator()<Eigen::half, Eigen::half>();
  measure.operator()<Eigen::half, float>();
  measure.operator()<Eigen::bfloat16, Eigen::bfloat16>();
  measure.operator()<Eigen::bfloat16, float>();
  if (report.empty()) {
    std::fprintf(stderr, "no such type: %s\n", only.c_str());
    return 2;
  }
  std::printf("Errors in ulp, against arithmetic of 113 bits, sums of float and narrower 64; instruction set %s.\n",
              support::name_of(tensornorm::kernels::level()));
  report.print(every_case);
  report.print_summary();
  const int broken = report.broken();
  std::printf("\n%s: %d of the bounds broken\n", broken == 0 ? "passed" : "FAILED", broken);
  return broken == 0 ? 0 : 1;
}
