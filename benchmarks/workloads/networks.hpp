// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "../harness/cases.hpp"

namespace bench {

/// The normalization layers of a network, in its order.
struct Network {
  std::string name;
  std::vector<Case> layers;
};

/// ResNet-50 (v1.5, 224x224 pixels, batch 8): 53 BatchNorms, channels first and last. GPT-2 small (8 sequences of 1024
/// tokens): 25 LayerNorms of width 768.
std::vector<Network> networks();

}  // namespace bench
