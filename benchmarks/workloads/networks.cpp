// SPDX-License-Identifier: MIT
#include "networks.hpp"

namespace bench {
namespace {

Network resnet50(Channels channels) {
  Network network = {channels == Channels::first ? "ResNet-50 BatchNorms/NCHW" : "ResNet-50 BatchNorms/NHWC", {}};
  const auto append = [&](long width, long side) {
    network.layers.push_back({.layer = Layer::batch_norm, .shape = {8, width, side, side}, .channels = channels});
  };
  append(64, 112);
  long side = 56, width = 64;
  for (int blocks : {3, 4, 6, 3}) {
    const long out =
        width == 64 ? side : side / 2;  // the first block of a stage halves the image in its 3x3 convolution
    for (int block = 0; block < blocks; ++block) {
      append(width, block == 0 ? side : out);
      append(width, out);
      append(4 * width, out);
      if (block == 0) append(4 * width, out);  // the shortcut's projection
    }
    side = out;
    width *= 2;
  }
  return network;
}

Network gpt2_small() {
  const Case layer = {.layer = Layer::layer_norm, .shape = {8 * 1024, 768}};
  return {"GPT-2 small LayerNorms/rows", std::vector<Case>(25, layer)};
}

}  // namespace

std::vector<Network> networks() { return {resnet50(Channels::first), resnet50(Channels::last), gpt2_small()}; }

}  // namespace bench
