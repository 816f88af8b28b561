// SPDX-License-Identifier: MIT
// Number types that no vector holds: long double, and two of users, a dual number and Eigen's AutoDiffScalar, whose
// derivatives come out exact.
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wconversion"  // AutoDiffScalar is made of a double where we give it a count
#endif
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <tensornorm/kernels_once.hpp>
#include <tensornorm/tensornorm.hpp>
#include <unsupported/Eigen/AutoDiff>

#include "support/compare.hpp"
#include "support/reference.hpp"
#include "support/subject_list.hpp"

TENSORNORM_DEFINE_KERNELS(long double);  // of a type that no vector holds

/// value + derivative * epsilon with epsilon^2 = 0: what a user has to write, and no more.
struct Dual {
  double value = 0, derivative = 0;

  Dual() = default;
  template <class N>
    requires std::is_arithmetic_v<N>
  explicit Dual(N n) : value(static_cast<double>(n)) {}
  Dual(double v, double d) : value(v), derivative(d) {}
  explicit operator double() const { return value; }

  friend Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.derivative + b.derivative}; }
  friend Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.derivative - b.derivative}; }
  friend Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, a.derivative * b.value + a.value * b.derivative};
  }
  friend Dual operator/(Dual a, Dual b) {
    const double quotient = a.value / b.value;
    return {quotient, (a.derivative - quotient * b.derivative) / b.value};
  }
  friend bool operator==(Dual a, Dual b) { return a.value == b.value; }
  friend bool operator<(Dual a, Dual b) { return a.value < b.value; }
  friend bool operator>(Dual a, Dual b) { return a.value > b.value; }
  friend bool operator>=(Dual a, Dual b) { return a.value >= b.value; }
  friend Dual sqrt(Dual a) {
    const double root = std::sqrt(a.value);
    return {root, a.derivative / (2 * root)};
  }
};

namespace Eigen {
template <>
struct NumTraits<Dual> : NumTraits<double> {
  using Real = Dual;
  using NonInteger = Dual;
  using Nested = Dual;
};
}  // namespace Eigen
template <>
class std::numeric_limits<Dual> : public std::numeric_limits<double> {};

namespace {

using namespace support;

using RealKind = Kind<long double, Eigen::RowMajor>;
using DualKind = Kind<Dual, Eigen::RowMajor>;

// ---- long double ----

template <class F>
void for_each_real_subject(F f) {
  for (const auto& [c, l] : {std::pair<Index, Index>{5, 7}, {20, 3}, {2, 1500}}) {
    for (const auto& subject : all_subjects<RealKind>(c, l)) {
      SCOPED_TRACE(subject->name + " " + testing::PrintToString(subject->shape));
      f(*subject);
    }
  }
}

// Neither the layer nor the reference has anything wider to sum in, and the reference adds up to 9000 numbers in one
// chain: the root of that, less than 95. Measured: 41.
constexpr double kRealUlps = 95;

TEST(LongDouble, EveryLayerMatchesTheReferenceForwardAndBackward) {
  using R = long double;
  for_each_real_subject([](auto& subject) {
    const auto [weight, bias] = subject.random_parameters(5);
    const auto x = subject.random_x(1), dy = subject.random_x(2);
    const auto statistics = subject.batch_statistics(x);
    const auto norms = reference::normalized(subject.norm, x, statistics);
    const auto y = subject.forward_saved(x).y;
    const auto expected = reference::forward(subject.norm, x, weight, bias, statistics);
    EXPECT_TRUE(all_near(y, expected, ulps<R>(kRealUlps, largest(expected))));
    const auto actual = subject.backward(dy, x);
    const auto gradients = reference::backward(subject.norm, dy, x, weight, statistics, false);
    EXPECT_TRUE(all_near(actual.dx, gradients.dx,
                         ulps<R>(kRealUlps, reference::terms_of_dx(subject.norm, dy, x, weight, statistics))));
    const auto terms = ulps<R>(kRealUlps, reference::terms_of_parameters(subject.norm, dy, norms));
    if (subject.has_weight) {
      EXPECT_TRUE(all_near(actual.dweight, gradients.dweight, terms));
    }
    if (subject.has_bias) {
      EXPECT_TRUE(all_near(actual.dbias, gradients.dbias, terms));
    }
  });
}

TEST(LongDouble, StatisticsHaveAllItsDigits) {
  Eigen::Tensor<long double, 2, Eigen::RowMajor> x(3, 1);
  x.setValues({{1.0L}, {1.0L + 0x1p-60L}, {1.0L + 0x1p-59L}});  // one and the same double
  const auto [mean, variance] = tensornorm::moments(x, tensornorm::over<0>);
  EXPECT_EQ(mean(0), 1.0L + 0x1p-60L);
  EXPECT_NEAR(double(variance(0) * 0x1p120L), 2.0 / 3, 1e-15);
  tensornorm::BatchNorm1d<long double> layer(1, {.eps = 0.0, .momentum = 1.0});
  const auto y = layer(x);
  EXPECT_NEAR(double(y(2, 0)), std::sqrt(1.5), 1e-15);
  EXPECT_EQ(layer.running_mean()(0), 1.0L + 0x1p-60L);
}

// ---- a dual number ----

template <class F>
void for_each_dual_subject(F f) {
  for (const auto& [c, l] : {std::pair<Index, Index>{3, 5}, {9, 4}}) {
    for (const auto& subject : all_subjects<DualKind>(c, l)) {
      SCOPED_TRACE(subject->name + " " + testing::PrintToString(subject->shape));
      f(*subject);
    }
  }
}

reference::Values values_of(const std::vector<Dual>& duals) {
  reference::Values result;
  for (const Dual& dual : duals) result.push_back(dual.value);
  return result;
}
reference::Values derivatives_of(const std::vector<Dual>& duals) {
  reference::Values result;
  for (const Dual& dual : duals) result.push_back(dual.derivative);
  return result;
}
/// The numbers with random directions of derivation.
std::vector<Dual> with_directions(std::vector<Dual> numbers, unsigned seed) {
  const auto directions = random_values<double>(static_cast<Index>(numbers.size()), seed, 0.0, 1.0);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i].derivative = directions[i];
  return numbers;
}

/// The derivative of y along the directions of x, weight and bias, an output at a time: row i of the Jacobian is the
/// gradient for the dy that is 1 there and 0 elsewhere.
template <class S>
reference::Values directional(const S& subject, const std::vector<Dual>& x, const std::vector<Dual>& weight,
                              const std::vector<Dual>& bias) {
  const auto real_x = values_of(x), real_weight = values_of(weight), real_bias = values_of(bias);
  const auto statistics = reference::moments(subject.norm, real_x);
  reference::Values result;
  for (std::size_t i = 0; i < x.size(); ++i) {
    reference::Values one(x.size());
    one[i] = 1;
    const auto row = reference::backward(subject.norm, one, real_x, real_weight, statistics, false);
    long double sum = 0;
    for (std::size_t k = 0; k < x.size(); ++k) sum += row.dx[k] * x[k].derivative;
    for (std::size_t k = 0; k < weight.size(); ++k) sum += row.dweight[k] * weight[k].derivative;
    for (std::size_t k = 0; k < bias.size(); ++k) sum += row.dbias[k] * bias[k].derivative;
    result.push_back(sum);
  }
  return result;
}

// Exact: to rounding. The derivatives are sums of up to a hundred products; 72 ulp were seen, with -O1.
constexpr double kDualUlps = 128;

TEST(DualNumbers, ForwardModeDerivativesOfEveryLayerAreExact) {
  for_each_dual_subject([](auto& subject) {
    auto [weight, bias] = subject.random_parameters(5);
    weight = with_directions(weight, 11);
    bias = with_directions(bias, 12);
    subject.set_parameters(weight, bias);
    const auto x = with_directions(subject.random_x(1), 13);
    const auto y = subject.forward(x);
    const auto real_x = values_of(x);
    const auto expected = reference::forward(subject.norm, real_x, values_of(weight), values_of(bias),
                                             reference::moments(subject.norm, real_x));
    EXPECT_TRUE(all_near(values_of(y), expected, ulps<double>(8, largest(expected))));
    const auto derivatives = directional(subject, x, weight, bias);
    EXPECT_TRUE(all_near(derivatives_of(y), derivatives, ulps<double>(kDualUlps, largest(derivatives))));
  });
}

// Forward mode over our own backward: the derivative of dx is a product with the Hessian. A central difference of the
// reference's gradients, in long double, is off by h^2 of a third derivative.
TEST(DualNumbers, OverBackwardTheyGiveSecondDerivatives) {
  constexpr long double h = 1e-7L;
  for_each_dual_subject([](auto& subject) {
    const auto weight = subject.random_parameters(5).first;
    const auto x = with_directions(subject.random_x(1), 13), dy = subject.random_x(2);
    subject.forward_saved(x);
    const auto dx = subject.backward(dy, x).dx;
    const auto gradient_at = [&](long double step) {
      reference::Values moved;
      for (const Dual& number : x) moved.push_back(number.value + step * number.derivative);
      return reference::backward(subject.norm, values_of(dy), moved, values_of(weight),
                                 reference::moments(subject.norm, moved), false)
          .dx;
    };
    auto expected = gradient_at(h);
    const auto below = gradient_at(-h);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = (expected[i] - below[i]) / (2 * h);
    EXPECT_TRUE(all_near(derivatives_of(dx), expected, 1e-7L * largest(expected)));
  });
}

TEST(DualNumbers, AConstantColumnWithoutEpsIsZero) {
  tensornorm::BatchNorm1d<Dual> layer(3, {.eps = 0});
  Eigen::Tensor<Dual, 2, Eigen::RowMajor> x(4, 3), y(4, 3);
  for (int i = 0; i < 4; ++i)
    for (int c = 0; c < 3; ++c) x(i, c) = Dual(c == 1 ? double(i) : 5.0, 0.0);
  layer.forward(x, y);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(y(i, 0).value, 0);
    EXPECT_NEAR(y(i, 1).value, (i - 1.5) / std::sqrt(1.25), 1e-15);
    EXPECT_EQ(y(i, 2).value, 0);
  }
}

TEST(DualNumbers, RunningStatisticsMoveWithTheirDerivatives) {
  tensornorm::BatchNorm1d<Dual> layer(1, {.momentum = 0.5, .running_variance = tensornorm::VarianceEstimator::biased});
  Eigen::Tensor<Dual, 2, Eigen::RowMajor> x(2, 1);
  x(0, 0) = Dual(1.0, 1.0);
  x(1, 0) = Dual(3.0, 0.0);
  layer(x);
  // mean (a + b) / 2, variance (b - a)^2 / 4, each halved by the momentum.
  EXPECT_EQ(layer.running_mean()(0).value, 1.0);
  EXPECT_EQ(layer.running_mean()(0).derivative, 0.25);
  EXPECT_EQ(layer.running_var()(0).value, 1.0);
  EXPECT_EQ(layer.running_var()(0).derivative, -0.5);
}

// ---- Eigen's own, an expression template with several derivatives ----

TEST(AutoDiffScalars, HaveTheDerivativesOfDualNumbers) {
  using Two = Eigen::AutoDiffScalar<Eigen::Vector2d>;
  Eigen::Tensor<Two, 3, Eigen::RowMajor> x(2, 3, 5);
  Eigen::Tensor<Dual, 3, Eigen::RowMajor> first(2, 3, 5), second(2, 3, 5);
  const auto values = random_values<double>(30, 1), one = random_values<double>(30, 2), two = random_values<double>(30, 3);
  for (Index i = 0; i < 30; ++i) {
    const auto k = static_cast<std::size_t>(i);
    x.data()[i] = Two(values[k], Eigen::Vector2d(one[k], two[k]));
    first.data()[i] = Dual(values[k], one[k]);
    second.data()[i] = Dual(values[k], two[k]);
  }
  const auto compare = [&](auto layer, auto dual_layer) {
    const auto y = layer(x);
    const auto y1 = dual_layer(first), y2 = dual_layer(second);
    for (Index i = 0; i < 30; ++i) {
      EXPECT_NEAR(y.data()[i].value(), y1.data()[i].value, 1e-14);
      EXPECT_NEAR(y.data()[i].derivatives()[0], y1.data()[i].derivative, 1e-13);
      EXPECT_NEAR(y.data()[i].derivatives()[1], y2.data()[i].derivative, 1e-13);
    }
  };
  compare(tensornorm::LayerNorm<Two>(5), tensornorm::LayerNorm<Dual>(5));
  compare(tensornorm::BatchNorm1d<Two>(3), tensornorm::BatchNorm1d<Dual>(3));
  compare(tensornorm::GroupNorm<Two>(1, 3), tensornorm::GroupNorm<Dual>(1, 3));
  compare(tensornorm::RMSNorm<Two>(5), tensornorm::RMSNorm<Dual>(5));
}

TEST(AutoDiffScalars, AreLoadedIntoRunningStatistics) {
  using Two = Eigen::AutoDiffScalar<Eigen::Vector2d>;
  tensornorm::BatchNorm1d<Two> layer(2);
  std::vector<Two> mean(2, Two(1.0)), variance(2, Two(4.0));
  layer.running_stats().load(mean, variance, 3);
  EXPECT_EQ(layer.running_var()(1).value(), 4.0);
  variance[1] = Two(-1.0);
  EXPECT_THROW(layer.running_stats().load(mean, variance, 3), std::invalid_argument);
}

}  // namespace
