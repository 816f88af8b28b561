// SPDX-License-Identifier: MIT
// What stands beside columns, and what their sums give to statistics and parameters, against loops over the columns one by one.
#include <gtest/gtest.h>

#include <tensornorm/kernels/fold.hpp>
#include <tensornorm/kernels/sample_pivots.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"

namespace tensornorm::kernels {
namespace {

/// Columns of up to four loops, each with a step of its own in the statistics and parameters, or none.
LoopList random_columns(std::mt19937& random) {
  const auto pick = [&](int n) { return static_cast<Index>(random() % static_cast<unsigned>(n)); };
  LoopList columns;
  Index statistic = 1, param = 1, data = 1;
  std::vector<Loop> fastest_first;
  for (Index depth = 1 + pick(4); depth > 0; --depth) {
    Loop loop{1 + pick(depth == 1 ? 20 : 5), {data, data, data}, 0, 0};
    data *= loop.extent;
    if (pick(2) == 0) {
      loop.statistic = statistic;
      statistic *= loop.extent;
    }
    if (pick(2) == 0) {
      loop.param = param;
      param *= loop.extent;
    }
    fastest_first.push_back(loop);
  }
  for (auto loop = fastest_first.rbegin(); loop != fastest_first.rend(); ++loop) columns.push(*loop);
  return columns;
}

template <class T>
class Fold : public testing::Test {};
using Numbers = testing::Types<float, double, long double>;
TYPED_TEST_SUITE(Fold, Numbers);

template <class T>
std::vector<T> numbers(Index count, unsigned seed) {
  const auto values = support::random_values<double>(count, seed);
  return {values.begin(), values.end()};
}

TYPED_TEST(Fold, ExpandWritesEachColumnAndALineOfZeros) {
  using T = TypeParam;
  std::mt19937 random(1);
  for (unsigned seed = 0; seed < 2000; ++seed) {
    const LoopList columns = random_columns(random);
    const Index width = columns.size(), line = kLine<T>;
    const auto from = numbers<T>(width, seed);
    std::vector<T> expected(static_cast<std::size_t>(width + line + 1), T(0)), to(expected.size(), T(7));
    expected.back() = T(7);
    Odometer at(columns);
    for (std::size_t c = 0; c < static_cast<std::size_t>(width); ++c, at.next())
      expected[c] = from[static_cast<std::size_t>(at.offsets().statistic)];
    expand<&Loop::statistic>(columns, from.data(), to.data());
    ASSERT_EQ(to, expected) << "seed " << seed;
  }
}

TYPED_TEST(Fold, FoldAddsEachColumnOnce) {
  using T = TypeParam;
  using S = statistic_t<T>;
  std::mt19937 random(2);
  for (unsigned seed = 0; seed < 2000; ++seed) {
    const LoopList columns = random_columns(random);
    const Index width = columns.size();
    // Small integers: no sum of them is rounded.
    std::vector<S> from(static_cast<std::size_t>(width)), sums(from.size() + 1, S(1)), rests(sums.size(), S(0)), expected = sums;
    for (S& value : from) value = S(static_cast<int>(random() % 1000));
    const SumArray<T, S> to{sums.data(), keeps_rest<T, S> ? rests.data() : sums.data()};
    fold<&Loop::param>(columns, from.data(), to);
    Odometer at(columns);
    for (std::size_t c = 0; c < from.size(); ++c, at.next()) expected[static_cast<std::size_t>(at.offsets().param)] += from[c];
    ASSERT_EQ(sums, expected) << "seed " << seed;
  }
}

TYPED_TEST(Fold, SetFoldedLeavesNothingOfWhatWasThere) {
  using T = TypeParam;
  using S = statistic_t<T>;
  using Limits = std::numeric_limits<S>;
  std::mt19937 random(3);
  int copied = 0;
  for (unsigned seed = 0; seed < 2000; ++seed) {
    const LoopList columns = random_columns(random);
    Index statistics = 1;
    for (int i = 0; i < columns.depth; ++i) statistics *= columns.loops[i].statistic != 0 ? columns.loops[i].extent : 1;
    std::vector<S> from(static_cast<std::size_t>(columns.size())), expected(static_cast<std::size_t>(statistics), S(0));
    for (S& value : from) value = S(static_cast<int>(random() % 1000));
    if (statistics == columns.size()) {  // none has another to be added to
      ++copied;
      from.front() = Limits::infinity();
      from.back() = seed % 2 == 0 ? Limits::quiet_NaN() : -Limits::infinity();
    }
    std::vector<S> sums(expected.size() + 1, S(7)), rests = sums;
    set_folded(columns, from.data(), SumArray<T, S>{sums.data(), keeps_rest<T, S> ? rests.data() : sums.data()}, statistics);
    Odometer at(columns);
    for (std::size_t c = 0; c < from.size(); ++c, at.next()) expected[static_cast<std::size_t>(at.offsets().statistic)] += from[c];
    expected.push_back(S(7));
    // By value: a long double has bytes that are no part of it.
    const auto same = [](S a, S b) { return a == b || (a != a && b != b); };
    ASSERT_TRUE(std::equal(sums.begin(), sums.end(), expected.begin(), expected.end(), same)) << "seed " << seed;
    if (!keeps_rest<T, S>) continue;
    expected.assign(expected.size(), S(0));
    expected.back() = S(7);
    ASSERT_EQ(rests, expected) << "seed " << seed;
  }
  EXPECT_GT(copied, 100);
}

// What rounding takes from a sum of doubles stays beside it, of few statistics that come again, too.
TEST(FoldOfDoubles, KeepsWhatRoundingTakes) {
  for (const Index few : {1, 2, 3, 5, 7}) {
    constexpr Index kTimes = 150;
    LoopList columns;
    columns.push({kTimes, {few, few, few}, 0, 0});
    columns.push({few, {1, 1, 1}, 1, 0});
    std::vector<double> from(static_cast<std::size_t>(few * kTimes), 1), sums(static_cast<std::size_t>(few), 0), rests = sums;
    for (Index i = 0; i < few; ++i) {
      from[static_cast<std::size_t>(i)] = 1e17;
      from[static_cast<std::size_t>((kTimes - 1) * few + i)] = -1e17;
    }
    fold<&Loop::statistic>(columns, from.data(), SumArray<double, double>{sums.data(), rests.data()});
    for (std::size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(sums[i] + rests[i], kTimes - 2, 8) << few;
  }
}

// A few samples, at the same places of each: to a column it does not matter how many stand beside it, nor how far from each other; nor, of
// denormals, which instruction set adds them up, as long as it fuses.
TYPED_TEST(Fold, AColumnsPivotIsTheSameWhateverStandsBesideIt) {
  using T = TypeParam;
  constexpr Index kRows = 30, kColumns = 19;
  for (const T scale : {T(1), std::numeric_limits<T>::min()}) {
    auto x = numbers<T>(kRows * kColumns, 1);
    for (T& value : x) value *= scale;
    const auto pivots = [&](Index first, Index count, Index step) {
      LoopList columns;
      columns.push({count, {step, step, step}, 1, 1});
      std::vector<T> result(static_cast<std::size_t>(count));
      sample_pivots(x.data() + first, kRows, kColumns, columns, result.data());
      return result;
    };
    std::vector<T> fused;
    support::at_each_level([&](Level level) {
      const std::vector<T> all = pivots(0, kColumns, 1);
      if (support::has_fma(level)) {
        if (fused.empty()) fused = all;
        EXPECT_TRUE(support::same_bits(all, fused));
      }
      for (Index first = 0; first < kColumns; ++first)
        for (const Index step : {1, 3})
          for (Index count = 1; first + (count - 1) * step < kColumns; ++count) {
            const std::vector<T> some = pivots(first, count, step);
            for (Index k = 0; k < count; ++k)
              ASSERT_EQ(some[static_cast<std::size_t>(k)], all[static_cast<std::size_t>(first + k * step)]) << first << ' ' << count << ' ' << step;
          }
    });
  }
}

}  // namespace
}  // namespace tensornorm::kernels
