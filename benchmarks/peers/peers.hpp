// SPDX-License-Identifier: MIT
/// The other libraries, each in a file of its own and compiled where CMake finds it.
#pragma once

#include "../harness/peer.hpp"

namespace bench {

Peer onednn();
Peer torch();
Peer torch_compile();
Peer onnxruntime();
Peer ggml();
Peer libxsmm();

/// Those that this build has.
std::vector<Peer> peers();

}  // namespace bench
