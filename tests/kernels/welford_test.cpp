// SPDX-License-Identifier: MIT
// Expected values are fractions worked out by hand.
#include <gtest/gtest.h>

#include <tensornorm/kernels/welford.hpp>

#include <cmath>
#include <limits>
#include <vector>

namespace tensornorm {
namespace {

template <class T>
Welford<T> of(const std::vector<T>& values) {
  Welford<T> state;
  for (const T value : values) state.push(value);
  return state;
}

template <class T>
class WelfordOf : public testing::Test {};
using Scalars = testing::Types<float, double, long double>;
TYPED_TEST_SUITE(WelfordOf, Scalars);

TYPED_TEST(WelfordOf, NothingHasNoMeanAndNoVariance) {
  const Welford<TypeParam> nothing;
  EXPECT_EQ(nothing.count(), 0);
  EXPECT_TRUE(std::isnan(nothing.mean()));
  EXPECT_TRUE(std::isnan(nothing.variance()));
  EXPECT_TRUE(std::isnan(nothing.unbiased_variance()));
}

TYPED_TEST(WelfordOf, OneNumberHasVarianceZeroAndNoUnbiasedOne) {
  const auto one = of<TypeParam>({TypeParam(-3.5)});
  EXPECT_EQ(one.count(), 1);
  EXPECT_EQ(one.mean(), TypeParam(-3.5));
  EXPECT_EQ(one.variance(), TypeParam(0));
  EXPECT_TRUE(std::isnan(one.unbiased_variance()));
}

TYPED_TEST(WelfordOf, AFewNumbersIsExact) {
  // 2, 4, 4, 4, 5, 5, 7, 9: sum 40, squared deviations 9 + 3 * 1 + 0 + 0 + 4 + 16 = 32.
  // Steps by thirds, fifths and sevenths round, hence an ulp or two of the sums on the way.
  const auto state = of<TypeParam>({2, 4, 4, 4, 5, 5, 7, 9});
  const TypeParam eps = std::numeric_limits<TypeParam>::epsilon();
  EXPECT_EQ(state.count(), 8);
  EXPECT_NEAR(double(state.mean()), 5, double(4 * eps * 5));
  EXPECT_NEAR(double(state.variance()), 4, double(8 * eps * 4));
  EXPECT_NEAR(double(state.unbiased_variance()), 32.0 / 7, double(8 * eps * 5));
}

TYPED_TEST(WelfordOf, TwoNumbersAreExactAtAnyOffset) {
  for (const TypeParam offset : {TypeParam(0), TypeParam(4096), TypeParam(1 << 22), TypeParam(-(1 << 22))}) {
    const auto state = of<TypeParam>({offset + 1, offset + 3});
    EXPECT_EQ(state.mean(), offset + 2);
    EXPECT_EQ(state.m2(), TypeParam(2));
    EXPECT_EQ(state.variance(), TypeParam(1));
    EXPECT_EQ(state.unbiased_variance(), TypeParam(2));
  }
}

TYPED_TEST(WelfordOf, EqualNumbersHaveNoVariance) {
  const auto state = of(std::vector<TypeParam>(1000, TypeParam(0.1)));
  EXPECT_EQ(state.mean(), TypeParam(0.1));
  EXPECT_EQ(state.mean_lo(), TypeParam(0));
  EXPECT_EQ(state.m2(), TypeParam(0));
}

TYPED_TEST(WelfordOf, MergingEqualSetsIsExact) {
  // {1, 3} and {5, 7}: mean 4, m2 = 2 + 2 + 4^2 * 2 * 2 / 4 = 20.
  auto state = of<TypeParam>({1, 3});
  state.merge(of<TypeParam>({5, 7}));
  EXPECT_EQ(state.count(), 4);
  EXPECT_EQ(state.mean(), TypeParam(4));
  EXPECT_EQ(state.m2(), TypeParam(20));
  // With itself: the same mean, twice the deviations.
  state.merge(Welford<TypeParam>(state));
  EXPECT_EQ(state.count(), 8);
  EXPECT_EQ(state.mean(), TypeParam(4));
  EXPECT_EQ(state.m2(), TypeParam(40));
}

TYPED_TEST(WelfordOf, MergingSetsOfUnequalSize) {
  // {0, 0, 0} and {8}: mean 2, m2 = 3 * 4 + 36 = 48.
  auto state = of<TypeParam>({0, 0, 0});
  state.merge(of<TypeParam>({8}));
  EXPECT_EQ(state.mean(), TypeParam(2));
  EXPECT_EQ(state.m2(), TypeParam(48));
}

TYPED_TEST(WelfordOf, MergingWithNothingChangesNothing) {
  const auto some = of<TypeParam>({TypeParam(0.1), TypeParam(0.7), TypeParam(0.2)});
  auto left = some;
  left.merge(Welford<TypeParam>());
  Welford<TypeParam> right;
  right.merge(some);
  for (const auto& state : {left, right}) {
    EXPECT_EQ(state.count(), some.count());
    EXPECT_EQ(state.mean(), some.mean());
    EXPECT_EQ(state.mean_lo(), some.mean_lo());
    EXPECT_EQ(state.m2(), some.m2());
  }
}

TYPED_TEST(WelfordOf, TheMeanIsCarriedTwiceAsPrecisely) {
  // The mean of 2^p and 2^p + 2 is 2^p + 1, which is no number of p bits.
  const TypeParam big = std::ldexp(TypeParam(1), std::numeric_limits<TypeParam>::digits);
  const auto state = of<TypeParam>({big, big + 2});
  EXPECT_EQ((state.mean() - big) + state.mean_lo(), TypeParam(1));
  EXPECT_EQ(state.m2(), TypeParam(2));
}

// Equal terms, whose roundings all go one way.
TYPED_TEST(WelfordOf, TheDeviationsOfManySetsAreAddedUpTwiceAsPrecisely) {
  const TypeParam one = TypeParam(0.1);
  Welford<TypeParam> state;
  for (int i = 0; i < 10000; ++i) state.merge(Welford<TypeParam>(3, TypeParam(5), TypeParam(0), one));
  EXPECT_EQ(state.m2(), TypeParam(10000) * one);
}

TYPED_TEST(WelfordOf, SumsAboutAPivotAreAnotherWayToSayIt) {
  // 8, 11, 14 about 10: sum 3, squares 4 + 1 + 16 = 21, so mean 11 and m2 = 21 - 9 / 3 = 18.
  Welford<TypeParam> state;
  state.merge_sums(3, TypeParam(10), TypeParam(3), TypeParam(21));
  EXPECT_EQ(state.count(), 3);
  EXPECT_EQ(state.mean(), TypeParam(11));
  EXPECT_EQ(state.m2(), TypeParam(18));
  // And 5 more of them: 10 five times about 8 merges to mean (33 + 50) / 8.
  state.merge_sums(5, TypeParam(8), TypeParam(10), TypeParam(20));
  EXPECT_EQ(state.count(), 8);
  EXPECT_EQ(state.mean() + state.mean_lo(), TypeParam(10.375));
  // 18 + 0 + 1^2 * 3 * 5 / 8
  EXPECT_EQ(state.m2(), TypeParam(19.875));
}

TYPED_TEST(WelfordOf, RoundingNeverMakesAVarianceNegative) {
  Welford<TypeParam> state;
  const TypeParam below = std::nextafter(TypeParam(3), TypeParam(0));
  state.merge_sums(3, TypeParam(0), TypeParam(3), below);
  EXPECT_EQ(state.m2(), TypeParam(0));
}

TYPED_TEST(WelfordOf, NaNsAndInfinitiesAreData) {
  const TypeParam nan = std::numeric_limits<TypeParam>::quiet_NaN(), inf = std::numeric_limits<TypeParam>::infinity();
  const auto with_nan = of<TypeParam>({1, nan, 2});
  EXPECT_TRUE(std::isnan(with_nan.mean()));
  EXPECT_TRUE(std::isnan(with_nan.variance()));
  auto with_inf = of<TypeParam>({1, inf});
  EXPECT_EQ(with_inf.mean(), inf);
  EXPECT_TRUE(std::isnan(with_inf.variance()) || std::isinf(with_inf.variance()));
  Welford<TypeParam> sums;
  sums.merge_sums(2, TypeParam(0), nan, nan);
  EXPECT_TRUE(std::isnan(sums.m2()));
}

TEST(WelfordLargeOffsets, KeepTheirDigits) {
  // The classic 4, 7, 13, 16: mean 10, m2 90.
  for (const double offset : {0.0, 1e6, 1e9, 1e12}) {
    const auto state = of<double>({offset + 4, offset + 7, offset + 13, offset + 16});
    EXPECT_DOUBLE_EQ(state.mean() - offset + state.mean_lo(), 10) << offset;
    EXPECT_DOUBLE_EQ(state.variance(), 22.5) << offset;
    EXPECT_DOUBLE_EQ(state.unbiased_variance(), 30) << offset;
  }
}

TEST(WelfordLargeOffsets, ManyMergesDoNotDrift) {
  // 2^16 sets {c - 1, c + 1}: mean c and variance 1, exactly, at c = 2^20.
  const double c = 1 << 20;
  Welford<double> state;
  for (int i = 0; i < 1 << 16; ++i) state.merge(of<double>({c - 1, c + 1}));
  EXPECT_EQ(state.mean(), c);
  EXPECT_EQ(state.variance(), 1);
}

TEST(Fused, RoundsOnce) {
  const double eps = std::numeric_limits<double>::epsilon();
  EXPECT_EQ(kernels::fused<double>(1 + eps, 1 - eps, -1), -eps * eps);
  EXPECT_EQ(kernels::fused<long double>(3, 4, 5), 17);
}

}  // namespace
}  // namespace tensornorm
