// SPDX-License-Identifier: MIT
// bench_layers [--rounds=15] [--without_eigen_expression] [--offset=0] [Google Benchmark's own flags]
#include "run.hpp"

int main(int argc, char** argv) { return bench::run_suite(argc, argv, {}); }
