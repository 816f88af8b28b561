// SPDX-License-Identifier: MIT
// bench_peers: bench_layers with the other libraries as contenders.
#include "../layers/run.hpp"
#include "peers.hpp"

int main(int argc, char** argv) { return bench::run_suite(argc, argv, bench::peers()); }
