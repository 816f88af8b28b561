// SPDX-License-Identifier: MIT
// Layers that reduce what is innermost in memory: they have no need of columns, nor of given statistics.
#include <tensornorm/tensornorm.hpp>

template <int kRank>
using Tensor = Eigen::Tensor<float, kRank, Eigen::RowMajor>;

template <class Layer, int kRank>
void train(Layer& layer, const Tensor<kRank>& x, Tensor<kRank>& y) {
  typename Layer::Saved saved;
  layer.forward(x, y, saved);
  layer.infer(x, y);
  auto gradients = layer.zero_gradients();
  layer.backward(y, x, saved, y, gradients);
}

template void train(tensornorm::LayerNorm<float>&, const Tensor<2>&, Tensor<2>&);
template void train(tensornorm::GroupNorm<float>&, const Tensor<4>&, Tensor<4>&);
