// SPDX-License-Identifier: MIT
// A layer of the library on a problem.
#pragma once

#include <tensornorm/tensornorm.hpp>

#include "report.hpp"
#include "support/logical.hpp"

namespace accuracy {

namespace tn = tensornorm;

/// A tensor's elements in logical order, into memory and back.
template <class Tensor>
class Placed {
 public:
  using Scalar = typename Tensor::Scalar;
  explicit Placed(const Shape& shape) : shape_(shape) {
    if (int{Tensor::Layout} == Eigen::RowMajor) return;
    Shape strides(shape.size(), 1);
    for (std::size_t axis = 1; axis < shape.size(); ++axis) strides[axis] = strides[axis - 1] * shape[axis - 1];
    position_ = positions<Index>(shape, strides);
  }
  Tensor tensor(const std::vector<double>& values) const {
    auto result = support::sized<Tensor>(shape_);
    for (std::size_t i = 0; i < values.size(); ++i) result.data()[at(i)] = static_cast<Scalar>(values[i]);
    return result;
  }
  std::vector<double> values(const Tensor& tensor) const {
    std::vector<double> result(static_cast<std::size_t>(tensor.size()));
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = plain(tensor.data()[at(i)]);
    return result;
  }

 private:
  Index at(std::size_t i) const { return position_.empty() ? static_cast<Index>(i) : position_[i]; }

  Shape shape_;
  std::vector<Index> position_;
};

/// The numbers of a tensor in RowMajor order or of rank 1.
template <class Tensor>
std::vector<double> flat(const Tensor& tensor) {
  std::vector<double> result;
  for (Index i = 0; i < tensor.size(); ++i) result.push_back(plain(tensor.data()[i]));
  return result;
}

template <class Tensor>
void fill(Tensor& parameters, const std::vector<double>& values) {
  for (std::size_t i = 0; i < values.size(); ++i)
    parameters.data()[i] = static_cast<typename Tensor::Scalar>(values[i]);
}

template <class Layer>
void add_running(Outcome& outcome, const Layer& layer) {
  if constexpr (requires { layer.running_mean(); })
    outcome.running.push_back({*layer.momentum(), flat(layer.running_mean()), flat(layer.running_var())});
}

/// One batch through the layer of make(true), forward and backward, and through that of make(false), which has neither
/// weight nor bias. variances(x): what moments() makes of the same axes, empty for a layer that has no mean.
template <class Tensor, class Make, class Variances>
Outcome outcome_of(const Problem& problem, const Shape& shape, const Make& make, const Variances& variances) {
  const Placed<Tensor> placed(shape);
  const Tensor x = placed.tensor(problem.x);
  Outcome outcome;
  auto& values = outcome.values;
  auto bare = make(false);
  values[norm] = placed.values(bare(x));
  add_running(outcome, bare);
  values[variance] = variances(x);

  auto layer = make(true);
  fill(layer.weight(), problem.weight);
  if (!problem.norm.mean_pinned_to_zero) fill(layer.bias(), problem.bias);
  auto result = support::sized<Tensor>(shape);
  typename decltype(layer)::Saved saved;
  layer.forward(x, result, saved);
  values[y] = placed.values(result);
  add_running(outcome, layer);
  auto gradients = layer.zero_gradients();
  layer.backward(placed.tensor(problem.dy), x, saved, result, gradients);
  values[dx] = placed.values(result);
  values[dweight] = flat(gradients.weight);
  values[dbias] = flat(gradients.bias);
  return outcome;
}

}  // namespace accuracy
