// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "contender.hpp"

namespace bench {

/// Another library.
struct Peer {
  std::string name;
  std::string version;
  std::string instruction_set;  ///< that it says it runs, on this machine
  /// Its contender for a float RowMajor case of extents known at run time; an empty call where it cannot do the case.
  std::function<Contender(const Case&, const Tensors&)> contender;
};

/// The peer's contender under the peer's name; an empty call where it cannot do the case, or says so by throwing.
Contender contender_of(const Peer& peer, const Case& c, const Tensors& tensors);

}  // namespace bench
