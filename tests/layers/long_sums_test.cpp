// SPDX-License-Identifier: MIT
// Sums of thousands and millions of numbers whose roundings all go one way. Expected values are mathematics.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tensornorm/tensornorm.hpp>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::ulps;

template <class Kind>
class LongSums : public testing::Test {};
TYPED_TEST_SUITE(LongSums, support::Kinds, support::KindNames);

// Of equal numbers c the norm is c / sqrt(c^2 + eps).
TYPED_TEST(LongSums, TheRootMeanSquareOfEqualNumbers) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<2>;
  for (const Index rows : {1, 3, 200})
    for (const Index n : {100, 3153, 20000})
      for (const double value : {0.1, 1.1, 1e6 / 3, 0.7, 1.37, 3.9}) {
        Tensor x(rows, n);
        x.setConstant(static_cast<S>(value));
        const auto c = static_cast<long double>(x(0, 0));
        const long double expected = c / std::sqrt(c * c + 1e-5L);
        support::at_each_level([&](tn::kernels::Level) {
          tn::RMSNorm<S> layer(n, {.eps = 1e-5});
          const Tensor y = layer(x);
          EXPECT_NEAR(double(y(0, 0) - expected), 0, double(ulps<S>(4, 1) / 2)) << rows << " x " << n << " of " << value;
        });
      }
}

// Squared distances to the mean are equal, and the variance their size.
TYPED_TEST(LongSums, TheVarianceOfTwoNumbersInTurn) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<4>;
  for (const Index side : {7, 30, 70})
    for (const double value : {0.1, 1.1, 1e6 / 3, 1.37}) {
      Tensor x(40, 3, side, side);
      for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<S>(i % 2 == 0 ? value : -value);
      const auto c = static_cast<long double>(x.data()[0]);
      support::at_each_level([&](tn::kernels::Level) {
        const auto actual = tn::moments(x, tn::over<0, 2, 3>);
        for (Index channel = 0; channel < 3; ++channel) {
          const long double mean = actual.mean(channel), variance = c * c - mean * mean;
          EXPECT_NEAR(double(actual.variance(channel) - variance), 0, double(ulps<S>(4, variance)));
        }
      });
    }
}

// Images that do not vary, of two values in turn: the variance is that between them, whatever each is measured from.
TYPED_TEST(LongSums, TheVarianceBetweenConstantImages) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<4>;
  struct Case {
    Index images, height, width;
    double base, step;
  };
  for (const Case& c : {Case{17, 12, 41, 0, 1.0485908985137939}, Case{11, 9, 47, 0, 1.338019847869873},
                        Case{17, 3, 157, 0.0914120004, 1.5131906270980835}, Case{11, 3, 71, 5.84619746, 1.65648287714781},
                        Case{2, 8, 8, 0, 0.5}, Case{4, 8, 8, 0, 0.5}, Case{3, 8, 8, 0, 1e-30}}) {
    Tensor x(c.images, 2, c.height, c.width);
    const S low = static_cast<S>(c.base), high = static_cast<S>(c.base + c.step);
    for (Index n = 0; n < c.images; ++n) x.template chip<0>(n).setConstant(n % 2 == 0 ? low : high);
    const long double distance = static_cast<long double>(high) - static_cast<long double>(low);
    const long double share = static_cast<long double>(c.images / 2) / static_cast<long double>(c.images);
    const long double variance = distance * distance * share * (1 - share);
    if (variance < static_cast<long double>(std::numeric_limits<S>::min())) continue;
    support::at_each_level([&](tn::kernels::Level) {
      const auto actual = tn::moments(x, tn::over<0, 2, 3>);
      for (Index channel = 0; channel < 2; ++channel)
        EXPECT_NEAR(double((actual.variance(channel) - variance) / variance), 0, double(ulps<S>(4, 1) / 2))
            << c.images << " images, " << c.base << " and " << c.base + c.step;
    });
  }
}

// The sum of n equal gradients is n times one of them.
TYPED_TEST(LongSums, TheBiasGradientOfGroupNorm) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<3>;
  const auto expect_exact = [](auto layer, const Tensor& x, Index terms) {
    Tensor y(x.dimensions()), dy(x.dimensions());
    dy.setConstant(S(0.1));
    tn::SavedStats<S> saved;
    layer.forward(x, y, saved);
    const auto gradients = layer.backward(dy, x, saved);
    const auto expected = static_cast<long double>(S(0.1)) * static_cast<long double>(terms);
    for (Index c = 0; c < gradients.dbias.size(); ++c)
      EXPECT_NEAR(double(gradients.dbias(c) - expected), 0, double(ulps<S>(8, expected))) << c;
  };
  for (const Index examples : {2, 500})
    for (const Index channels : {10, 100}) {
      const Index length = 20000 / examples;
      Tensor last(examples, length, channels), first(examples, channels, length);
      for (Tensor* x : {&last, &first})
        for (Index i = 0; i < x->size(); ++i) x->data()[i] = static_cast<S>(i * i % 17);
      expect_exact(tn::GroupNorm<S, tn::GroupAxes<-1>>(2, channels), last, 20000);
      expect_exact(tn::GroupNorm<S>(2, channels), first, 20000);
    }
}

/// None of them twice: the walk of their sum is what rounds.
template <class S>
std::vector<S> new_values(Index size, unsigned seed) {
  return support::random_values<S>(size, seed, 0.5, 1.5, static_cast<std::size_t>(size));
}

// With dy = 1 the gradient of weight is the sum of the norm, which is 0.
TYPED_TEST(LongSums, TheWeightGradientOfBatchNormOverMillions) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<3>;
  const auto expect_zero = [](const support::Shape& shape) {
    Tensor x(shape[0], shape[1], shape[2]), y(x.dimensions()), dy(x.dimensions());
    const auto values = new_values<S>(x.size(), 1);
    std::copy(values.begin(), values.end(), x.data());
    dy.setConstant(S(1));
    tn::BatchNorm1d<S> layer(shape[1]);
    tn::SavedStats<S> saved;
    layer.forward(x, y, saved);
    const auto gradients = layer.backward(dy, x, saved);
    const long double n = static_cast<long double>(x.size() / shape[1]);
    for (Index c = 0; c < shape[1]; ++c)
      EXPECT_NEAR(double(gradients.dweight(c)), 0, double(ulps<S>(8, 5 * std::sqrt(n)))) << c;
  };
  expect_zero({Index{1} << 21, 2, 1});
  expect_zero({1, 2, Index{1} << 21});
  expect_zero({700, 2, 3000});
}

// Deviations far below sqrt(eps): sum of dy * (x - mean) / sqrt(variance + eps), of constants exactly 0.
TYPED_TEST(LongSums, TheWeightGradientWhereEpsIsMostOfTheDeviation) {
  using S = typename TypeParam::Scalar;
  using Tensor = typename TypeParam::template Tensor<3>;
  constexpr Index n = 9000;
  const auto noise = new_values<S>(n, 1), gradients = new_values<S>(n, 2);
  const auto check = [&](const support::Shape& shape, double mean, double deviation) {
    Tensor x(shape[0], shape[1], shape[2]), y(x.dimensions()), dy(x.dimensions());
    for (Index i = 0; i < n; ++i) {
      x.data()[i] = static_cast<S>(mean + deviation * double(noise[std::size_t(i)]));
      dy.data()[i] = gradients[std::size_t(i)];
    }
    tn::BatchNorm1d<S> layer(1);
    tn::SavedStats<S> saved;
    layer.forward(x, y, saved);
    const auto actual = layer.backward(dy, x, saved);
    long double sum = 0, squares = 0, product = 0, terms = 0;
    const auto from_first = [&](Index i) { return static_cast<long double>(x.data()[i]) - static_cast<long double>(x.data()[0]); };
    for (Index i = 0; i < n; ++i) sum += from_first(i);
    for (Index i = 0; i < n; ++i) {
      const long double d = from_first(i) - sum / n;
      squares += d * d / n;
      product += d * static_cast<long double>(dy.data()[i]);
      terms += std::abs(d * static_cast<long double>(dy.data()[i]));
    }
    const long double rstd = 1 / std::sqrt(squares + 1e-5L);
    if (deviation == 0) EXPECT_EQ(actual.dweight(0), S(0));
    else EXPECT_NEAR(double(actual.dweight(0) - product * rstd), 0, double(ulps<S>(8, terms * rstd)));
  };
  for (const support::Shape& shape : {support::Shape{n, 1, 1}, {1, 1, n}, {100, 1, 90}}) {
    check(shape, 1e-3, sizeof(S) == 4 ? 1e-9 : 1e-12);
    check(shape, -0.1, 0);
  }
}

}  // namespace
