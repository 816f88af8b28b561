// SPDX-License-Identifier: MIT
#include "peers.hpp"

namespace bench {

std::vector<Peer> peers() {
  return {
#if defined(BENCH_PEER_ONEDNN)
    onednn(),
#endif
#if defined(BENCH_PEER_TORCH)
        torch(),
#endif
#if defined(BENCH_PEER_TORCH_COMPILE)
        torch_compile(),
#endif
#if defined(BENCH_PEER_ONNXRUNTIME)
        onnxruntime(),
#endif
#if defined(BENCH_PEER_GGML)
        ggml(),
#endif
#if defined(BENCH_PEER_LIBXSMM)
        libxsmm(),
#endif
  };
}

}  // namespace bench
