// SPDX-License-Identifier: MIT
// Coefficients of gradients made in lanes against those made one by one, bit for bit.
#include <gtest/gtest.h>

#include <tensornorm/ops/backward_walks.hpp>

#include <cfenv>
#include <cmath>
#include <limits>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace tensornorm::kernels {
namespace {

template <class T>
class GradientCentersTest : public testing::Test {
 protected:
  using A = accumulator_t<T>;
  using S = statistic_t<T>;
  static constexpr Index kCount = 64 + 5, kRoom = 2 * kCount;

  static bool same(S a, S b) { return support::same_bits(std::vector{a}, std::vector{b}) || (a != a && b != b); }

  std::vector<S> mean = support::random_values<S>(kRoom, 1, 0, 100), mean_lo = support::random_values<S>(kRoom, 2, 0, 1e-10), rstd,
                 plain = support::random_values<S>(kCount, 3, 0, 5), centered = support::random_values<S>(kCount, 4, 0, 50);

  GradientCentersTest() {
    for (const S deviation : support::random_values<S>(kRoom, 5, 1, 0.2)) rstd.push_back(S(1) / std::abs(deviation));
    plain[1] = centered[1] = 0;
    plain[2] = std::numeric_limits<S>::infinity();
    centered[3] = std::numeric_limits<S>::quiet_NaN();
  }
  BackwardArguments<T> arguments(const StatisticsRule& rule, Index samples) const {
    BackwardArguments<T> args;
    args.rule = rule;
    args.samples = samples;
    args.statistics = {mean.data(), mean_lo.data(), rstd.data(), nullptr};
    return args;
  }

  /// All of them by arrays at every level, each against GradientCenter; `lanes`: how many of them lanes may serve.
  void expect_those_of_one_at_a_time(const BackwardArguments<T>& args, Index step, Index lanes) const {
    support::at_each_level([&](Level) {
      std::vector<S> rests(kCount), units(kCount);
      std::vector<A> means(kCount), factors(kCount), rstds(kCount), shifts(kCount), slopes(kCount), offsets(kCount), norm_rstds,
          set_means;
      const GradientCenterArrays<A, S> arrays{rests.data(),   units.data(),  means.data(),  factors.data(),
                                              rstds.data(), shifts.data(), slopes.data(), offsets.data()};
      Index in_lanes = -1, expected_lanes = -1;
      bool scaled = false, expected_scaled = false;
      constexpr int trapping = FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW;
      std::feclearexcept(FE_ALL_EXCEPT);
      support::run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
        if constexpr (finishes_in_lanes<S, I>()) expected_lanes = lanes / HardwareLanes<S, I>::width * HardwareLanes<S, I>::width;
        else expected_lanes = 0;
        const auto made = arrays.template set<I>(args, 1, step, kCount);
        in_lanes = made.in_lanes;
        scaled = made.scaled;
        norm_rstds = rstds;
        set_means = means;
        arrays.template finish<I>(args, 1, step, kCount, in_lanes, plain.data(), centered.data());
      });
      const int raised = std::fetestexcept(trapping);
      std::feclearexcept(FE_ALL_EXCEPT);
      EXPECT_EQ(in_lanes, expected_lanes);
      for (Index i = 0; i < kCount; ++i) {
        const auto k = static_cast<std::size_t>(i);
        GradientCenter<A, S> one(args, 1 + i * step);
        expected_scaled |= one.factor != A(1);
        EXPECT_TRUE(same(rests[k], one.rest)) << i;
        EXPECT_TRUE(same(units[k], one.unit)) << i;
        EXPECT_TRUE(same(set_means[k], one.mean)) << i;
        EXPECT_TRUE(same(factors[k], one.factor)) << i;
        EXPECT_TRUE(same(norm_rstds[k], static_cast<A>(one.unit))) << i;
        EXPECT_TRUE(same(shifts[k], one.shift())) << i;
        one.finish(args, {plain[k], centered[k]});
        EXPECT_TRUE(same(means[k], one.mean)) << i;
        EXPECT_TRUE(same(rstds[k], static_cast<A>(one.rstd))) << i;
        EXPECT_TRUE(same(slopes[k], one.slope)) << i;
        EXPECT_TRUE(same(offsets[k], one.offset)) << i;
      }
      EXPECT_EQ(scaled, expected_scaled);
      EXPECT_EQ(raised & ~std::fetestexcept(trapping), 0) << "exceptions that one at a time does not raise";
    });
  }

  static std::vector<StatisticsRule> rules() {
    return {{},
            {0, VarianceEstimator::unbiased, EpsAddedTo::variance, true},
            {1e-3, VarianceEstimator::biased, EpsAddedTo::deviation, true},
            {0.9, VarianceEstimator::unbiased, EpsAddedTo::deviation, false},  // above some of the deviations
            {1e-6, VarianceEstimator::biased, EpsAddedTo::variance, false}};
  }
};
using Types = testing::Types<float, double, Eigen::half>;
TYPED_TEST_SUITE(GradientCentersTest, Types);

TYPED_TEST(GradientCentersTest, AreThoseOfOneAtATime) {
  for (const StatisticsRule& rule : this->rules())
    for (const Index samples : {Index{12}, kChunk, Index{100003}}) {
      auto args = this->arguments(rule, samples);
      this->expect_those_of_one_at_a_time(args, 1, this->kCount);
      this->expect_those_of_one_at_a_time(args, 2, 0);
      args.constant = true;
      this->expect_those_of_one_at_a_time(args, 1, this->kCount);
      args.constant = false;
      args.normalized = true;
      this->expect_those_of_one_at_a_time(args, 1, 0);
    }
}

/// Lanes end before the first vector with a statistic that asks for a scale, or is none.
TYPED_TEST(GradientCentersTest, LeaveWhatAsksForAScaleToItself) {
  using Statistic = typename TestFixture::S;
  using Limits = std::numeric_limits<Statistic>;
  const Statistic large = std::is_same_v<TypeParam, double> ? Statistic(1e200) : Statistic(1e30);
  for (const Statistic far : {1 / large, large, Statistic(0), Limits::infinity(), Limits::quiet_NaN()}) {
    this->rstd[1 + 33] = far;
    this->mean[1 + 33] = Statistic(0.5);
    constexpr bool scales = may_scale<typename TestFixture::A, TypeParam>;
    for (const Index samples : {Index{12}, Index{100003}})
      this->expect_those_of_one_at_a_time(this->arguments({}, samples), 1, scales ? 32 : this->kCount);
  }
}

/// With eps beside a deviation of 0 there is no slope, whatever the sum.
TYPED_TEST(GradientCentersTest, AConstantHasNoSlope) {
  using Statistic = typename TestFixture::S;
  const Statistic infinity = std::numeric_limits<Statistic>::infinity();
  const StatisticsRule rule{0.125, VarianceEstimator::biased, EpsAddedTo::deviation, true};
  for (const Statistic inverse : {Statistic(8), Statistic(0)})  // 1 / eps
    for (const Statistic sum : {Statistic(3), infinity, -infinity, std::numeric_limits<Statistic>::quiet_NaN()}) {
      EXPECT_EQ(rule.slope(inverse, sum, 4), Statistic(0));
      support::at_each_level([&](Level) {
        support::run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
          using V = HardwareLanes<Statistic, I>;
          Statistic slopes[V::width];
          rule.slope(V(inverse), V(sum), 4).store(slopes);
          for (const Statistic slope : slopes) EXPECT_EQ(slope, Statistic(0));
        });
      });
    }
}

}  // namespace
}  // namespace tensornorm::kernels
