// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <tensornorm/stats/saved_stats.hpp>
#include <tensornorm/tensornorm.hpp>

#include <cmath>
#include <type_traits>
#include <vector>

#include "support/compare.hpp"
#include "support/logical.hpp"

namespace tensornorm {
namespace {

using support::logical;
using support::Shape;

template <class Saved>
Shape shape_of(const Saved& saved) {
  return Shape(saved.shape().begin(), saved.shape().end());
}

template <class Kind>
class SavedStatsTest : public testing::Test {
 protected:
  using Scalar = typename Kind::Scalar;
  using Images = typename Kind::template Tensor<4>;
  template <class Layer>
  static SavedStats<Scalar> after(Layer layer, const Shape& shape) {
    const auto x = support::tensor_of<Images>(shape, support::random_values<Scalar>(support::size_of(shape), 1));
    auto y = support::sized<Images>(shape);
    SavedStats<Scalar> saved;
    layer.forward(x, y, saved);
    return saved;
  }
};
TYPED_TEST_SUITE(SavedStatsTest, support::Kinds, support::KindNames);

TYPED_TEST(SavedStatsTest, AreEmptyUntilAForwardCall) {
  const SavedStats<typename TypeParam::Scalar> saved;
  EXPECT_TRUE(saved.empty());
  EXPECT_EQ(saved.size(), 0);
  EXPECT_EQ(saved.samples(), 0);
  EXPECT_FALSE(saved.constant());
}

TYPED_TEST(SavedStatsTest, HaveTheShapeOfTheStatistics) {
  using S = typename TypeParam::Scalar;
  const Shape shape{2, 6, 3, 4};
  EXPECT_EQ(shape_of(this->after(BatchNorm2d<S>(6), shape)), (Shape{6}));
  EXPECT_EQ(shape_of(this->after(InstanceNorm2d<S>(6), shape)), (Shape{2, 6}));
  EXPECT_EQ(shape_of(this->after(GroupNorm<S>(3, 6), shape)), (Shape{2, 3}));
  EXPECT_EQ(shape_of(this->after(LayerNorm<S>(4), shape)), (Shape{2, 6, 3}));
  EXPECT_EQ(shape_of(this->after(LayerNorm<S, 2>(Extents<2>{{3, 4}}), shape)), (Shape{2, 6}));
  EXPECT_EQ(shape_of(this->after(RMSNorm<S>(4), shape)), (Shape{2, 6, 3}));
  const auto saved = this->after(RMSNorm<S>(4), shape);
  EXPECT_EQ(saved.size(), 36);
  EXPECT_EQ(saved.samples(), 4);
  EXPECT_EQ(logical(saved.mean()), std::vector<double>(36, 0));
}

// (0, 2), (10, 30): means 1 and 20, variances 1 and 100; the statistics of images lie as x does.
TYPED_TEST(SavedStatsTest, AreFlatInXsStorageOrder) {
  using S = typename TypeParam::Scalar;
  const auto x =
      support::tensor_of<typename TypeParam::template Tensor<3>>({2, 2, 2}, std::vector<S>{0, 2, 10, 30, 4, 6, 50, 70});
  auto y = x;
  SavedStats<S> saved;
  InstanceNorm1d<S>(2, {.eps = 0}).forward(x, y, saved);
  const bool rows = TypeParam::order == Eigen::RowMajor;
  EXPECT_EQ(logical(saved.mean()), rows ? (std::vector<double>{1, 20, 5, 60}) : (std::vector<double>{1, 5, 20, 60}));
  EXPECT_EQ(logical(saved.rstd()),
            rows ? (std::vector<double>{1, 0.1, 1, 0.1}) : (std::vector<double>{1, 1, 0.1, 0.1}));
  static_assert(std::is_same_v<typename SavedStats<S>::Statistic, double>);
}

// The mean of c and c + ulp has no place in the scalar's type, and for double only in hi + lo.
TYPED_TEST(SavedStatsTest, TheMeanIsNotRoundedToTheScalar) {
  using S = typename TypeParam::Scalar;
  const S c = S(1000), next = std::nextafter(c, S(2000));
  const auto x = support::tensor_of<typename TypeParam::template Tensor<2>>({1, 2}, std::vector<S>{c, next});
  auto y = x;
  SavedStats<S> saved;
  LayerNorm<S>(2, {.eps = 0}).forward(x, y, saved);
  EXPECT_EQ((saved.mean()(0) - double(c)) + saved.mean_lo()(0), double(next - c) / 2);
  EXPECT_EQ(saved.rstd()(0), 2 / double(next - c));
  EXPECT_EQ(logical(y), (std::vector<S>{-1, 1}));
}

TYPED_TEST(SavedStatsTest, SayWhetherTheyWereGiven) {
  using S = typename TypeParam::Scalar;
  BatchNorm2d<S> layer(3, {.eps = 0});
  EXPECT_FALSE(this->after(layer, {2, 3, 2, 2}).constant());
  layer.running_stats().load(std::vector<S>{1, 2, 3}, std::vector<S>{4, 16, 1}, 1);
  layer.eval();
  const auto saved = this->after(layer, {2, 3, 2, 2});
  EXPECT_TRUE(saved.constant());
  EXPECT_EQ(saved.samples(), 0);
  EXPECT_EQ(logical(saved.mean()), (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(logical(saved.rstd()), (std::vector<double>{0.5, 0.25, 1}));
  EXPECT_EQ(logical(saved.mean_lo()), (std::vector<double>{0, 0, 0}));
}

TYPED_TEST(SavedStatsTest, AreUsedAgainForAnotherShape) {
  using S = typename TypeParam::Scalar;
  using Matrix = typename TypeParam::template Tensor<2>;
  SavedStats<S> saved;
  for (const Index rows : {5, 2, 9, 0}) {
    const auto x = support::tensor_of<Matrix>({rows, 3}, support::random_values<S>(3 * rows, 1));
    auto y = x;
    LayerNorm<S>(3).forward(x, y, saved);
    EXPECT_EQ(shape_of(saved), (Shape{rows}));
    EXPECT_EQ(saved.mean().size(), rows);
    EXPECT_FALSE(saved.empty());
  }
  const SavedStats<S> copy = saved;
  EXPECT_EQ(shape_of(copy), shape_of(saved));
}

}  // namespace
}  // namespace tensornorm
