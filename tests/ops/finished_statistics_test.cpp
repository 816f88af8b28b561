// SPDX-License-Identifier: MIT
// Statistics finished in lanes against those finished one by one, bit for bit.
#include <gtest/gtest.h>

#include <tensornorm/ops/finished_statistics.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace tensornorm::kernels {
namespace {

using support::same_bits;

constexpr Index kCount = 64, kSamples = 12;

/// Sums of `kSamples` numbers each, of many sizes; those of a constant, and of what is not finite, among them.
struct Sums {
  std::vector<double> pivot = support::random_values<double>(kCount, 1, 0, 100), sum = support::random_values<double>(kCount, 2, 0, 10),
                      rest = support::random_values<double>(kCount, 3, 0, 1e-16), squares;
  Sums() {
    for (Index i = 0; i < kCount; ++i) {
      const auto k = static_cast<std::size_t>(i);
      squares.push_back(sum[k] * sum[k] / kSamples * (1 + double(i % 7)));
    }
    pivot[1] = -0.0;
    sum[1] = squares[1] = rest[1] = 0;
    squares[2] = std::nextafter(sum[2] * sum[2] / kSamples, 0);  // its m2 is rounded to something below 0
    sum[3] = 1e-200;
    squares[3] = 1e-300;
    squares[4] = 1e300;
    sum[5] = squares[5] = std::numeric_limits<double>::infinity();
    squares[6] = std::numeric_limits<double>::quiet_NaN();
  }
};

TEST(FinishedStatistics, AreThoseOfOneAtATime) {
  const Sums from;
  for (const StatisticsRule& rule :
       {StatisticsRule{}, StatisticsRule{0, VarianceEstimator::unbiased, EpsAddedTo::variance, true},
        StatisticsRule{1e-3, VarianceEstimator::biased, EpsAddedTo::deviation, true}, StatisticsRule{1e-6, VarianceEstimator::biased, EpsAddedTo::variance, false}})
    for (const bool rests : {false, true})
      support::at_each_level([&](Level) {
        std::vector<double> mean(kCount), mean_lo(kCount), rstd(kCount), variance(kCount), center_rest(kCount), center_rstd(kCount);
        std::vector<float> center_mean(kCount);
        support::run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
          using V = HardwareLanes<double, I>;
          for (std::size_t k = 0; k < std::size_t(kCount); k += std::size_t(V::width)) {
            const V pivot = V::load(&from.pivot[k]), sum = V::load(&from.sum[k]), squares = V::load(&from.squares[k]);
            const FinishedStatistics<V> all = rests ? FinishedStatistics<V>(rule, kSamples, pivot, sum, V::load(&from.rest[k]), squares)
                                                    : FinishedStatistics<V>(rule, kSamples, pivot, sum, squares);
            all.mean.store(&mean[k]);
            all.mean_lo.store(&mean_lo[k]);
            all.rstd.store(&rstd[k]);
            all.variance.store(&variance[k]);
            store_centers(all.mean, all.mean_lo, all.rstd, &center_mean[k], &center_rest[k], &center_rstd[k]);
          }
        });
        for (Index i = 0; i < kCount; ++i) {
          const auto k = static_cast<std::size_t>(i);
          ScaledWelford<float, double> state;
          state.state = !rule.centered ? Welford<double>(kSamples, 0, 0, from.squares[k])
                        : rests        ? Welford<double>::of_sums(kSamples, from.pivot[k], from.sum[k], from.rest[k], from.squares[k])
                                       : Welford<double>::of_sums(kSamples, from.pivot[k], from.sum[k], from.squares[k]);
          StatisticsArrays<double> to;
          double one_mean = 0, one_lo = 0, one_rstd = 0, one_variance = 0;
          to = {&one_mean, &one_lo, &one_rstd, &one_variance};
          const auto center = finish_statistic<float, float>(rule, kSamples, state, to, 0);
          const auto same = [](double a, double b) { return same_bits(std::vector{a}, std::vector{b}) || (a != a && b != b); };
          EXPECT_TRUE(same(mean[k], one_mean)) << i;
          EXPECT_TRUE(same(mean_lo[k], one_lo)) << i;
          EXPECT_TRUE(same(rstd[k], one_rstd)) << i;
          EXPECT_TRUE(same(variance[k], one_variance)) << i;
          if (!is_near<float, float>(one_rstd)) continue;
          EXPECT_TRUE(same(double(center_mean[k]), double(center.mean))) << i;
          EXPECT_TRUE(same(center_rest[k], center.rest)) << i;
          EXPECT_TRUE(same(center_rstd[k], center.rstd)) << i;
        }
      });
}

template <class Value>
void given_statistics_are_those_of_one_at_a_time(double small) {
  const std::vector<Value> means = support::random_values<Value>(67, 6, 1e3, 1);
  std::vector<Value> variances = support::random_values<Value>(67, 5, 3, 1);
  variances[0] = 0;
  variances[1] = -1;
  variances[2] = std::numeric_limits<Value>::infinity();
  variances[3] = std::numeric_limits<Value>::quiet_NaN();
  variances[66] = Value(small);
  const std::vector<double> untouched(67, -7);
  for (const StatisticsRule& rule : {StatisticsRule{}, StatisticsRule{0, VarianceEstimator::biased, EpsAddedTo::variance, true},
                                     StatisticsRule{1e-3, VarianceEstimator::unbiased, EpsAddedTo::deviation, true}})
    support::at_each_level([&](Level) {
      for (const double correction : {1.0, 1.25})
        for (const bool asks_for_rest : {false, true})
          for (const Index count : {Index{0}, Index{1}, Index{7}, Index{8}, Index{67}}) {
            std::vector<double> mean = untouched, rest = untouched, rstd = untouched;
            const StatisticsArrays<double> to{mean.data(), asks_for_rest ? rest.data() : nullptr, rstd.data(), nullptr};
            dispatch(GivenStatistics<double, Value>{rule, means.data(), variances.data(), correction, to, count});
            for (std::size_t k = 0; k < means.size(); ++k) {
              const bool given = Index(k) < count;
              EXPECT_EQ(mean[k], given ? double(means[k]) : -7) << k << " of " << count;
              EXPECT_EQ(rest[k], given && asks_for_rest ? 0 : -7) << k << " of " << count;
              EXPECT_TRUE(support::same_number(rstd[k], given ? rule.rstd(double(variances[k]) * correction) : -7)) << k << " of " << count;
            }
          }
    });
}

TEST(GivenStatistics, TellWhetherElementsAskForAScale) {
  const std::vector<float> means(19, 0.5F), ordinary(19, 2.0F);
  std::vector<double> mean(19), rstd(19);
  const StatisticsArrays<double> to{mean.data(), nullptr, rstd.data(), nullptr};
  const StatisticsRule rule{1e-90, VarianceEstimator::biased, EpsAddedTo::variance, true};
  support::at_each_level([&](Level) {
    const auto near = [&]<class T>(T, const std::vector<float>& variances, Index count) {
      bool all = !(count > 0);
      dispatch(GivenStatistics<double, float, T>{rule, means.data(), variances.data(), 1, to, count, &all});
      return all;
    };
    EXPECT_TRUE(near(1.0F, ordinary, 19));
    EXPECT_TRUE(near(1.0F, ordinary, 0));
    for (const std::size_t at : {0U, 7U, 15U, 16U, 18U}) {
      std::vector<float> variances = ordinary;
      variances[at] = 0;  // whose rstd no float is
      EXPECT_FALSE(near(1.0F, variances, 19)) << at;
      EXPECT_TRUE(near(1.0F, variances, Index(at))) << at;
      EXPECT_TRUE(near(Eigen::half(1), variances, 19)) << "halves are never scaled";
      EXPECT_TRUE(near(1.0, variances, 19)) << "nor is there a wider type than double's";
      variances[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_FALSE(near(1.0F, variances, 19)) << at;
    }
  });
}

TEST(GivenStatistics, AreThoseOfOneAtATime) {
  given_statistics_are_those_of_one_at_a_time<float>(1e-44);
  given_statistics_are_those_of_one_at_a_time<double>(1e-310);
}

}  // namespace
}  // namespace tensornorm::kernels
