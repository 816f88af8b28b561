// SPDX-License-Identifier: MIT
// Layers that reduce what is innermost in memory: they have no need of columns, nor of given statistics.
#include <tensornorm/tensornorm.hpp>

template <class T, int kRank>
using Tensor = Eigen::Tensor<T, kRank, Eigen::RowMajor>;

template <class Layer, int kRank>
void train(Layer& layer, const Tensor<float, kRank>& x, Tensor<float, kRank>& y) {
  typename Layer::Saved saved;
  layer.forward(x, y, saved);
  layer.infer(x, y);
  auto gradients = layer.zero_gradients();
  layer.backward(y, x, saved, y, gradients);
}

void rows(tensornorm::LayerNorm<float>& layer, const Tensor<float, 2>& x, Tensor<float, 2>& y);
void groups(tensornorm::GroupNorm<float>& layer, const Tensor<float, 4>& x, Tensor<float, 4>& y);

void rows(tensornorm::LayerNorm<float>& layer, const Tensor<float, 2>& x, Tensor<float, 2>& y) { train(layer, x, y); }
void groups(tensornorm::GroupNorm<float>& layer, const Tensor<float, 4>& x, Tensor<float, 4>& y) { train(layer, x, y); }
