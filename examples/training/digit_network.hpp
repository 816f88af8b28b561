// SPDX-License-Identifier: MIT
// A small convolutional network for the digits: four times convolution, normalization, ReLU; then one linear layer.
// Images are (N, H, W, C), so a convolution is one matrix product and the channel axis of every norm is the last.
#pragma once

#include "norm_kind.hpp"
#include "parameters.hpp"

#include <tensornorm/tensornorm.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <variant>
#include <vector>

namespace examples {

namespace tn = tensornorm;
using Index = Eigen::Index;

template <class Scalar>
using ChannelsLast = Eigen::Tensor<Scalar, 4, Eigen::RowMajor>;  // (N, H, W, C)

/// The images as a matrix with one pixel per row.
template <class Scalar>
auto by_pixel(ChannelsLast<Scalar>& x) {
  return Eigen::Map<Matrix<Scalar>>(x.data(), x.size() / x.dimension(3), x.dimension(3));
}
template <class Scalar>
auto by_pixel(const ChannelsLast<Scalar>& x) {
  return Eigen::Map<const Matrix<Scalar>>(x.data(), x.size() / x.dimension(3), x.dimension(3));
}

/// A layer of tensornorm with what training needs beside it: the saved statistics and the parameters' gradients.
template <class Scalar, class Layer>
struct Normalized {
  Layer layer;
  decltype(layer.zero_gradients()) gradients = layer.zero_gradients();
  tn::SavedStats<Scalar> saved = {};

  void train(bool training) { training ? layer.train() : layer.eval(); }
  void forward(const ChannelsLast<Scalar>& x, ChannelsLast<Scalar>& y) { layer.forward(x, y, saved); }
  /// dx may be dy.
  void backward(const ChannelsLast<Scalar>& dy, const ChannelsLast<Scalar>& x, ChannelsLast<Scalar>& dx) {
    layer.backward(dy, x, saved, dx, gradients);
  }
  void collect(std::vector<ParameterView<Scalar>>& all) {
    const auto size = static_cast<std::size_t>(layer.weight().size());
    all.push_back({{layer.weight().data(), size}, {gradients.weight.data(), size}});
    all.push_back({{layer.bias().data(), size}, {gradients.bias.data(), size}});
  }
};

/// Stands where a network has no normalization.
template <class Scalar>
struct NotNormalized {
  void train(bool /*training*/) {}
  void forward(const ChannelsLast<Scalar>& x, ChannelsLast<Scalar>& y) { y = x; }
  void backward(const ChannelsLast<Scalar>& dy, const ChannelsLast<Scalar>& /*x*/, ChannelsLast<Scalar>& dx) {
    dx = dy;
  }
  void collect(std::vector<ParameterView<Scalar>>& /*all*/) {}
};

template <class Scalar>
using BatchNormalized = Normalized<Scalar, tn::BatchNorm2d<Scalar, tn::BatchAxes<-1>>>;
template <class Scalar>
using LayerNormalized = Normalized<Scalar, tn::LayerNorm<Scalar, 3>>;
template <class Scalar>
using GroupNormalized = Normalized<Scalar, tn::GroupNorm<Scalar, tn::GroupAxes<-1>>>;

template <class Scalar>
using Norm =
    std::variant<NotNormalized<Scalar>, BatchNormalized<Scalar>, LayerNormalized<Scalar>, GroupNormalized<Scalar>>;

/// A norm for images of side x side pixels. Groups are of four channels.
template <class Scalar>
Norm<Scalar> make_norm(NormKind kind, Index side, Index channels) {
  switch (kind) {
    case NormKind::none:
      break;
    case NormKind::batch:
      return BatchNormalized<Scalar>{tn::BatchNorm2d<Scalar, tn::BatchAxes<-1>>(channels)};
    case NormKind::layer:
      return LayerNormalized<Scalar>{tn::LayerNorm<Scalar, 3>({side, side, channels})};
    case NormKind::group:
      return GroupNormalized<Scalar>{tn::GroupNorm<Scalar, tn::GroupAxes<-1>>(channels / 4, channels)};
  }
  return NotNormalized<Scalar>{};
}

/// y = relu(norm(conv3x3(x) + bias)), the image's border padded with zeros.
template <class Scalar>
class ConvolutionBlock {
 public:
  ConvolutionBlock(NormKind kind, Index side, Index inputs, Index outputs, Normal& normal)
      : side_(side),
        inputs_(inputs),
        weight_(he_initialized<Scalar>(9 * inputs, outputs, normal)),
        bias_(zeros<Scalar>(1, outputs)),
        norm_(make_norm<Scalar>(kind, side, outputs)) {}

  void train(bool training) {
    std::visit([&](auto& norm) { norm.train(training); }, norm_);
  }

  const ChannelsLast<Scalar>& forward(const ChannelsLast<Scalar>& x) {
    const Index n = x.dimension(0), outputs = weight_.value.cols();
    gather_patches(x);
    convolved_.resize(n, side_, side_, outputs);
    by_pixel(convolved_).noalias() = patches_ * weight_.value;
    by_pixel(convolved_).rowwise() += bias_.value.row(0);
    y_.resize(n, side_, side_, outputs);
    std::visit([&](auto& norm) { norm.forward(convolved_, y_); }, norm_);
    by_pixel(y_) = by_pixel(y_).cwiseMax(Scalar(0));
    return y_;
  }

  ChannelsLast<Scalar> backward(ChannelsLast<Scalar> dy) {
    by_pixel(dy).array() *= (by_pixel(y_).array() > Scalar(0)).template cast<Scalar>();
    std::visit([&](auto& norm) { norm.backward(dy, convolved_, dy); }, norm_);
    weight_.gradient.noalias() += patches_.transpose() * by_pixel(dy);
    bias_.gradient.row(0) += by_pixel(dy).colwise().sum();
    dpatches_.noalias() = by_pixel(dy) * weight_.value.transpose();
    return scattered_patches(dy.dimension(0));
  }

  void collect(std::vector<ParameterView<Scalar>>& all) {
    all.push_back(view(weight_));
    all.push_back(view(bias_));
    std::visit([&](auto& norm) { norm.collect(all); }, norm_);
  }

 private:
  /// Calls copy(row of patches_, first column, pixel of the image) for the 3 x 3 neighbours of every pixel.
  template <class Copy>
  void for_each_neighbour(Index n, const Copy& copy) const {
    for (Index image = 0, row = 0; image < n; ++image)
      for (Index h = 0; h < side_; ++h)
        for (Index w = 0; w < side_; ++w, ++row)
          for (Index k = 0; k < 9; ++k) {
            const Index from_h = h + k / 3 - 1, from_w = w + k % 3 - 1;
            if (from_h < 0 || from_h >= side_ || from_w < 0 || from_w >= side_) continue;
            copy(row, k * inputs_, (image * side_ + from_h) * side_ + from_w);
          }
  }

  void gather_patches(const ChannelsLast<Scalar>& x) {
    patches_.setZero(x.dimension(0) * side_ * side_, 9 * inputs_);
    const auto pixels = by_pixel(x);
    for_each_neighbour(x.dimension(0), [&](Index row, Index column, Index pixel) {
      patches_.row(row).segment(column, inputs_) = pixels.row(pixel);
    });
  }

  ChannelsLast<Scalar> scattered_patches(Index n) const {
    ChannelsLast<Scalar> dx(n, side_, side_, inputs_);
    dx.setZero();
    auto pixels = by_pixel(dx);
    for_each_neighbour(n, [&](Index row, Index column, Index pixel) {
      pixels.row(pixel) += dpatches_.row(row).segment(column, inputs_);
    });
    return dx;
  }

  Index side_, inputs_;
  Parameter<Scalar> weight_, bias_;
  Norm<Scalar> norm_;
  Matrix<Scalar> patches_, dpatches_;
  ChannelsLast<Scalar> convolved_, y_;
};

/// Means over 2 x 2 pixels.
template <class Scalar>
ChannelsLast<Scalar> pooled(const ChannelsLast<Scalar>& x) {
  const Index n = x.dimension(0), side = x.dimension(1) / 2, channels = x.dimension(3);
  const Eigen::array<Index, 6> blocks = {n, side, 2, side, 2, channels};
  const Eigen::array<Index, 2> inside = {2, 4};
  return x.reshape(blocks).mean(inside);
}

template <class Scalar>
ChannelsLast<Scalar> pooled_backward(const ChannelsLast<Scalar>& dy) {
  const Index n = dy.dimension(0), side = dy.dimension(1), channels = dy.dimension(3);
  const Eigen::array<Index, 6> blocks = {n, side, 1, side, 1, channels}, copies = {1, 1, 2, 1, 2, 1};
  const Eigen::array<Index, 4> shape = {n, 2 * side, 2 * side, channels};
  return (dy * Scalar(0.25)).reshape(blocks).broadcast(copies).reshape(shape);
}

/// 8 x 8 pixels to 10 logits.
template <class Scalar>
class DigitNetwork {
 public:
  DigitNetwork(NormKind kind, Index width, std::uint32_t seed) : DigitNetwork(kind, width, Normal(seed)) {}

  void train() { set_mode(true); }
  void eval() { set_mode(false); }

  /// Logits, one row per image of x (N, 8, 8, 1).
  Matrix<Scalar> forward(const ChannelsLast<Scalar>& x) {
    const ChannelsLast<Scalar> half = pooled(blocks_[1].forward(blocks_[0].forward(x)));
    const ChannelsLast<Scalar>& features = blocks_[3].forward(blocks_[2].forward(half));
    const Index n = x.dimension(0);
    averaged_ = Matrix<Scalar>::Zero(n, features.dimension(3));
    for (Index image = 0; image < n; ++image)
      averaged_.row(image) = by_pixel(features).middleRows(image * 16, 16).colwise().mean();
    return (averaged_ * weight_.value).rowwise() + bias_.value.row(0);
  }

  void backward(const Matrix<Scalar>& dlogits) {
    weight_.gradient.noalias() += averaged_.transpose() * dlogits;
    bias_.gradient.row(0) += dlogits.colwise().sum();
    const Matrix<Scalar> daveraged = dlogits * weight_.value.transpose() / Scalar(16);
    ChannelsLast<Scalar> dfeatures(dlogits.rows(), 4, 4, daveraged.cols());
    for (Index pixel = 0; pixel < dlogits.rows() * 16; ++pixel)
      by_pixel(dfeatures).row(pixel) = daveraged.row(pixel / 16);
    const ChannelsLast<Scalar> dhalf = blocks_[2].backward(blocks_[3].backward(std::move(dfeatures)));
    blocks_[0].backward(blocks_[1].backward(pooled_backward(dhalf)));
  }

  std::vector<ParameterView<Scalar>> parameters() {
    std::vector<ParameterView<Scalar>> all;
    for (ConvolutionBlock<Scalar>& block : blocks_) block.collect(all);
    all.push_back(view(weight_));
    all.push_back(view(bias_));
    return all;
  }

 private:
  DigitNetwork(NormKind kind, Index width, Normal normal)
      : blocks_{{kind, 8, 1, width, normal},
                {kind, 8, width, width, normal},
                {kind, 4, width, 2 * width, normal},
                {kind, 4, 2 * width, 2 * width, normal}},
        weight_(he_initialized<Scalar>(2 * width, 10, normal)),
        bias_(zeros<Scalar>(1, 10)) {}

  void set_mode(bool training) {
    for (ConvolutionBlock<Scalar>& block : blocks_) block.train(training);
  }

  std::vector<ConvolutionBlock<Scalar>> blocks_;
  Parameter<Scalar> weight_, bias_;
  Matrix<Scalar> averaged_;
};

/// The mean of -log softmax(logits)[label] over the rows, and its gradient by the logits.
template <class Scalar>
Scalar cross_entropy(const Matrix<Scalar>& logits, const std::vector<int>& labels, Matrix<Scalar>& dlogits) {
  const Index n = logits.rows();
  dlogits = (logits.colwise() - logits.rowwise().maxCoeff()).array().exp().matrix();
  Scalar loss = 0;
  for (Index row = 0; row < n; ++row) {
    dlogits.row(row) /= dlogits.row(row).sum();
    Scalar& right = dlogits(row, labels[static_cast<std::size_t>(row)]);
    loss -= std::log(right) / static_cast<Scalar>(n);
    right -= 1;
  }
  dlogits /= static_cast<Scalar>(n);
  return loss;
}

}  // namespace examples
