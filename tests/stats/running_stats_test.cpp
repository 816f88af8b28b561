// SPDX-License-Identifier: MIT
// Without a layer. Expected values are worked out by hand or by the recursion in long double.
#include <gtest/gtest.h>

#include <tensornorm/stats/running_stats.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace tensornorm {
namespace {

using support::logical;
using Doubles = std::vector<double>;

template <class T>
class RunningStatsOf : public testing::Test {
 protected:
  using Values = std::vector<T>;
};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(RunningStatsOf, Scalars);

TYPED_TEST(RunningStatsOf, StartAtZeroAndOne) {
  const RunningStats<TypeParam> stats(3);
  EXPECT_EQ(logical(stats.mean()), (std::vector<TypeParam>{0, 0, 0}));
  EXPECT_EQ(logical(stats.variance()), (std::vector<TypeParam>{1, 1, 1}));
  EXPECT_EQ(stats.num_batches(), 0);
  EXPECT_EQ(stats.num_features(), 3);
  EXPECT_EQ(stats.momentum(), 0.1);
  EXPECT_EQ(stats.estimator(), VarianceEstimator::unbiased);
}

// A quarter of the new value; the variance 3 of 4 samples is 4 unbiased.
TYPED_TEST(RunningStatsOf, MoveByMomentumTowardsTheUnbiasedVariance) {
  RunningStats<TypeParam> stats(2, 0.25);
  stats.update(Doubles{8, -4}, Doubles{3, 0}, 4);
  EXPECT_EQ(logical(stats.mean()), (std::vector<TypeParam>{2, -1}));
  EXPECT_EQ(logical(stats.variance()), (std::vector<TypeParam>{1.75, 0.75}));
  stats.update(Doubles{2, -1}, Doubles{3, 3}, 4);
  EXPECT_EQ(logical(stats.mean()), (std::vector<TypeParam>{2, -1}));
  EXPECT_EQ(logical(stats.variance()), (std::vector<TypeParam>{2.3125, 1.5625}));
  EXPECT_EQ(stats.num_batches(), 2);
}

TYPED_TEST(RunningStatsOf, BiasedByChoice) {
  RunningStats<TypeParam> stats(1, 0.25, VarianceEstimator::biased);
  stats.update(Doubles{8}, Doubles{3}, 4);
  EXPECT_EQ(stats.variance()(0), TypeParam(1.5));
  stats.update(Doubles{8}, Doubles{0}, 1);
  EXPECT_EQ(stats.variance()(0), TypeParam(1.125)) << "one sample has a biased variance";
}

// The mean of what came, not of 0 and 1 at the start: 1, then (1 + 4) / 2, then (1 + 4 + 10) / 3.
TYPED_TEST(RunningStatsOf, AverageCumulativelyWithoutMomentum) {
  RunningStats<TypeParam> stats(1, std::nullopt, VarianceEstimator::biased);
  stats.update(Doubles{1}, Doubles{2}, 7);
  EXPECT_EQ(stats.mean()(0), 1);
  EXPECT_EQ(stats.variance()(0), 2);
  stats.update(Doubles{4}, Doubles{6}, 7);
  EXPECT_EQ(stats.mean()(0), TypeParam(2.5));
  EXPECT_EQ(stats.variance()(0), 4);
  stats.update(Doubles{10}, Doubles{1}, 7);
  // A third is not exact, hence an ulp.
  EXPECT_NEAR(stats.mean()(0), 5, 5 * std::numeric_limits<TypeParam>::epsilon());
  EXPECT_NEAR(stats.variance()(0), 3, 3 * std::numeric_limits<TypeParam>::epsilon());
  EXPECT_EQ(stats.num_batches(), 3);
}

TYPED_TEST(RunningStatsOf, MomentumZeroLeavesEveryBitAndOneReplaces) {
  const std::vector<TypeParam> odd{TypeParam(-0.0), TypeParam(0.1), TypeParam(1e-30)};
  for (const double momentum : {0.0, 1.0}) {
    RunningStats<TypeParam> stats(3, momentum, VarianceEstimator::biased);
    stats.load(odd, std::vector<TypeParam>{TypeParam(0.3), 0, TypeParam(1e30)}, 4);
    const auto mean = logical(stats.mean()), variance = logical(stats.variance());
    stats.update(Doubles{0.5, 7, 1e20}, Doubles{2, 3, 1e-20}, 5);
    EXPECT_EQ(stats.num_batches(), 5);
    if (momentum == 0) {
      EXPECT_EQ(std::memcmp(stats.mean().data(), mean.data(), 3 * sizeof(TypeParam)), 0);
      EXPECT_EQ(std::memcmp(stats.variance().data(), variance.data(), 3 * sizeof(TypeParam)), 0);
    } else {
      EXPECT_EQ(logical(stats.mean()), (std::vector<TypeParam>{0.5, 7, TypeParam(1e20)}));
      EXPECT_EQ(logical(stats.variance()), (std::vector<TypeParam>{2, 3, TypeParam(1e-20)}));
    }
  }
}

// An infinite or NaN state does not outlive momentum 1, of one feature nor of several.
TYPED_TEST(RunningStatsOf, MomentumOneForgetsWhatWasNotFinite) {
  support::at_each_level([](kernels::Level) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{19}}) {
      RunningStats<TypeParam> stats(Index(count), 1.0);
      stats.update(Doubles(count, std::numeric_limits<double>::infinity()), Doubles(count, std::nan("")), 5);
      EXPECT_TRUE(std::isnan(stats.variance()(0)));
      stats.update(Doubles(count, 3), Doubles(count, 4), 5);
      EXPECT_EQ(logical(stats.mean()), std::vector<TypeParam>(count, 3));
      EXPECT_EQ(logical(stats.variance()), std::vector<TypeParam>(count, 5));
    }
  });
}

// A share of the unbiased variance may be a number where that itself is none.
TEST(RunningStats, AVarianceThatOnlyItsShareHasANumberFor) {
  support::at_each_level([](kernels::Level) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{19}}) {
      RunningStats<double> stats(Index(count), 0.1);
      stats.update(Doubles(count, 0), Doubles(count, 1.5e308), 2);
      for (std::size_t c = 0; c < count; ++c) EXPECT_NEAR(stats.variance()(Index(c)) / 3e307, 1, 1e-15);
    }
  });
}

// Wherever it stands among others a feature has the bits it has alone, which are those of long double but for an ulp of the largest term
// (of doubles two: what is added up is rounded to them as well).
TYPED_TEST(RunningStatsOf, EachFeatureMovesAsAlone) {
  constexpr Index most = 150, images = 3;
  const Doubles means = support::random_values<double>(most * images, 1, 0, 5), variances = support::random_values<double>(most * images, 2, 3, 0.3);
  const auto before = support::random_values<TypeParam>(most, 3, 0, 5), spread = support::random_values<TypeParam>(most, 4, 3, 0.3);
  const long double ulp = std::numeric_limits<TypeParam>::epsilon() * (std::is_same_v<TypeParam, float> ? 1 : 2);
  const auto moved = [&](Index first, Index count, const Doubles& mean, const Doubles& variance, Index repeats, bool feature_fastest) {
    RunningStats<TypeParam> stats(count, 0.1);
    stats.load(std::vector(before.begin() + first, before.begin() + first + count), std::vector(spread.begin() + first, spread.begin() + first + count), 1);
    stats.update(mean.data(), variance.data(), 10, repeats, feature_fastest);
    return stats;
  };
  support::at_each_level([&](kernels::Level) {
    for (const Index repeats : {Index{1}, images})
      for (const bool feature_fastest : {false, true})
        for (const Index count : {Index{1}, Index{7}, Index{8}, Index{64}, Index{65}, most}) {
          const auto of = [&](const Doubles& values, Index c) {
            Doubles result;
            for (Index i = 0; i < repeats; ++i) result.push_back(values[static_cast<std::size_t>(feature_fastest ? i * count + c : c * repeats + i)]);
            return result;
          };
          const auto all = moved(0, count, means, variances, repeats, feature_fastest);
          for (Index c = 0; c < count; ++c) {
            const Doubles mean = of(means, c), variance = of(variances, c);
            const auto alone = moved(c, 1, mean, variance, repeats, feature_fastest);
            EXPECT_EQ(all.mean()(c), alone.mean()(0)) << c << " of " << count;
            EXPECT_EQ(all.variance()(c), alone.variance()(0)) << c << " of " << count;
            const auto k = static_cast<std::size_t>(c);
            const auto share = 0.1L / static_cast<long double>(repeats);
            long double m = before[k] * 0.9L, v = spread[k] * 0.9L, largest = std::abs(m);
            for (const double x : mean) m += share * x, largest = std::max<long double>(largest, std::abs(0.1L * x));
            for (const double x : variance) v += share * x * 10 / 9;
            EXPECT_LE(std::abs(all.mean()(c) - m), ulp * largest) << c << " of " << count;
            EXPECT_LE(std::abs(all.variance()(c) - v), ulp * v) << c << " of " << count;
          }
        }
  });
}

// Two images of three features: the images' means and variances are averaged, 3 of 4 samples being 4 unbiased.
TYPED_TEST(RunningStatsOf, RepeatsAreAveragedInEitherOrder) {
  const double by_image[] = {1, 2, 3, 5, 8, 13}, by_feature[] = {1, 5, 2, 8, 3, 13}, variance[] = {3, 3, 3, 3, 3, 3};
  for (const bool feature_fastest : {true, false}) {
    RunningStats<TypeParam> stats(3, 1.0);
    stats.update(feature_fastest ? by_image : by_feature, variance, 4, 2, feature_fastest);
    EXPECT_EQ(logical(stats.mean()), (std::vector<TypeParam>{3, 5, 8}));
    EXPECT_EQ(logical(stats.variance()), (std::vector<TypeParam>{4, 4, 4}));
    EXPECT_EQ(stats.num_batches(), 1);
  }
}

TYPED_TEST(RunningStatsOf, NoSamplesChangeNothing) {
  RunningStats<TypeParam> stats(2);
  const double nan[] = {std::nan(""), std::nan("")};
  stats.update(nan, nan, 0);
  stats.update(nan, nan, 5, 0);
  EXPECT_EQ(stats.num_batches(), 0);
  EXPECT_EQ(logical(stats.mean()), (std::vector<TypeParam>{0, 0}));
}

// Row 97 of the faults: a million steps against the same recursion in long double. Each step rounds to half an ulp and
// forgets a tenth of the error before it: 10 * eps / 2 relative to the largest state, and of floats 1e-6 at most.
TYPED_TEST(RunningStatsOf, DoNotDriftInAMillionSteps) {
  RunningStats<TypeParam> stats(1);
  long double mean = 0, variance = 1;
  for (int i = 0; i < 1000000; ++i) {
    const Doubles m{std::sin(0.1 * i)}, v{2 + std::cos(0.7 * i)};
    stats.update(m.data(), v.data(), 10);
    mean += 0.1L * (m[0] - mean);
    variance += 0.1L * (v[0] * 10 / 9 - variance);
  }
  const double eps = std::numeric_limits<TypeParam>::epsilon();
  EXPECT_NEAR(stats.mean()(0), double(mean), std::min(10 * eps, 1e-6));
  EXPECT_NEAR(stats.variance()(0), double(variance), std::min(10 * eps * 4, 1e-6));
}

TYPED_TEST(RunningStatsOf, LoadAndReset) {
  RunningStats<TypeParam> stats(2, 0.5);
  stats.load(std::vector<float>{1, 2}, Eigen::Vector2d(3, 0), 9);
  EXPECT_EQ(logical(stats.mean()), (std::vector<TypeParam>{1, 2}));
  EXPECT_EQ(logical(stats.variance()), (std::vector<TypeParam>{3, 0}));
  EXPECT_EQ(stats.num_batches(), 9);
  const RunningStats<TypeParam> copy = stats;
  stats.reset();
  EXPECT_EQ(logical(stats.mean()), (std::vector<TypeParam>{0, 0}));
  EXPECT_EQ(logical(stats.variance()), (std::vector<TypeParam>{1, 1}));
  EXPECT_EQ(stats.num_batches(), 0);
  EXPECT_EQ(stats.momentum(), 0.5);
  EXPECT_EQ(copy.mean()(1), 2) << "copies are deep";
  stats.load(copy.mean(), copy.variance(), copy.num_batches());
  EXPECT_EQ(logical(stats.mean()), logical(copy.mean()));
}

TYPED_TEST(RunningStatsOf, TheCounterSaturates) {
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  RunningStats<TypeParam> stats(1, std::nullopt);
  stats.load(std::vector<TypeParam>{1}, std::vector<TypeParam>{1}, most);
  stats.update(Doubles{2}, Doubles{1}, 5);
  EXPECT_EQ(stats.num_batches(), most);
  EXPECT_EQ(stats.mean()(0), 1);
}

template <class F>
std::string text_of_failure(F f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing";
}

/// Vectors of any type are taken in as layers' statistics are: in the type of those.
TEST(RunningStats, VectorsOfNarrowerTypesLoseNothingOfTheState) {
  RunningStats<double> kept(1);
  kept.load(Doubles{1 + 0x1p-40}, Doubles{1 + 0x1p-40}, 1);
  kept.update(std::vector<float>{1}, std::vector<float>{1}, 1 << 30);
  EXPECT_NEAR(kept.mean()(0) - 1, 0.9 * 0x1p-40, 1e-15);

  RunningStats<Eigen::half> of_many(1, 1.0);
  const std::vector<Eigen::half> two{Eigen::half(2)};
  of_many.update(two, two, 100000);  // more than a half can count
  EXPECT_EQ(of_many.mean()(0), 2);
  EXPECT_FLOAT_EQ(of_many.variance()(0), float(2 * 100000.0 / 99999));

  RunningStats<float> of_integers(1, 0.5);
  of_integers.update(std::vector<int>{3}, Doubles{2}, 3);
  EXPECT_EQ(of_integers.mean()(0), 1.5F);
  EXPECT_EQ(of_integers.variance()(0), 2);
}

/// The state may be given to itself.
TEST(RunningStats, TheirOwnVarianceAsMean) {
  RunningStats<double> stats(2, 0.5, VarianceEstimator::biased);
  stats.load(Doubles{1, 2}, Doubles{3, 4}, 5);
  stats.update(stats.variance(), stats.mean(), 4);
  EXPECT_EQ(logical(stats.mean()), (Doubles{2, 3}));
  EXPECT_EQ(logical(stats.variance()), (Doubles{2, 3}));
}

TYPED_TEST(RunningStatsOf, RefuseWhatDoesNotFitAndChangeNothing) {
  RunningStats<TypeParam> stats(2);
  stats.load(Doubles{1, 2}, Doubles{3, 4}, 5);
  const auto refused = [&](const std::string& text, auto f) {
    EXPECT_EQ(text_of_failure(f), "RunningStats::" + text);
    EXPECT_EQ(logical(stats.mean()), (std::vector<TypeParam>{1, 2}));
    EXPECT_EQ(logical(stats.variance()), (std::vector<TypeParam>{3, 4}));
    EXPECT_EQ(stats.num_batches(), 5);
  };
  const Doubles two{1, 1}, three{1, 1, 1};
  refused("update: mean: expected 2 elements, got 3", [&] { stats.update(three, two, 4); });
  refused("update: variance: expected 2 elements, got 3", [&] { stats.update(two, three, 4); });
  refused("update: expected more than 1 sample per feature, got 1", [&] { stats.update(two, two, 1); });
  refused("update: expected samples >= 0, got -5", [&] { stats.update(two, two, -5); });
  refused("update: expected variance >= 0, got -2 at index 1", [&] { stats.update(two, Doubles{1, -2}, 4); });
  refused("load: running_mean: expected 2 elements, got 3", [&] { stats.load(three, two, 4); });
  refused("load: running_var: expected 2 elements, got 3", [&] { stats.load(two, three, 4); });
  refused("load: expected running_var >= 0, got -2 at index 1", [&] { stats.load(two, Doubles{1, -2}, 4); });
  refused("load: expected running_var >= 0, got nan at index 0", [&] { stats.load(two, Doubles{std::nan(""), 1}, 4); });
  refused("load: expected num_batches >= 0, got -1", [&] { stats.load(two, two, -1); });
}

// The average of equal numbers is that number.
TYPED_TEST(RunningStatsOf, AveragesOverThousandsOfImages) {
  for (const bool feature_fastest : {true, false}) {
    RunningStats<TypeParam> stats(1, 1.0, VarianceEstimator::biased);
    const Doubles means(2197, 0.1), variances(2197, 0.7);
    stats.update(means.data(), variances.data(), 10, 2197, feature_fastest);
    EXPECT_EQ(stats.mean()(0), TypeParam(0.1));
    EXPECT_EQ(stats.variance()(0), TypeParam(0.7));
  }
}

// The sum of the two images' variances is beyond the largest double, their average is not.
TEST(RunningStatsOfDouble, AveragesOfTheLargestNumbers) {
  for (const double mean : {0.0, 1.5e308}) {
    RunningStats<double> stats(1, 1.0, VarianceEstimator::biased);
    const Doubles means{mean, mean}, variances{1e308, 1.2e308};
    stats.update(means.data(), variances.data(), 10, 2);
    EXPECT_DOUBLE_EQ(stats.mean()(0), mean);
    EXPECT_DOUBLE_EQ(stats.variance()(0), 1.1e308);
  }
}

TEST(RunningStatsOfHalf, AreStoredInFloat) {
  static_assert(std::is_same_v<RunningStats<Eigen::half>::Value, float>);
  static_assert(std::is_same_v<RunningStats<Eigen::bfloat16>::Value, float>);
  static_assert(std::is_same_v<RunningStats<double>::Value, double>);
}

TEST(RunningStatsNames, MessagesNameTheLayer) {
  RunningStats<float> stats(2, 0.1, VarianceEstimator::unbiased, "MyNorm");
  EXPECT_EQ(text_of_failure([&] { stats.load(Doubles{1}, Doubles{1}, 0); }),
            "MyNorm::load: running_mean: expected 2 elements, got 1");
}

}  // namespace
}  // namespace tensornorm
