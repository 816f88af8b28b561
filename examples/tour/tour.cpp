// SPDX-License-Identifier: MIT
// What each normalization layer does to small tensors, in numbers, and how BatchNorm2d learns the statistics of real data.
//
//   tour [digits.csv]
//
// What layers give is checked against the definition in double, and samples of it against PyTorch; the exit code is 0 if all agree.
#include "tour.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>

int main(int argc, char** argv) {
  if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
    std::fprintf(stderr, "usage: tour [digits.csv]\n");
    return EXIT_FAILURE;
  }
  try {
    const examples::Digits data = examples::read_digits(argc > 1 ? argv[1] : TENSORNORM_EXAMPLES_DATA "/digits.csv");
    tour::Judge judge;
    tour::worked_cases(judge);
    tour::digits(judge, data);
    std::printf("\n%d numbers checked, %d off\n", judge.checked(), judge.off());
    return judge.off() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tour: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
