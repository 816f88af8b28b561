// SPDX-License-Identifier: MIT
// Which walk is chosen for the shapes that are measured; that every walk computes the same is forward_op_test's.
#include <gtest/gtest.h>

#include <tensornorm/ops/backward_op.hpp>
#include <tensornorm/ops/strips.hpp>

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "support/dispatch_level.hpp"
#include "support/nests.hpp"

namespace tensornorm {
namespace {

using support::nest_of_roles;
using support::Shape;

/// sliced: rows. folded: columns, whole. strips: columns in pieces. two_pass: columns that do not fit the cache, whole.
enum class Plan { sliced, folded, strips, two_pass };

Plan plan_of(const LoopNest& nest, Index element = sizeof(float)) {
  const LoopNest merged = without_params(nest);
  if (choose_walk(merged, 2 * nest.size() * element, element, true) == Walk::row) return Plan::sliced;
  const ColumnWalk walk = make_column_walk(nest, merged, {element});
  if (walk.strips > 1) return Plan::strips;
  return merged.size() / walk.problems.size() * element > kCacheBytes ? Plan::two_pass : Plan::folded;
}

struct Measured {
  std::string letters;
  Shape shape;
  Plan row_major, col_major;
};

void PrintTo(const Measured& m, std::ostream* out) { *out << m.letters << testing::PrintToString(m.shape); }

class Suite : public testing::TestWithParam<Measured> {};

TEST_P(Suite, HasItsWalk) {
  const Measured& m = GetParam();
  EXPECT_EQ(plan_of(nest_of_roles<Eigen::RowMajor>(m.shape, m.letters)), m.row_major);
  EXPECT_EQ(plan_of(nest_of_roles<Eigen::ColMajor>(m.shape, m.letters)), m.col_major);
}

// A channel of a RowMajor NCHW tensor lies in slices of HW, which are walked one by one unless they are short and many. In a
// ColMajor one the images are innermost, and so columns of (C, N).
INSTANTIATE_TEST_SUITE_P(BatchNorm, Suite,
                         testing::Values(Measured{"rKrr", {32, 64, 112, 112}, Plan::sliced, Plan::two_pass},
                                         Measured{"rKrr", {32, 256, 56, 56}, Plan::sliced, Plan::strips},
                                         Measured{"rKrr", {32, 512, 28, 28}, Plan::sliced, Plan::strips},
                                         Measured{"rKrr", {32, 1024, 14, 14}, Plan::sliced, Plan::strips},
                                         Measured{"rKrr", {32, 2048, 7, 7}, Plan::strips, Plan::strips},
                                         Measured{"rKrr", {8, 64, 32, 32}, Plan::sliced, Plan::two_pass},
                                         Measured{"rKrr", {8, 1024, 14, 14}, Plan::sliced, Plan::strips},
                                         Measured{"rKrr", {8, 2048, 7, 7}, Plan::sliced, Plan::strips},
                                         Measured{"rKrr", {2, 1000, 5, 6}, Plan::strips, Plan::folded},
                                         Measured{"rKrr", {16, 128, 14, 14}, Plan::sliced, Plan::strips},
                                         Measured{"rKrr", {16, 2048, 20, 20}, Plan::sliced, Plan::strips},
                                         Measured{"rKrrr", {4, 32, 16, 56, 56}, Plan::sliced, Plan::two_pass},
                                         Measured{"rrrK", {32, 112, 112, 64}, Plan::two_pass, Plan::sliced},
                                         Measured{"rrrK", {32, 7, 7, 2048}, Plan::strips, Plan::sliced},
                                         Measured{"rK", {128, 1024}, Plan::folded, Plan::sliced},
                                         Measured{"rK", {4096, 256}, Plan::two_pass, Plan::sliced},
                                         Measured{"rKr", {16, 64, 16000}, Plan::sliced, Plan::two_pass}));
INSTANTIATE_TEST_SUITE_P(OfOneImage, Suite,
                         testing::Values(Measured{"kR", {4096, 768}, Plan::sliced, Plan::strips},
                                         Measured{"kR", {2048, 4096}, Plan::sliced, Plan::strips},
                                         Measured{"kR", {64, 65536}, Plan::sliced, Plan::two_pass},
                                         Measured{"kR", {512, 1024}, Plan::sliced, Plan::two_pass},
                                         Measured{"kR", {1, 16}, Plan::sliced, Plan::sliced},
                                         Measured{"kKrr", {4, 64, 256, 256}, Plan::sliced, Plan::two_pass},
                                         Measured{"kKrr", {8, 128, 64, 64}, Plan::sliced, Plan::two_pass},
                                         Measured{"kKRrr", {8, 32, 4, 64, 64}, Plan::sliced, Plan::two_pass},
                                         Measured{"kKRrr", {2, 32, 40, 8, 8}, Plan::sliced, Plan::two_pass}));

// Measured over images and sides: a slice is worth its own sums if it has so many elements for each of a statistic's slices, and among
// more than a few, from memory, only if it is written past the caches as columns are.
TEST(ChooseWalk, ShortSlicesByTheirNumberAndWhereTheyLie) {
  const auto rows = [](Index images, Index length, Index traffic, Index element = sizeof(float), bool forward = false) {
    return choose_walk(without_params(nest_of_roles<Eigen::RowMajor>({images, 3, length}, "rKr")), traffic, element, forward) == Walk::row;
  };
  const Index near = kFromMemoryBytes - 1, memory = kFromMemoryBytes;
  for (const Index traffic : {near, memory}) {
    EXPECT_TRUE(rows(1, 4, traffic)) << "a slice is all of a statistic";
    EXPECT_TRUE(rows(500, kLongSlice, traffic));
    EXPECT_FALSE(rows(2, kLongRun - 1, traffic));
    EXPECT_TRUE(rows(2, kLongRun, traffic));
    for (const bool forward : {false, true}) {
      EXPECT_TRUE(rows(kFewSlices, kSliceElements * kFewSlices, traffic, sizeof(float), forward));
      EXPECT_FALSE(rows(kFewSlices, kSliceElements * kFewSlices - 1, traffic, sizeof(float), forward));
    }
    EXPECT_TRUE(rows(kFewSlices, kSliceElements * kFewSlices, traffic, sizeof(short), true));
    EXPECT_TRUE(rows(kFewSlices, kNarrowSliceElements * kFewSlices, traffic, sizeof(short)));
    EXPECT_FALSE(rows(kFewSlices, kNarrowSliceElements * kFewSlices - 1, traffic, sizeof(short))) << "16 bits";
    EXPECT_TRUE(rows(32, kStreamedRun, traffic));
  }
  EXPECT_TRUE(rows(kFewSlices + 1, kStreamedRun / 2, memory));
  EXPECT_TRUE(rows(kFewSlices + 1, kStreamedRun / 2 - 1, near));
  EXPECT_FALSE(rows(kFewSlices + 1, kStreamedRun / 2 - 1, memory));
  EXPECT_TRUE(rows(kFewSlices + 1, kStreamedRun / 4, memory, sizeof(double)));
  EXPECT_FALSE(rows(kFewSlices + 1, kStreamedRun / 4 - 1, memory, sizeof(double)));
  EXPECT_TRUE(rows(kFewSlices + 1, kStreamedRun / 4, memory)) << "whole lines";
  EXPECT_FALSE(rows(kFewSlices + 1, kStreamedRun / 4 + 1, memory));
  EXPECT_TRUE(rows(kFewSlices + 1, kStreamedRun / 4, memory, sizeof(float), true)) << "where y alone is written";
  EXPECT_FALSE(rows(kFewSlices + 1, kStreamedRun / 4 - 1, memory, sizeof(float), true));
}

// Added up as one, slices are rows from fewer elements on, by their shape alone; and no more than a block of vectors.
TEST(ChooseWalk, JoinedSlicesAreRows) {
  const JoinedSlices joined{16, 512};
  const auto rows = [&](Index images, Index length) {
    const LoopNest nest = nest_of_roles<Eigen::RowMajor>({images, 3, length}, "rKr");
    const bool near = choose_walk(without_params(nest), 0, sizeof(float), true, joined) == Walk::row;
    EXPECT_EQ(choose_walk(without_params(nest), 10 * kFromMemoryBytes, sizeof(float), true, joined) == Walk::row, near);
    EXPECT_EQ(make_row_walk(nest, without_params(nest)).has_joined_slices(joined), joined.hold(images, length));
    return near;
  };
  EXPECT_TRUE(rows(2, 2 * kJoinedSliceElements));
  EXPECT_FALSE(rows(2, 2 * kJoinedSliceElements - 1));
  EXPECT_TRUE(rows(8, 8 * kJoinedSliceElements));
  EXPECT_FALSE(rows(8, 8 * kJoinedSliceElements - 1));
  EXPECT_TRUE(rows(10, 48));
  EXPECT_FALSE(rows(10, 49)) << "more than a block";
  EXPECT_FALSE(joined.hold(1, 64)) << "a slice is all of a statistic";
  const LoopNest weighted = nest_of_roles<Eigen::RowMajor>({2, 3, 49}, "RKr");
  EXPECT_FALSE(make_row_walk(weighted, without_params(weighted)).has_joined_slices(joined)) << "a weight for each slice";
}

TEST(ChooseWalk, IsThatOfAnExampleAlone) {
  for (const char* letters : {"krKR", "krKr", "kKrr"})
    for (const Index channels : {16, 128, 500}) {
      const auto walk = [&](Index examples) {
        const Shape shape = {examples, 9, 4, channels};
        return choose_walk(without_params(nest_of_roles<Eigen::RowMajor>(shape, letters)), 8 * support::size_of(shape), sizeof(float), true,
                           kernels::joined_slices<float>);
      };
      EXPECT_EQ(walk(1), walk(10000)) << letters << ' ' << channels;
    }
}

// The rows of a block of a matrix: channels that gaps part from each other are no columns of one row.
TEST(ColumnWalk, GapsPartProblems) {
  LoopNest nest = nest_of_roles<Eigen::RowMajor>({9, 5, 40}, "rKr");
  EXPECT_EQ(make_column_walk(nest, without_params(nest), {sizeof(float)}).problems.size(), 1);
  for (const int operand : {0, 1, 2}) {
    LoopNest gapped = nest;
    gapped.loops[0].data[operand] = 5 * 64;
    gapped.loops[1].data[operand] = 64;
    const ColumnWalk walk = make_column_walk(gapped, without_params(gapped), {sizeof(float)});
    EXPECT_EQ(walk.problems.size(), 5);
    EXPECT_EQ(walk.statistics, 1);
    EXPECT_EQ(walk.width, 40);
    EXPECT_EQ(walk.group_rows, 9);
  }
}

// Run by run the weights of a few channels would be begun anew for each pixel.
TEST(ChooseWalk, AStatisticWhoseWeightsComeAgainSoonIsColumns) {
  const auto plan = [](const Shape& shape, const char* letters) {
    const LoopNest nest = nest_of_roles<Eigen::RowMajor>(shape, letters);
    return ForwardPlan<float, float, StatisticsSource::any>(nest, {true, true, true, false, true});
  };
  for (const Index channels : {2, 3, 48, 63}) {
    const auto few = plan({8, 28, 28, channels}, "krrR");
    ASSERT_EQ(few.walk, Walk::column) << channels;
    EXPECT_EQ(few.column.problems.size(), 8);
    EXPECT_EQ(few.column.statistics, 1);
    EXPECT_EQ(few.column.moment_rows * few.column.moment_width + few.column.moment_tail, 28 * 28 * channels);
  }
  EXPECT_EQ(plan({8, 28, 28, kWeightPeriod}, "krrR").walk, Walk::row);
  const auto few_pixels = plan({8, 2, 2, 48}, "krrR");
  EXPECT_EQ(few_pixels.walk, Walk::row);
  EXPECT_EQ(few_pixels.row.length, 2 * 2 * 48) << "one slice";
  EXPECT_EQ(few_pixels.row.run.extent, 48);
  EXPECT_EQ(plan({8, 8, kFewPeriods / 8, 16}, "krrR").walk, Walk::row);
  EXPECT_EQ(plan({8, 1, kFewPeriods + 1, 16}, "krrR").walk, Walk::column);
  const auto cut_backward = [](Index times) {
    return nest_of_statistics(nest_of_roles<Eigen::RowMajor>({8, times, 16}, "krR"), 0, sizeof(float), false).innermost().extent == 16;
  };
  EXPECT_FALSE(cut_backward(kFewPeriodsBackward));
  EXPECT_TRUE(cut_backward(kFewPeriodsBackward + 1));
  // Slices that weights change within are not joined.
  EXPECT_EQ(plan({2, 4, 32, 16}, "krKR").walk, Walk::column);
  EXPECT_EQ(plan({4, 32, 16}, "RKr").walk, Walk::column);
  EXPECT_EQ(plan({4, 32, 16}, "rKr").walk, Walk::row);
  EXPECT_EQ(plan({8, 28, 28, 3}, "kRRR").walk, Walk::row) << "a weight for each element";
  EXPECT_EQ(plan({8, 28, 28, 3}, "krrr").walk, Walk::row) << "none";
  EXPECT_EQ(plan({8, 1, 1, 3}, "krrR").walk, Walk::row) << "once";
}

TEST(RowWalk, CoversEachStatisticOnce) {
  const LoopNest nest = nest_of_roles<Eigen::RowMajor>({3, 4, 40, 50}, "rKrr");
  const RowWalk walk = make_row_walk(nest, without_params(nest));
  EXPECT_EQ(walk.kept.size(), 4);
  EXPECT_EQ(walk.slices.size(), 3);
  EXPECT_EQ(walk.length, 2000);
  EXPECT_FALSE(walk.affine);
}

TEST(RowWalk, IsCutWhereTheParameterChanges) {
  const LoopNest nest = nest_of_roles<Eigen::RowMajor>({2, 3, 4, 5, 6}, "kKRrr");
  const RowWalk walk = make_row_walk(nest, without_params(nest));
  EXPECT_TRUE(walk.affine);
  EXPECT_EQ(walk.kept.size(), 6);
  EXPECT_EQ(walk.length, 4 * 5 * 6);
  EXPECT_EQ(walk.runs.size(), 4);
  EXPECT_EQ(walk.run.extent, 5 * 6);
}

// Strips cover the columns, the last one what is left; each fits the cache, and is whole vectors if it can be without being too narrow.
TEST(ColumnWalk, StripsCoverTheColumns) {
  const auto check = [](Index images, Index channels, Index side) {
    const Index unit = side * side;
    const LoopNest nest = nest_of_roles<Eigen::RowMajor>({images, channels, side, side}, "rKrr");
    const ColumnWalk walk = make_column_walk(nest, without_params(nest), {sizeof(float)});
    SCOPED_TRACE(testing::PrintToString(Shape{images, channels, side, side}));
    EXPECT_EQ(walk.problems.size(), 1);
    EXPECT_EQ(walk.moment_rows * walk.width + walk.moment_tail, nest.size());
    if (walk.strips == 1) return;
    EXPECT_LT((walk.strips - 1) * walk.strip_extent, channels);
    EXPECT_GE(walk.strips * walk.strip_extent, channels);
    const Index columns = walk.strip_width();
    EXPECT_EQ(columns, walk.strip_extent * unit);
    EXPECT_LE(columns, kTileColumns<float>);
    EXPECT_LE(columns * walk.moment_rows * Index(sizeof(float)), kCacheBytes);
    EXPECT_GT(columns + unit, kNarrowestStrip);
    const Index vectors = kWholeVectors / std::gcd(kWholeVectors, unit) * unit;
    EXPECT_TRUE(columns % kWholeVectors == 0 || columns < vectors || columns / vectors * vectors < kNarrowestStrip) << columns;
  };
  for (const Index channels : {100, 512, 600, 2048})
    for (const Index side : {3, 7, 14, 28}) check(64, channels, side);
  for (const Index images : {300, 320, 330}) check(images, 2048, 3);
}

// Rows of C columns that follow each other are taken several at a time, and a part of one is left.
TEST(ColumnWalk, WideRowsCoverTheRows) {
  for (const Index rows : {1, 2, 341, 342, 1000, 4099})
    for (const Index columns : {1, 3, 64, 511, 512, 513, 2000}) {
      const LoopNest nest = nest_of_roles<Eigen::RowMajor>({rows, columns}, "rK");
      const LoopNest merged = without_params(nest);
      if (choose_walk(merged, 0, sizeof(float), true) == Walk::row) continue;
      const ColumnWalk walk = make_column_walk(nest, merged, {sizeof(float)});
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns));
      EXPECT_EQ(walk.moment_rows * walk.width + walk.moment_tail, rows * columns);
      EXPECT_EQ(walk.width % columns, 0);
      EXPECT_LT(walk.moment_tail, walk.width);
      EXPECT_EQ(walk.statistics, columns);
      EXPECT_LE(walk.width, std::max(columns, kTileColumns<float>));
      EXPECT_TRUE(walk.width <= std::max(columns, kFewColumns) || walk.moment_rows >= kFewestRows);
      // Whole vectors, where so many rows are taken together that they can be.
      const Index together = walk.width / columns, whole = kWholeVectors / std::gcd(kWholeVectors, columns);
      EXPECT_TRUE(together < whole || together == rows || walk.width % kWholeVectors == 0) << walk.width;
    }
}

ColumnWalk walk_of_columns(Index rows, Index columns, const ColumnElements& of) {
  const LoopNest nest = nest_of_roles<Eigen::RowMajor>({rows, columns}, "rK");
  return make_column_walk(nest, without_params(nest), of);
}

// Of 8 bytes half as many stay in the L1 cache.
TEST(ColumnWalk, WideRowsAndStripsOfDoublesAreHalfAsWideAsThoseOfFloats) {
  const ColumnElements floats{.bytes = sizeof(float)}, doubles{.bytes = sizeof(double), .tile = kTileColumns<double>};
  EXPECT_EQ(walk_of_columns(4096, 256, floats).width, 1024);
  EXPECT_EQ(walk_of_columns(4096, 256, doubles).width, 512);
  EXPECT_EQ(walk_of_columns(1568, 2048, floats).strip_width(), 1024);
  EXPECT_EQ(walk_of_columns(1568, 2048, doubles).strip_width(), 512);
}

// Forward what is read twice from memory in any case is read in its order, where it is less than three tiles wide.
TEST(ColumnWalk, StripsThatNoCacheHoldsAreOfWideRowsOnly) {
  const ColumnElements forward{.bytes = sizeof(float)}, backward{.bytes = sizeof(float), .operands = 2};
  EXPECT_EQ(walk_of_columns(6272, 2048, forward).strips, 1);
  EXPECT_EQ(walk_of_columns(6272, 3071, forward).strips, 1);
  EXPECT_EQ(walk_of_columns(6272, 3072, forward).strips, 3);
  EXPECT_EQ(walk_of_columns(6000, 2048, forward).strips, 2) << "24 MiB";
  EXPECT_EQ(walk_of_columns(6272, 2048, backward).strips, 2);
  // Weights of their own leave strips as the only work to be shared out.
  const LoopNest weighted = nest_of_roles<Eigen::ColMajor>({2048, 6272}, "kR");
  EXPECT_EQ(make_column_walk(weighted, without_params(weighted), forward).strips, 2);
}

// Numbers of 16 bytes and more, whose tiles are narrower than the narrowest strip of others.
TEST(ColumnWalk, StripsOfAnyNumbersCoverTheColumns) {
  for (const Index tile : {kTileColumns<long double>, Index(64)})
    for (const Index rows : {8, 100, 4099})
      for (const Index columns : {1, 63, 64, 200, 512, 1000, 5000})
        for (const Index unit : {1, 9, 300, 2000}) {
          const LoopNest nest = nest_of_roles<Eigen::RowMajor>({rows, columns, unit}, "rKr");
          const ColumnWalk walk = make_column_walk(nest, without_params(nest), {.bytes = 16, .tile = tile});
          SCOPED_TRACE(std::to_string(tile) + ": " + testing::PrintToString(Shape{rows, columns, unit}));
          EXPECT_EQ(walk.moment_rows * walk.width + walk.moment_tail, nest.size());
          ASSERT_GT(walk.strip_extent, 0);
          if (walk.strips == 1) continue;
          EXPECT_LT((walk.strips - 1) * walk.strip_extent, columns);
          EXPECT_GE(walk.strips * walk.strip_extent, columns);
          EXPECT_LE(walk.strip_width(), std::max(tile, unit));
        }
}

// A ColMajor tensor's channels, each of all examples, whose parameters every pixel meets again, are columns; not where another parameter
// changes further out, nor where they are too many.
TEST(ColumnWalk, RowsThatMeetTheirParametersAgainAreColumns) {
  const auto walk_of = [](const Shape& shape, const char* letters) {
    const LoopNest nest = nest_of_roles<Eigen::ColMajor>(shape, letters);
    const ColumnWalk walk = make_column_walk(nest, without_params(nest), {sizeof(float)});
    EXPECT_EQ(walk.problems.size() * (walk.moment_rows * walk.width + walk.moment_tail), nest.size());
    EXPECT_EQ(walk.groups.size() * (walk.group_rows * walk.width + walk.group_tail), nest.size());
    return walk;
  };
  for (const Index channels : {1, 3, 64, 1000}) {
    const ColumnWalk walk = walk_of({5, channels, 17, 10}, "kRrr");
    EXPECT_TRUE(!walk.affine && walk.gapless);
    EXPECT_EQ(walk.period, 5 * channels);
    EXPECT_EQ(walk.width % walk.period, 0);
    EXPECT_EQ(walk.statistics, 5);
  }
  EXPECT_EQ(walk_of({5, 2, 3, 17, 10}, "kRRrr").period, 30);
  EXPECT_TRUE(walk_of({5, 6, 17, 10}, "kRrR").affine);
  EXPECT_EQ(walk_of({5, 6, 17, 10}, "kRrR").period, 5);
  EXPECT_EQ(walk_of({5, 6, 17, 10}, "kRRR").period, 5) << "met once";
  EXPECT_EQ(walk_of({64, 1000, 7, 7}, "kRrr").period, 64) << "too many";
  EXPECT_EQ(walk_of({5, 6, 7, 1}, "kRrr").period, 5) << "too seldom";
}

// GroupNorm of a ColMajor tensor whose channels are last: the pixels of a channel, which has a weight of its own, are one wide row where they
// are not far more than fit one; not in two.
TEST(ColumnWalk, GroupsWithWeightsOfTheirOwnAreNotCut) {
  const auto walk_of = [](Index pixels, Index channels) {
    // Groups change last, as GroupNorm's do; its weights alone lie in another order.
    const LoopNest nest = nest_of_roles<Eigen::ColMajor>({2, pixels, channels, 32}, "krRK");
    const ColumnWalk walk = make_column_walk(nest, without_params(nest), {sizeof(float)});
    EXPECT_TRUE(walk.affine && walk.gapless);
    EXPECT_EQ(walk.weights, 1);
    EXPECT_EQ(walk.problems.size() * walk.groups.size() * (walk.group_rows * walk.width + walk.group_tail), nest.size());
    EXPECT_EQ(walk.problems.size() * (walk.moment_rows * walk.width + walk.moment_tail), nest.size());
    return walk;
  };
  for (const auto& [pixels, channels] : {std::pair<Index, Index>{64, 40}, {40, 40}, {21, 100}}) {
    const ColumnWalk walk = walk_of(pixels, channels);
    EXPECT_EQ(walk.width, 2 * pixels);
    EXPECT_EQ(walk.group_rows, channels);
    EXPECT_EQ(walk.group_tail, 0);
    EXPECT_EQ(walk.row_param, 32);
    EXPECT_EQ(walk.groups.depth, 0);
  }
  EXPECT_EQ(walk_of(400, 4).groups.size(), 4) << "more than twice what fits";
  EXPECT_EQ(walk_of(1024, 40).groups.size(), 40) << "more than a tile";
}

// Columns of one weight after which the coefficients of the statistics come again, which are written with those in registers.
TEST(ColumnWalk, CoefficientsThatComeAgainAreHeld) {
  const auto held = [](const Shape& shape, const char* letters, bool wide) {
    const LoopNest nest = nest_of_roles<Eigen::RowMajor>(shape, letters);
    const ColumnWalk walk = make_column_walk(nest, without_params(nest), {sizeof(float)});
    const Index width = Strip(walk, 0).width;
    return wide ? weighted_run<float, kernels::Isa<64>>(walk, width) : weighted_run<float, kernels::Isa<16>>(walk, width);
  };
  for (const bool wide : {false, true}) {
    const Index few = wide ? 64 : 16;
    EXPECT_EQ(held({515, 16}, "Rk", wide), 16) << "wide rows of 16 weights, 3 left";
    EXPECT_EQ(held({512, 9}, "Rk", wide), 9);
    EXPECT_EQ(held({512, 200}, "Rk", wide), 200) << "five times a row";
    EXPECT_EQ(held({512, 300}, "Rk", wide), 0) << "three times";
    EXPECT_EQ(held({512, 2000}, "Rk", wide), 0) << "once";
    EXPECT_EQ(held({512, 7}, "Rk", wide), 0) << "narrow rows have their weights beside them";
    EXPECT_EQ(held({512, 16}, "rK", wide), 0) << "columns with their own weights";
    EXPECT_EQ(held({2, 40, 67, 3}, "kRrk", wide), few / 3 * 3) << "three statistics again and again, one weight";
    EXPECT_EQ(held({2, 4, 6700, 50}, "kRrk", wide), 50) << "long rows of one weight";
    EXPECT_EQ(held({2, 40, 6, 2}, "kRrk", wide), 12) << "short ones";
    EXPECT_EQ(held({2, 40, 2, 3}, "kRrk", wide), wide ? 0 : 6) << "less than half of a vector";
  }
}

// Rows of few channels that go on in the next one: three or four lines of them are a row to their statistics, or six or eight backward.
TEST(ColumnWalk, MomentsOfFewChannelsAreHeld) {
  const auto width_of = [](Index channels, const HeldLines& held, const char* letters = "rrK") {
    const LoopNest nest = nest_of_roles<Eigen::RowMajor>({16, 500, channels}, letters);
    const ColumnWalk walk = make_column_walk(nest, without_params(nest), {.bytes = sizeof(float), .held = held});
    EXPECT_EQ(walk.problems.size() * (walk.moment_rows * walk.moment_width + walk.moment_tail), nest.size());
    EXPECT_EQ(walk.moment_stride(0), walk.moment_width == walk.width ? walk.row_stride[0] : walk.moment_width);
    EXPECT_LT(walk.moment_tail, walk.moment_width);
    EXPECT_EQ(walk.moment_width % walk.period, 0);
    const Strip seen = strip_of_moments(walk, Strip(walk, 0));
    EXPECT_EQ(seen.columns.size(), walk.moment_width);
    EXPECT_EQ(seen.width, walk.moment_width);
    EXPECT_EQ(seen.statistics, Strip(walk, 0).statistics);
    // All else is as it would be: how it is cut decides how sums are rounded.
    const ColumnWalk wide = make_column_walk(nest, without_params(nest), {sizeof(float)});
    EXPECT_EQ(wide.moment_width, wide.width);
    EXPECT_EQ(walk.width, wide.width);
    EXPECT_EQ(walk.cuts, wide.cuts);
    EXPECT_EQ(walk.group_rows, wide.group_rows);
    EXPECT_EQ(walk.cached, wide.cached);
    return walk.moment_width;
  };
  const auto forward = HeldLines::of<float, double>(4), backward = HeldLines::of<float, double>(8);
  for (const auto& held : {forward, backward}) {
    for (const Index channels : {2, 4, 8, 16, 32, 64}) EXPECT_EQ(width_of(channels, held), 64) << channels;
    for (const Index channels : {3, 6, 12, 24, 48}) EXPECT_EQ(width_of(channels, held), 48) << channels;
    EXPECT_EQ(width_of(3, held, "krK"), 48) << "instances of their own, with a part of a row after the last";
    EXPECT_EQ(width_of(32, held, "RrK"), 64) << "weights of their own";
  }
  for (const Index channels : {96, 128}) EXPECT_EQ(width_of(channels, backward), channels);
  EXPECT_GT(width_of(96, forward), 500) << "a wide row";
  for (const Index channels : {5, 10, 80, 112, 130, 256}) EXPECT_GT(width_of(channels, backward), 500) << channels;
  EXPECT_GT(width_of(64, {}), 500) << "none are held";
  EXPECT_GT(width_of(64, HeldLines::of<double, double>(8)), 500) << "rests are kept";
}

// What two passes go over is cut into parts for several threads, by its size alone: an image among others as one alone.
TEST(ColumnWalk, LargeProblemsAreCut) {
  const auto cuts = [](const Shape& shape, const char* letters) {
    const LoopNest nest = nest_of_roles<Eigen::RowMajor>(shape, letters);
    return make_column_walk(nest, without_params(nest), {sizeof(float)}).cuts;
  };
  EXPECT_EQ(cuts({32, 112, 112, 64}, "rrrK"), kMostCuts);
  EXPECT_EQ(cuts({8, 32, 32, 64}, "rrrK"), 1);
  EXPECT_EQ(cuts({1, 112, 112, 128}, "krrK"), 3);
  EXPECT_EQ(cuts({6, 112, 112, 128}, "krrK"), 3);
  EXPECT_EQ(cuts({1 << 20, 16}, "RK"), 1);  // its rows have parameters of their own
  EXPECT_EQ(cuts({64, 1 << 20}, "rK"), 1);  // strips, each a piece
}

TEST(ColumnWalk, CutsCoverTheRows) {
  for (const Index rows : {1, 15, 16, 17, 1000})
    for (Index cuts = 1; cuts <= kMostCuts; ++cuts) {
      Index next = 0;
      for (Index i = 0; i < cuts; ++i) {
        const RowRange range = RowRange::cut(rows, i, cuts);
        EXPECT_EQ(range.first, next);
        next = range.last;
      }
      EXPECT_EQ(next, rows);
    }
}

// Stretch by stretch from the end, each in memory's order.
TEST(ColumnWalk, TheSecondPassTakesStretchesOfRows) {
  const LoopNest nest = nest_of_roles<Eigen::RowMajor>({5, 33, 17, 64}, "rrrK");
  const ColumnWalk walk = make_column_walk(nest, without_params(nest), {sizeof(float)});
  ASSERT_GT(walk.stretch, 1);
  ASSERT_GT(walk.group_rows, 2 * walk.stretch);
  ASSERT_GT(walk.group_tail, 0) << "5 * 33 * 17 rows of 64 are not whole rows of 1024";
  EXPECT_EQ(walk.stretch * walk.width * Index(sizeof(float)), kStretchBytes);
  EXPECT_EQ(walk.second_pass_stride(), walk.row_stride[0]);
  const Strip strip(walk, 0);
  for (const RowRange range : {RowRange{0, walk.rows_of_group()}, RowRange{3, walk.rows_of_group() - 2}}) {
    std::vector<Index> rows, expected;
    for (Index end = range.last; end > range.first; end -= walk.stretch)
      for (Index row = std::max(range.first, end - walk.stretch); row < end; ++row) expected.push_back(row);
    Index known = 0;  // how many columns' parameters the rows before have asked for
    for_each_row(walk, strip, range, true, [&](const Offsets&, Index row, Index width, bool fresh) {
      rows.push_back(row);
      EXPECT_EQ(fresh, width > known);
      known = std::max(known, width);
      EXPECT_EQ(width, row == walk.group_rows ? walk.group_tail : walk.width);
    });
    EXPECT_EQ(rows, expected);
    rows.clear();
    for_each_row(walk, strip, range, false, [&](const Offsets&, Index row, Index, bool) { rows.push_back(row); });
    EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
    EXPECT_EQ(Index(rows.size()), range.last - range.first);
  }
}

// Every column of every row once, beside its coefficients, by vectors of every width.
TEST(ColumnWalk, HeldVectorsCoverTheRows) {
  const auto check = [](const Shape& shape, const char* letters, Index w, Index head_columns) {
    const LoopNest nest = nest_of_roles<Eigen::RowMajor>(shape, letters);
    const ColumnWalk walk = make_column_walk(nest, without_params(nest), {sizeof(float)});
    const Index columns = held_columns<8>(walk, w);
    if (columns == 0) return false;
    SCOPED_TRACE(testing::Message() << testing::PrintToString(shape) << letters << ", vectors of " << w << ", " << head_columns << " before them");
    EXPECT_TRUE(columns % w == 0 && columns > 4 * w && columns <= 8 * w && columns % walk.period == 0) << columns;
    std::vector<int> times(static_cast<std::size_t>(nest.size()), 0);
    bool beside_its_own = true;
    const auto mark = [&](Index from, Index column, Index n) {
      for (Index i = from; i < from + n; ++i) {
        ++times[static_cast<std::size_t>(i)];
        beside_its_own &= (column + i - from) % walk.period == i % walk.period;
      }
    };
    const auto head = [&](const Offsets&) { return head_columns; };
    const auto rows = [&](const Offsets& at, Index column, Index n) {
      EXPECT_LE(column + columns, walk.width) << "as many coefficients as there are";
      mark(at.data[0], column, columns * n);
    };
    const auto run = [&](const Offsets& at, Index column, Index n) {
      EXPECT_TRUE(n > 0 && column + n <= walk.width);
      mark(at.data[1], column, n);
    };
    for (Index p = 0; p < walk.problems.size(); ++p)
      for (Index cut = 0; cut < 3; ++cut)
        for_each_held(walk, Strip(walk, p), RowRange::cut(walk.rows_of_group(), cut, 3), cut % 2 == 0, columns, head, rows, run);
    EXPECT_TRUE(beside_its_own);
    EXPECT_EQ(std::count(times.begin(), times.end(), 1), nest.size());
    return true;
  };
  for (const Index w : {4, 8, 16})
    for (const Index head_columns : {Index{0}, Index{1}, w - 1}) {
      int held = 0;
      for (const Index channels : {1, 2, 3, 7, 8, 24, 31, 32, 33, 64, 96, 128, 200})
        for (const Index pixels : {1, 2, 31, 100, 1500, 4000}) held += check({2, pixels, channels}, "rrK", w, head_columns) ? 1 : 0;
      EXPECT_GT(held, 10);
      EXPECT_TRUE(check({3, 500, 2, w}, "krkK", w, head_columns)) << "examples apart";
      EXPECT_FALSE(check({64, 2048, 9}, "rKr", w, head_columns)) << "strips";
      EXPECT_FALSE(check({3000, 100}, "rK", w, head_columns)) << "more vectors than registers";
      EXPECT_FALSE(check({40, 128}, "rK", w, head_columns)) << "no room to begin where y is aligned";
    }
}

TEST(ColumnWalk, RowsApartHaveNoStretches) {
  const LoopNest nest = nest_of_roles<Eigen::RowMajor>({32, 1024, 14, 14}, "rKrr");
  const ColumnWalk walk = make_column_walk(nest, without_params(nest), {sizeof(float)});
  ASSERT_GT(walk.strips, 1);
  EXPECT_EQ(walk.stretch, 1);
  EXPECT_EQ(walk.second_pass_stride(), 0) << "a strip is still in the cache";
  const LoopNest tall = nest_of_roles<Eigen::RowMajor>({4096, 2048}, "rK");
  const ColumnWalk from_memory = make_column_walk(tall, without_params(tall), {sizeof(float)});
  ASSERT_GT(from_memory.strips, 1);
  EXPECT_EQ(from_memory.second_pass_stride(), -from_memory.row_stride[0]);
}

TEST(RowWalk, GivenStatisticsAreMetAgain) {
  const auto meets_again = [](const Shape& shape, const std::string& letters) {
    return make_frozen_row_walk(nest_of_roles<Eigen::RowMajor>(shape, letters)).meets_again();
  };
  EXPECT_TRUE(meets_again({2, 5, 7, 9}, "rKrr"));
  EXPECT_TRUE(meets_again({2, 5, 32, 32}, "rKrr"));
  EXPECT_FALSE(meets_again({2, 5, 32, 33}, "rKrr")) << "long runs";
  EXPECT_FALSE(meets_again({1, 5, 7, 9}, "rKrr")) << "one image";
  EXPECT_FALSE(meets_again({2, 5, 7, 9}, "kKrr")) << "each image has its own";
  EXPECT_FALSE(meets_again({2, 5, 7, 9}, "RKrr")) << "each image has its own parameters";
  EXPECT_FALSE(meets_again({2, 5, 7, 9}, "rKrR")) << "parameters beside the elements";
}

TEST(RowWalk, ShortRunsAreTakenTogether) {
  const auto walk_of = [](const Shape& shape) {
    const LoopNest nest = nest_of_roles<Eigen::RowMajor>(shape, "Kr");
    return make_row_walk(nest, without_params(nest));
  };
  EXPECT_TRUE(walk_of({9, 512}).is_short(512));
  EXPECT_FALSE(walk_of({9, 513}).is_short(512));
  EXPECT_FALSE(walk_of({1, 512}).is_short(512)) << "one row";
  const LoopNest images = nest_of_roles<Eigen::RowMajor>({9, 4, 7, 2000}, "rKrr");
  EXPECT_FALSE(make_row_walk(images, without_params(images)).is_short(1 << 20)) << "nine slices";
}

/// Parameters are of the kernels' type and order here: a plan that may copy them keeps them in step.
struct KeepsInStep : testing::Test {
  struct Wanted {
    bool forward, backward;
    friend bool operator==(const Wanted&, const Wanted&) = default;
  };
  static Wanted of(const LoopNest& nest, bool writes = true) {
    const ForwardPlan<float, float, StatisticsSource::any> forward(nest, {true, true, writes, false, true});
    const BackwardPlan<float, float, false> backward(nest, {true, true, writes, false, false, true});
    return {forward.order.copied() > 0, backward.order.copied() > 0};
  }
  static Wanted of(const Shape& shape, const std::string& letters = "kR") { return of(nest_of_roles<Eigen::RowMajor>(shape, letters)); }
  static constexpr Wanted kBoth{true, true}, kNone{false, false};
};

void PrintTo(const KeepsInStep::Wanted& wanted, std::ostream* out) { *out << wanted.forward << wanted.backward; }

TEST_F(KeepsInStep, ParametersThatManyRowsMeet) {
  EXPECT_EQ(of({kFewestInStep, 64}), kBoth);
  EXPECT_EQ(of({kFewestInStep, 4, 9, 16}, "kRRR"), kBoth);
  EXPECT_EQ(of({kFewestInStep - 1, 64}), kNone) << "a copy is read too few times";
  EXPECT_EQ(of({kFewestInStep - 1, 64, 64}, "kRR"), kNone) << "so is this one, of all";
  EXPECT_EQ(of({kFewestInStep, 48}), kNone) << "short rows";
  EXPECT_EQ(of({kFewestInStep, kMostInStep / 4}), kBoth);
  EXPECT_EQ(of({kFewestInStep, kMostInStep / 4 + 16}), kNone) << "two such arrays leave no room for rows";
  EXPECT_EQ(of({kFewestInStep, 64, 64}, "kRr"), kNone) << "one value for a run";
  EXPECT_EQ(of({2, kFewestInStep, 64}, "kKR"), kNone) << "each row has its own";
  EXPECT_EQ(of({kFewestInStep, 2, 64}, "kKR"), kBoth);
  EXPECT_EQ(of(nest_of_roles<Eigen::RowMajor>({kFewestInStep, 64}, "kR"), false), kNone) << "nothing is written";
}

TEST_F(KeepsInStep, WithRowsThatAreSoAmongThemselves) {
  EXPECT_EQ(of({kFewestInStep, 72}), kNone) << "each row begins elsewhere in a line";
  LoopNest nest = nest_of_roles<Eigen::RowMajor>({kFewestInStep, 64}, "kR");
  const auto spread = [&](Index x, Index second, Index third) {
    nest.loops[0].data = {x, second, third};
    return of(nest);
  };
  EXPECT_EQ(spread(72, 80, 80), kBoth) << "x is not written";
  EXPECT_EQ(spread(80, 72, 80), (Wanted{false, true})) << "y, or dy";
  EXPECT_EQ(spread(80, 80, 72), (Wanted{true, false})) << "dx";
}

TEST(ColumnWalk, KeptLoopsOutsideAreProblemsOfTheirOwn) {
  const LoopNest nest = nest_of_roles<Eigen::RowMajor>({5, 300, 700}, "kRk");
  const ColumnWalk walk = make_column_walk(nest, without_params(nest), {sizeof(float)});
  EXPECT_EQ(walk.problems.size(), 5);
  EXPECT_EQ(walk.statistics, 700);
  EXPECT_TRUE(walk.affine);
}

class ChooseStore : public testing::Test {
 protected:
  static constexpr Index kLong = Index{1} << 20;
  const Index cache_ = lasting_cache();
  kernels::Store of(Index bytes, Index unit, Walk walk = Walk::row, bool streamed_run = true, bool any_unit = true) const {
    return choose_store(walk, 2 * bytes, unit, streamed_run, false, true, any_unit);
  }
};

TEST_F(ChooseStore, StreamsWhatHasLeftTheCacheBeforeItIsRead) {
  using kernels::Store;
  for (const Walk walk : {Walk::row, Walk::column}) {
    EXPECT_EQ(of(cache_ / 8, kLong, walk), Store::ordinary);
    EXPECT_EQ(of(2 * cache_, kLong, walk), Store::streaming);
    EXPECT_EQ(of(2 * cache_, kLong, walk, false), Store::ordinary) << "short runs";
  }
  EXPECT_EQ(of(cache_ / 2 - 1, kLong), Store::ordinary);
  EXPECT_EQ(of(cache_ / 2, kLong), Store::streaming);
  EXPECT_EQ(of(cache_ / 2, 4096), Store::streaming);
  EXPECT_EQ(of(cache_ / 2, kUnitBytes - 1, Walk::row, true, false), Store::ordinary) << "short statistics, given or far";
  EXPECT_EQ(of(cache_ / 2, kUnitBytes, Walk::row, true, false), Store::streaming);
  EXPECT_EQ(of(2 * cache_, kUnitBytes - 1, Walk::row, true, false), Store::streaming);
  EXPECT_FALSE(leaves_cache(3 * cache_, 4 * cache_)) << "three tensors of a quarter of it each";
  EXPECT_TRUE(leaves_cache(3 * cache_ + 1, 4 * cache_));
}

TEST_F(ChooseStore, NeverInPlaceNorToElementsAcrossLines) {
  for (const Walk walk : {Walk::row, Walk::column}) {
    EXPECT_EQ(choose_store(walk, 4 * cache_, kLong, true, true, true, true), kernels::Store::ordinary);
    EXPECT_EQ(choose_store(walk, 4 * cache_, kLong, true, false, false, true), kernels::Store::ordinary);
  }
  const float y = 0;
  EXPECT_TRUE(is_aligned(&y));
  EXPECT_FALSE(is_aligned(reinterpret_cast<const float*>(reinterpret_cast<const char*>(&y) + 1)));
}

TEST(StreamedRun, IsLongByItsElementsWhereTheseAreNarrow) {
  for (const Index element : {2, 4}) {
    EXPECT_TRUE(is_streamed_run(kStreamedRun * element, element));
    EXPECT_FALSE(is_streamed_run(kStreamedRun * element - 1, element));
  }
  EXPECT_TRUE(is_streamed_run(4 * kStreamedRun, 8)) << "in bytes, from floats on";
  EXPECT_FALSE(is_streamed_run(4 * kStreamedRun - 1, 8));
}

TEST(StreamedRow, IsShorterWhereItIsWholeLinesOrOneOfSeveral) {
  for (const Index element : {4, 8})
    for (const bool several : {false, true}) {
      const auto near = [&](Index floats) { return is_streamed_row(4 * floats, element, several, false); };
      EXPECT_TRUE(near(kStreamedRun / 2));
      EXPECT_EQ(near(kStreamedRun / 2 - 2), several) << "not whole lines";
      EXPECT_TRUE(near(kStreamedRun / 4));
      EXPECT_EQ(near(kStreamedRun / 4 + 2), several);
      EXPECT_FALSE(near(kStreamedRun / 4 - 16));
      EXPECT_FALSE(near(kStreamedRun / 4 - 2));
    }
  EXPECT_FALSE(is_streamed_row(kStreamedRun * 2 - 2, 2, true, false)) << "16 bits";
  EXPECT_TRUE(is_streamed_row(kStreamedRun * 2, 2, false, false));
  for (const Index element : {4, 8}) {
    EXPECT_TRUE(is_streamed_row(kStreamedFar, element, false, true)) << "a last level that is far";
    EXPECT_FALSE(is_streamed_row(kStreamedFar - element, element, true, true));
  }
}

TEST(StreamedColumn, IsShorterWhereRowsGoOnInEachOther) {
  for (const Index element : {2, 4, 8})
    for (const bool far : {false, true}) {
      const Index bytes = kStreamedRun / 4 * std::min(element, Index{4});
      EXPECT_TRUE(is_streamed_column(bytes, element, false, far));
      EXPECT_FALSE(is_streamed_column(bytes - element, element, false, far));
      EXPECT_EQ(is_streamed_column(kStreamedFar, element, true, far), far || element == 2);
      EXPECT_FALSE(is_streamed_column(kStreamedFar - element, element, true, far));
    }
}

// What the plans make of that, by tensors of twice the cache.
TEST(StreamedColumn, IsAnyStripAndAnyRowsWithoutGaps) {
  using kernels::Store;
  const auto stores = [](const LoopNest& of) {
    return std::pair(ForwardPlan<float, float, StatisticsSource::any>(of, {true, true, true, false, true}).store,
                     BackwardPlan<float, float, false>(of, {true, true, true, false, false, true}).store);
  };
  const auto all = [](Store store) { return std::pair(store, store); };
  const Index size = 2 * last_level_cache() / Index(sizeof(float));
  for (const bool far : {false, true}) {
    const support::OnIntel maker(far);
    for (const Index columns : {33, 132, 350, 700}) {
      const LoopNest nest = nest_of_roles<Eigen::RowMajor>({size / columns, columns}, "rK");
      EXPECT_EQ(stores(nest), all(Store::streaming)) << columns;
    }
    for (const Index images : {128, 320})
      for (const Index side : {3, 5, 14}) {
        const LoopNest nest = nest_of_roles<Eigen::RowMajor>({images, size / images / (side * side), side * side}, "rKr");
        EXPECT_EQ(stores(nest), all(Store::streaming)) << images << " images of " << side << " x " << side;
      }
    // One weight for each row of a wide one, as LayerNorm of a ColMajor tensor has them.
    const auto weights = [&](Index batch) { return nest_of_roles<Eigen::RowMajor>({size / batch, batch}, "Rk"); };
    EXPECT_EQ(stores(weights(200)), all(Store::streaming));
    EXPECT_EQ(stores(weights(100)), all(far ? Store::streaming : Store::ordinary));
    EXPECT_EQ(stores(weights(50)), all(Store::ordinary));
  }
}

// What the plans make of these rules, by tensors of twice the cache.
TEST(StreamedRow, IsForAllButGivenStatisticsForward) {
  const support::OnIntel maker(false);
  const auto nest = [](Index length, const char* letters, Index slices) {
    const Index rows = 2 * lasting_cache() / Index(sizeof(float)) / (length * slices);
    return slices == 1 ? nest_of_roles<Eigen::RowMajor>({rows, length}, letters) : nest_of_roles<Eigen::RowMajor>({slices, rows, length}, letters);
  };
  const auto forward = [](const LoopNest& of) {
    return ForwardPlan<float, float, StatisticsSource::any>(of, {true, true, true, false, true}).store;
  };
  const auto given = [](const LoopNest& of) {
    return ForwardPlan<float, float, StatisticsSource::given>(of, {true, true, true, false, true}).store;
  };
  const auto backward = [](const LoopNest& of, bool constant) {
    return BackwardPlan<float, float, false>(of, {true, true, true, constant, false, true}).store;
  };
  using kernels::Store;
  const LoopNest row = nest(400, "kR", 1), odd_row = nest(202, "kR", 1), several = nest(202, "rKr", 3);
  EXPECT_EQ(forward(row), Store::streaming);
  EXPECT_EQ(forward(odd_row), Store::ordinary);
  EXPECT_EQ(forward(several), Store::streaming);
  EXPECT_EQ(given(row), Store::ordinary);
  EXPECT_EQ(backward(row, false), Store::streaming);
  EXPECT_EQ(backward(row, true), Store::streaming);
  EXPECT_EQ(backward(several, false), Store::ordinary);
}

TEST(LastingCache, IsHalfOfOneThatIsNear) {
  constexpr Index kCache = Index{32} << 20;
  EXPECT_EQ(lasting_cache(false, kCache), kCache / 2);
  EXPECT_EQ(lasting_cache(true, kCache), kCache);
  EXPECT_EQ(choose_store(Walk::row, kCache - 1, kCache, true, false, true, true, kCache), kernels::Store::ordinary);
  EXPECT_EQ(choose_store(Walk::row, kCache - 1, kCache, true, false, true, true, kCache / 2), kernels::Store::streaming);
}

TEST(FetchesNext, BesideAFarLastLevelOnlyWhatStaysNear) {
  EXPECT_TRUE(fetches_next(kCacheBytes - 1, true));
  EXPECT_FALSE(fetches_next(kCacheBytes, true));
  EXPECT_TRUE(fetches_next(100 * kCacheBytes, false));
}

TEST(FetchedOfNextRow, IsItsBeginningWhereTheLastLevelIsFar) {
  constexpr Index kCache = Index{2} << 20;
  const auto fetched = [](Index row) { return fetched_of_next_row(row, kCache + 1, true, kCache); };
  EXPECT_EQ(fetched(kShortestFetchedRow - 1), 0) << "a short row";
  EXPECT_EQ(fetched(kShortestFetchedRow), kShortestFetchedRow);
  EXPECT_EQ(fetched(kFetchedOfNextRow), kFetchedOfNextRow);
  EXPECT_EQ(fetched(kFetchedOfNextRow + 64), kFetchedOfNextRow) << "the processor goes on from there";
  EXPECT_EQ(fetched_of_next_row(kShortestFetchedRow, kCache, true, kCache), 0) << "the L2 cache holds it all";
  EXPECT_EQ(fetched_of_next_row(kShortestFetchedRow, kCache + 1, false, kCache), 0) << "the last level is near";
}

TEST(LongestRowTogether, IsShorterTheFurtherAwayItComesFrom) {
  constexpr Index kFirst = Index{48} << 10, kSecond = Index{1} << 20, kLast = Index{32} << 20;
  const auto longest = [](Index traffic, bool streams, bool far, bool narrow = false) {
    return longest_row_together(traffic, streams, narrow, far, kFirst, kSecond, kLast);
  };
  for (const bool far : {false, true}) EXPECT_GT(longest(kSecond, false, far), Index{1} << 30);
  EXPECT_EQ(longest(kSecond + 1, false, false), kRowTogether);
  EXPECT_EQ(longest(kLast / 4, false, false), kRowTogether);
  EXPECT_EQ(longest(kLast / 4 + 1, false, false), kShortRowTogether);
  EXPECT_EQ(longest(kLast / 4, false, true), kRowTogetherFar);
  EXPECT_EQ(longest(kLast / 4 + 1, false, true), kShortRowTogetherFar);
  EXPECT_EQ(longest(kLast, true, false), kFirst / 16) << "eight rows, and as many that are fetched";
  EXPECT_EQ(longest(kLast + 1, true, false), kRowTogetherStreamed) << "from memory, which is not to stand still";
  EXPECT_EQ(longest(2 * kLast, true, false, true), kFirst / 16) << "of 16 bits";
  EXPECT_EQ(longest(2 * kLast + 1, true, false, true), kFirst / 16 * 7 / 8);
  EXPECT_EQ(longest(kLast, true, true), 0) << "one by one";
  EXPECT_FALSE(fetches_rows_together(kLast / 2, false, kLast)) << "in the cache";
  EXPECT_TRUE(fetches_rows_together(kLast / 2, false, kLast / 2));
  EXPECT_FALSE(fetches_rows_together(kLast, true, kLast / 2)) << "the last level is far";
}

TEST(FetchesSlices, OfWhatIsHardlyInTheCaches) {
  constexpr Index kLast = Index{32} << 20;
  const auto fetches = [](Index traffic, bool forward, Index slice = 784) { return fetches_slices(slice, traffic, forward, false, kLast); };
  EXPECT_FALSE(fetches(kLast / 4, true)) << "just made";
  EXPECT_TRUE(fetches(kLast / 4 + 1, true));
  EXPECT_FALSE(fetches(kLast / 16, false));
  EXPECT_TRUE(fetches(kLast / 16 + 1, false)) << "made by a forward pass long ago";
  EXPECT_TRUE(fetches(kLast, true, kFetchedSlice));
  EXPECT_FALSE(fetches(kLast, true, kFetchedSlice + 1)) << "the processor sees by itself";
  EXPECT_FALSE(fetches_slices(784, kLast, true, true, kLast)) << "the last level is far";
}

TEST(WritesBesideNext, WhereTheCacheKeepsTwoStatisticsOrNotOne) {
  constexpr Index kCache = Index{2} << 20, kHalf = kCache / 2;
  const auto beside = [](Index bytes, Index arrays = 0) { return writes_beside_next(bytes, arrays, true, kCache); };
  EXPECT_FALSE(beside(kBesideNextBytes - 1)) << "a short row";
  EXPECT_TRUE(beside(kBesideNextBytes));
  EXPECT_TRUE(beside(kHalf - 1));
  EXPECT_FALSE(beside(kHalf));
  EXPECT_FALSE(beside(kHalf - 1, 2)) << "with parameters beside the elements";
  EXPECT_FALSE(beside(kCache));
  EXPECT_TRUE(beside(kCache + 1));
  EXPECT_FALSE(writes_beside_next(kCache + 1, 0, false, kCache)) << "the last level is near";
}

TEST(RowWalk, RunsWithoutGapsAreFound) {
  const LoopNest dense = nest_of_roles<Eigen::RowMajor>({2, 5, 7, 9}, "rKrr");
  LoopNest gapped = dense;
  EXPECT_EQ(make_frozen_row_walk(dense).gapless(1), 5 * 7 * 9);
  for (int i = 0; i + 1 < gapped.depth; ++i) gapped.loops[i].data[1] += 5 * 2;
  EXPECT_EQ(make_frozen_row_walk(gapped).gapless(1), 0);
  EXPECT_EQ(make_frozen_row_walk(gapped).gapless(0), 5 * 7 * 9);
}

// Of what an index counts, not of what it wraps around to.
TEST(Plans, OfTheLargestTensors) {
  EXPECT_EQ(traffic_of(3, 1000), 3000);
  EXPECT_EQ(traffic_of(3, std::numeric_limits<Index>::max() / 2), std::numeric_limits<Index>::max());
  EXPECT_TRUE(leaves_cache(std::numeric_limits<Index>::max()));
  EXPECT_TRUE(writes_beside_next(std::numeric_limits<Index>::max(), 0, true));
  for (const Index length : {Index{1} << 25, (Index{1} << 25) + 64, Index{1} << 28}) {
    const LoopNest nest = nest_of_roles<Eigen::RowMajor>({length < Index{1} << 28 ? 4 : 1, length}, "kR");
    EXPECT_EQ((BackwardPlan<float, float, false>(nest, {true, true, true, false, false, true}).chunks), 1) << "sums as large as x and dy";
    const ForwardPlan<float, float, StatisticsSource::any> forward(nest, {true, true, true, false, true});
    EXPECT_EQ(forward.store, kernels::Store::streaming) << "more than any cache, also where such stores are ordinary ones";
  }
}

// The parameters of the whole of one strip, in a walk of very many columns.
TEST(FirstColumns, AreWholeRowsOfAStrip) {
  ColumnWalk walk;
  for (const Index extent : {7, 50000}) {
    walk.columns = LoopList();
    walk.columns.push({extent, {}, 1, 1});
    walk.columns.push({3, {}, 0, 0});
    walk.width = 3 * extent;
    const Strip strip(walk, 0);
    EXPECT_EQ(first_columns(strip, walk.width).loops[0].extent, extent);
    EXPECT_EQ(first_columns(strip, 6).loops[0].extent, 2);
  }
}

TEST(Caches, ArePlausible) {
  EXPECT_GE(first_level_cache(), Index{8} << 10);
  EXPECT_LE(first_level_cache(), Index{1} << 20);
  EXPECT_GE(second_level_cache(), Index{64} << 10);
  EXPECT_LE(second_level_cache(), Index{64} << 20);
  EXPECT_GE(last_level_cache(), Index{1} << 20);
  EXPECT_LE(last_level_cache(), Index{1} << 30);
}

}  // namespace
}  // namespace tensornorm
