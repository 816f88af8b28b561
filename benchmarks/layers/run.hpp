// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "../harness/peer.hpp"

namespace bench {

/// Runs the shape suite as the arguments say, with these peers: `main` of bench_layers and bench_peers.
int run_suite(int argc, char** argv, const std::vector<Peer>& peers);

}  // namespace bench
