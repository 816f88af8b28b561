// SPDX-License-Identifier: MIT
#include "peer.hpp"

#include <cstdio>
#include <exception>

namespace bench {

Contender contender_of(const Peer& peer, const Case& c, const Tensors& tensors) {
  Contender contender;
  if (c.precision == Precision::float32 && c.storage == Storage::row_major && !c.fixed_size) {
    try {
      contender = peer.contender(c, tensors);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s cannot do %s: %.200s\n", peer.name.c_str(), c.name().c_str(), error.what());
    }
  }
  contender.name = peer.name;
  return contender;
}

}  // namespace bench
