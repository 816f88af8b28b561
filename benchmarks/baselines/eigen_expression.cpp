// SPDX-License-Identifier: MIT
#include <array>
#include <cstddef>
#include <unsupported/Eigen/CXX11/Tensor>

#include "baselines.hpp"

namespace bench {
namespace {

using Eigen::Index;

/// A tensor's axes as one writes them down; group_norm's channel axis is split in two.
struct Axes {
  std::vector<Index> shape;
  std::vector<bool> reduced, affine;
};

void append_channels(Axes& axes, const Case& c) {
  const Index channels = c.shape[1];
  if (c.layer != Layer::group_norm) {
    axes.shape.push_back(channels);
    axes.reduced.push_back(false);
    axes.affine.push_back(true);
    return;
  }
  // Channel c is member c % (C / G) of its group: the faster axis in memory, whichever the storage order.
  const bool group_first = c.storage == Storage::row_major;
  for (bool is_group : {group_first, !group_first}) {
    axes.shape.push_back(is_group ? c.groups : channels / c.groups);
    axes.reduced.push_back(!is_group);
    axes.affine.push_back(true);
  }
}

Axes axes_of(const Case& c) {
  if (c.layer == Layer::layer_norm || c.layer == Layer::rms_norm)
    return {{c.shape[0], c.shape[1]}, {false, true}, {false, true}};
  Axes axes = {{c.shape[0]}, {c.layer == Layer::batch_norm}, {false}};
  if (c.channels == Channels::first) append_channels(axes, c);
  for (std::size_t i = 2; i < c.shape.size(); ++i) {
    axes.shape.push_back(c.shape[i]);
    axes.reduced.push_back(true);
    axes.affine.push_back(false);
  }
  if (c.channels == Channels::last) append_channels(axes, c);
  return axes;
}

/// How to reshape and broadcast a smaller tensor that has the axes `present`.
template <std::size_t kRank>
struct Spread {
  Eigen::array<Index, kRank> shape, times;

  Spread(const Axes& axes, const std::vector<bool>& present) {
    for (std::size_t i = 0; i < kRank; ++i) {
      shape[i] = present[i] ? axes.shape[i] : 1;
      times[i] = present[i] ? 1 : axes.shape[i];
    }
  }
  template <class Tensor>
  auto operator()(const Tensor& tensor) const {
    return tensor.reshape(shape).broadcast(times);
  }
};

template <std::size_t kCount>
Eigen::array<int, kCount> places_of(const std::vector<bool>& flags, bool wanted) {
  Eigen::array<int, kCount> places{};
  std::size_t next = 0;
  for (std::size_t i = 0; i < flags.size() && next < kCount; ++i) {
    if (flags[i] == wanted) places[next++] = static_cast<int>(i);
  }
  return places;
}

std::vector<bool> inverted(std::vector<bool> flags) {
  flags.flip();
  return flags;
}

template <class S, int kOrder, int kRank, int kReduced, int kAffine, bool kCentred>
class Expression {
 public:
  Expression(const Case& c, const Tensors& t)
      : axes_(axes_of(c)),
        x_(t.x.as<S>(), shape()),
        dy_(t.dy.as<S>(), shape()),
        result_(t.result.as<S>(), shape()),
        weight_(t.weight.as<S>(), parameters_of(c)),
        bias_(t.bias.as<S>(), parameters_of(c)),
        running_mean_(t.running_mean.as<S>(), parameters_of(c)),
        running_variance_(t.running_variance.as<S>(), parameters_of(c)),
        reduced_(places_of<kReduced>(axes_.reduced, true)),
        summed_(places_of<kRank - kAffine>(axes_.affine, false)),
        over_x_(axes_, inverted(axes_.reduced)),
        weights_over_x_(axes_, axes_.affine) {}

  void forward() {
    if constexpr (kCentred) {
      mean_ = x_.mean(reduced_);
      rstd_ = ((x_ - over_x_(mean_)).square().mean(reduced_) + S(kEps)).rsqrt();
      result_ = (x_ - over_x_(mean_)) * over_x_(rstd_) * weights_over_x_(weight_) + weights_over_x_(bias_);
    } else {
      rstd_ = (x_.square().mean(reduced_) + S(kEps)).rsqrt();
      result_ = x_ * over_x_(rstd_) * weights_over_x_(weight_);
    }
  }

  void eval() {
    const Parameters rstd = (running_variance_ + S(kEps)).rsqrt();
    result_ = (x_ - weights_over_x_(running_mean_)) * weights_over_x_(rstd) * weights_over_x_(weight_) +
              weights_over_x_(bias_);
  }

  void backward() {
    const S inverse_count = S(1) / S(x_.size() / rstd_.size());
    Whole norm(x_.dimensions());
    if constexpr (kCentred)
      norm = (x_ - over_x_(mean_)) * over_x_(rstd_);
    else
      norm = x_ * over_x_(rstd_);
    const Whole dnorm = dy_ * weights_over_x_(weight_);
    dweight_ = (dy_ * norm).sum(summed_);
    const Statistics dot = (dnorm * norm).sum(reduced_) * inverse_count;
    if constexpr (kCentred) {
      dbias_ = dy_.sum(summed_);
      const Statistics mean = dnorm.sum(reduced_) * inverse_count;
      result_ = (dnorm - over_x_(mean) - norm * over_x_(dot)) * over_x_(rstd_);
    } else {
      result_ = (dnorm - norm * over_x_(dot)) * over_x_(rstd_);
    }
  }

 private:
  using Whole = Eigen::Tensor<S, kRank, kOrder>;
  using Statistics = Eigen::Tensor<S, kRank - kReduced, kOrder>;
  using Parameters = Eigen::Tensor<S, 1, kOrder>;

  Eigen::array<Index, kRank> shape() const {
    Eigen::array<Index, kRank> extents;
    for (std::size_t i = 0; i < kRank; ++i) extents[i] = axes_.shape[i];
    return extents;
  }

  Axes axes_;
  Eigen::TensorMap<Whole> x_, dy_, result_;
  Eigen::TensorMap<Parameters> weight_, bias_, running_mean_, running_variance_;
  Eigen::array<int, kReduced> reduced_;
  Eigen::array<int, kRank - kAffine> summed_;
  Spread<kRank> over_x_, weights_over_x_;
  Statistics mean_, rstd_;
  Eigen::Tensor<S, kAffine, kOrder> dweight_, dbias_;
};

template <class S, int kOrder, int kRank, int kReduced, int kAffine, bool kCentred = true>
Call call_of(const Case& c, const Tensors& tensors) {
  Expression<S, kOrder, kRank, kReduced, kAffine, kCentred> expression(c, tensors);
  if constexpr (kAffine == 1 && kReduced == kRank - 1 && kCentred) {
    if (c.job == Job::eval && c.layer == Layer::batch_norm)
      return repeated([e = std::move(expression)]() mutable { e.eval(); });
  }
  if (c.job != Job::backward) return repeated([e = std::move(expression)]() mutable { e.forward(); });
  expression.forward();
  return repeated([e = std::move(expression)]() mutable { e.backward(); });
}

template <class S, int kOrder>
Call call_for(const Case& c, const Tensors& t) {
  switch (c.layer) {
    case Layer::layer_norm:
      return call_of<S, kOrder, 2, 1, 1>(c, t);
    case Layer::rms_norm:
      return call_of<S, kOrder, 2, 1, 1, false>(c, t);
    case Layer::instance_norm:
      return call_of<S, kOrder, 4, 2, 1>(c, t);
    case Layer::group_norm:
      return call_of<S, kOrder, 5, 3, 2>(c, t);
    case Layer::batch_norm:
      break;
  }
  switch (c.shape.size()) {
    case 2:
      return call_of<S, kOrder, 2, 1, 1>(c, t);
    case 3:
      return call_of<S, kOrder, 3, 2, 1>(c, t);
    case 4:
      return call_of<S, kOrder, 4, 3, 1>(c, t);
    default:
      return call_of<S, kOrder, 5, 4, 1>(c, t);
  }
}

template <class S>
Call call_with(const Case& c, const Tensors& t) {
  return c.storage == Storage::row_major ? call_for<S, Eigen::RowMajor>(c, t) : call_for<S, Eigen::ColMajor>(c, t);
}

}  // namespace

Call eigen_expression(const Case& c, const Tensors& tensors) {
  return c.precision == Precision::float32 ? call_with<float>(c, tensors) : call_with<double>(c, tensors);
}

}  // namespace bench
