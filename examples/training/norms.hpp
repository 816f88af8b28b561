// SPDX-License-Identifier: MIT
// LayerNorm and RMSNorm for rows of a matrix, twice: written by hand with Eigen, and by tensornorm. All four have the
// same members, so that a network can take either.
#pragma once

#include "parameters.hpp"

#include <tensornorm/tensornorm.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace examples {

/// y = (x - mean) * rstd * weight + bias, as a careful person writes it: row by row, centred, each row in cache.
template <class Scalar>
class HandWrittenLayerNorm {
 public:
  explicit HandWrittenLayerNorm(Eigen::Index width) : weight_(zeros<Scalar>(1, width)), bias_(zeros<Scalar>(1, width)) {
    weight_.value.setOnes();
  }

  void forward(const Matrix<Scalar>& x, Matrix<Scalar>& y) {
    mean_.resize(x.rows());
    rstd_.resize(x.rows());
    y.resize(x.rows(), x.cols());
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      mean_[i] = x.row(i).mean();
      rstd_[i] = 1 / std::sqrt((x.row(i).array() - mean_[i]).square().mean() + Scalar(1e-5));
      y.row(i) = (x.row(i).array() - mean_[i]) * rstd_[i] * weight_.value.array() + bias_.value.array();
    }
  }

  void backward(const Matrix<Scalar>& dy, const Matrix<Scalar>& x, Matrix<Scalar>& dx) {
    dx.resize(x.rows(), x.cols());
    Eigen::Array<Scalar, 1, Eigen::Dynamic> norm(x.cols()), dnorm(x.cols());
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      norm = (x.row(i).array() - mean_[i]) * rstd_[i];
      dnorm = dy.row(i).array() * weight_.value.array();
      weight_.gradient.array() += dy.row(i).array() * norm;
      bias_.gradient += dy.row(i);
      const Scalar mean_dnorm = dnorm.mean(), mean_product = (dnorm * norm).mean();
      dx.row(i) = rstd_[i] * (dnorm - mean_dnorm - norm * mean_product);
    }
  }

  void collect(std::vector<ParameterView<Scalar>>& all) {
    all.push_back(view(weight_));
    all.push_back(view(bias_));
  }

 private:
  Parameter<Scalar> weight_, bias_;
  Eigen::Array<Scalar, Eigen::Dynamic, 1> mean_, rstd_;
};

/// y = x * rstd * weight with rstd = 1 / sqrt(mean of x^2 + eps), by hand.
template <class Scalar>
class HandWrittenRMSNorm {
 public:
  explicit HandWrittenRMSNorm(Eigen::Index width) : weight_(zeros<Scalar>(1, width)) { weight_.value.setOnes(); }

  void forward(const Matrix<Scalar>& x, Matrix<Scalar>& y) {
    rstd_.resize(x.rows());
    y.resize(x.rows(), x.cols());
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      rstd_[i] = 1 / std::sqrt(x.row(i).array().square().mean() + std::numeric_limits<Scalar>::epsilon());
      y.row(i) = x.row(i).array() * rstd_[i] * weight_.value.array();
    }
  }

  void backward(const Matrix<Scalar>& dy, const Matrix<Scalar>& x, Matrix<Scalar>& dx) {
    dx.resize(x.rows(), x.cols());
    Eigen::Array<Scalar, 1, Eigen::Dynamic> norm(x.cols()), dnorm(x.cols());
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      norm = x.row(i).array() * rstd_[i];
      dnorm = dy.row(i).array() * weight_.value.array();
      weight_.gradient.array() += dy.row(i).array() * norm;
      const Scalar mean_product = (dnorm * norm).mean();
      dx.row(i) = rstd_[i] * (dnorm - norm * mean_product);
    }
  }

  void collect(std::vector<ParameterView<Scalar>>& all) { all.push_back(view(weight_)); }

 private:
  Parameter<Scalar> weight_;
  Eigen::Array<Scalar, Eigen::Dynamic, 1> rstd_;
};

/// The same with the library: each loop above is one call.
template <class Scalar, class Layer>
class LibraryNorm {
 public:
  explicit LibraryNorm(Eigen::Index width) : layer_(width) {}

  void forward(const Matrix<Scalar>& x, Matrix<Scalar>& y) {
    y.resize(x.rows(), x.cols());
    layer_.forward(x, y, saved_);
  }

  void backward(const Matrix<Scalar>& dy, const Matrix<Scalar>& x, Matrix<Scalar>& dx) {
    dx.resize(x.rows(), x.cols());
    layer_.backward(dy, x, saved_, dx, gradients_);
  }

  void collect(std::vector<ParameterView<Scalar>>& all) {
    const auto size = static_cast<std::size_t>(layer_.weight().size());
    all.push_back({{layer_.weight().data(), size}, {gradients_.weight.data(), size}});
    if (gradients_.bias.size() > 0) all.push_back({{layer_.bias().data(), size}, {gradients_.bias.data(), size}});
  }

 private:
  Layer layer_;
  decltype(std::declval<Layer&>().zero_gradients()) gradients_ = layer_.zero_gradients();
  tensornorm::SavedStats<Scalar> saved_;
};

template <class Scalar>
using LibraryLayerNorm = LibraryNorm<Scalar, tensornorm::LayerNorm<Scalar>>;
template <class Scalar>
using LibraryRMSNorm = LibraryNorm<Scalar, tensornorm::RMSNorm<Scalar>>;

}  // namespace examples
