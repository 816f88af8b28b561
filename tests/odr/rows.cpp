// SPDX-License-Identifier: MIT
// Layers that reduce what is innermost in memory, of tensors of each of the types ROWS_OF: they have no need of columns, nor of given or
// running statistics.
#include <tensornorm/tensornorm.hpp>

template <class Element, int kRank>
using Tensor = Eigen::Tensor<Element, kRank, Eigen::RowMajor>;

template <class Layer, class X>
void train(Layer& layer, const X& x, X& y) {
  typename Layer::Saved saved;
  layer.forward(x, y, saved);
  layer.infer(x, y);
  auto gradients = layer.zero_gradients();
  layer.backward(y, x, saved, y, gradients);
}

template <class... Element>
struct Rows {
  static void train_rows(tensornorm::LayerNorm<Element>&... layer, const Tensor<Element, 2>&... x, Tensor<Element, 2>&... y) {
    (train(layer, x, y), ...);
  }
  static void train_groups(tensornorm::GroupNorm<Element>&... layer, const Tensor<Element, 4>&... x, Tensor<Element, 4>&... y) {
    (train(layer, x, y), ...);
  }
};
template struct Rows<ROWS_OF>;
