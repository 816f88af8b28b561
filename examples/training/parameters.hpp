// SPDX-License-Identifier: MIT
// What an optimizer sees of a network: pairs of values and gradients.
#pragma once

#include <Eigen/Core>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace examples {

template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A weight matrix and the gradient of the loss by it.
template <class Scalar>
struct Parameter {
  Matrix<Scalar> value, gradient;
};

template <class Scalar>
struct ParameterView {
  std::span<Scalar> value, gradient;
};

/// Numbers of a normal distribution from std::mt19937 (Box & Muller 1958): the same on every machine, up to the last
/// bit of log and cos, which std::normal_distribution does not promise.
class Normal {
 public:
  explicit Normal(std::uint32_t seed) : random_(seed) {}

  double next() {
    const double radius = std::sqrt(-2 * std::log((static_cast<double>(random_()) + 1) / 0x1p32));
    return radius * std::cos(6.283185307179586 * static_cast<double>(random_()) / 0x1p32);
  }

  template <class Scalar>
  Matrix<Scalar> matrix(Eigen::Index rows, Eigen::Index columns, double deviation) {
    Matrix<Scalar> result(rows, columns);
    for (Scalar& value : std::span(result.data(), static_cast<std::size_t>(result.size())))
      value = static_cast<Scalar>(deviation * next());
    return result;
  }

 private:
  std::mt19937 random_;
};

/// Weights by He et al. 2015: deviation sqrt(2 / inputs) keeps the scale of activations through a ReLU.
template <class Scalar>
Parameter<Scalar> he_initialized(Eigen::Index inputs, Eigen::Index outputs, Normal& normal) {
  return {normal.matrix<Scalar>(inputs, outputs, std::sqrt(2.0 / static_cast<double>(inputs))),
          Matrix<Scalar>::Zero(inputs, outputs)};
}

template <class Scalar>
Parameter<Scalar> zeros(Eigen::Index rows, Eigen::Index columns) {
  return {Matrix<Scalar>::Zero(rows, columns), Matrix<Scalar>::Zero(rows, columns)};
}

template <class Scalar>
ParameterView<Scalar> view(Parameter<Scalar>& parameter) {
  const auto size = static_cast<std::size_t>(parameter.value.size());
  return {{parameter.value.data(), size}, {parameter.gradient.data(), size}};
}

template <class Scalar>
void set_gradients_to_zero(const std::vector<ParameterView<Scalar>>& parameters) {
  for (const ParameterView<Scalar>& parameter : parameters)
    for (Scalar& gradient : parameter.gradient) gradient = 0;
}

/// Stochastic gradient descent with momentum 0.9: velocity = 0.9 velocity + gradient; value -= rate * velocity.
template <class Scalar>
class Sgd {
 public:
  void step(const std::vector<ParameterView<Scalar>>& parameters, double rate) {
    velocities_.resize(parameters.size());
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      velocities_[p].resize(parameters[p].value.size());
      for (std::size_t i = 0; i < velocities_[p].size(); ++i) {
        velocities_[p][i] = Scalar(0.9) * velocities_[p][i] + parameters[p].gradient[i];
        parameters[p].value[i] -= static_cast<Scalar>(rate) * velocities_[p][i];
      }
    }
  }

 private:
  std::vector<std::vector<Scalar>> velocities_;
};

/// Adam (Kingma & Ba 2015) with its authors' constants.
template <class Scalar>
class Adam {
 public:
  void step(const std::vector<ParameterView<Scalar>>& parameters, double rate) {
    ++steps_;
    first_.resize(parameters.size());
    second_.resize(parameters.size());
    const double scale = rate * std::sqrt(1 - std::pow(0.999, steps_)) / (1 - std::pow(0.9, steps_));
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      first_[p].resize(parameters[p].value.size());
      second_[p].resize(parameters[p].value.size());
      for (std::size_t i = 0; i < first_[p].size(); ++i) {
        const Scalar gradient = parameters[p].gradient[i];
        first_[p][i] += Scalar(0.1) * (gradient - first_[p][i]);
        second_[p][i] += Scalar(0.001) * (gradient * gradient - second_[p][i]);
        parameters[p].value[i] -= static_cast<Scalar>(scale) * first_[p][i] / (std::sqrt(second_[p][i]) + Scalar(1e-8));
      }
    }
  }

 private:
  std::vector<std::vector<Scalar>> first_, second_;
  int steps_ = 0;
};

}  // namespace examples
