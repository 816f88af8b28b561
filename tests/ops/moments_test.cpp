// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <tensornorm/ops/moments.hpp>
#include <tensornorm/tensornorm.hpp>

#include <limits>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/logical.hpp"
#include "support/reference.hpp"

namespace tensornorm {
namespace {

using support::Shape;

constexpr Shape::value_type kSides[] = {2, 3, 13, 11};

template <class Kind>
class MomentsTest : public testing::Test {
 protected:
  using Scalar = typename Kind::Scalar;
  using Images = typename Kind::template Tensor<4>;

  /// Against two passes in long double; the sums lose a few ulp of what they add up.
  template <int... kAxes>
  void check(const std::string& letters, const Shape& shape) const {
    SCOPED_TRACE(letters + testing::PrintToString(shape));
    const auto values = support::random_values<Scalar>(support::size_of(shape), 1, 100, 2);
    reference::Norm norm;
    norm.shape = shape;
    for (const char letter : letters)
      norm.roles.push_back(letter == 'k' ? reference::Role::kept : reference::Role::reduced);
    const auto expected = reference::moments(norm, reference::real(values));

    const auto x = support::tensor_of<Images>(shape, values);
    const auto [mean, variance] = moments(x, over<kAxes...>);
    using Result = std::remove_cvref_t<decltype(mean)>;
    static_assert(std::is_same_v<typename Result::Scalar, Scalar>);
    static_assert(Result::NumDimensions == 4 - int(sizeof...(kAxes)));
    static_assert(int(Result::Layout) == Kind::order);
    EXPECT_EQ(support::shape_of(mean), norm.statistic_shape());
    EXPECT_EQ(support::shape_of(variance), norm.statistic_shape());
    // The mean rounded once, beside an ulp of a deviation.
    EXPECT_TRUE(support::all_near(support::logical(mean), expected.mean, support::ulps<Scalar>(1, 110)));
    EXPECT_TRUE(support::all_near(support::logical(variance), expected.variance,
                                  support::ulps<Scalar>(4, support::largest(expected.variance))));
  }
};
TYPED_TEST_SUITE(MomentsTest, support::Kinds, support::KindNames);

TYPED_TEST(MomentsTest, OverAnySetOfAxes) {
  const Shape shape(std::begin(kSides), std::end(kSides));
  this->template check<0, 2, 3>("rkrr", shape);
  this->template check<-2, -1>("kkrr", shape);
  this->template check<0>("rkkk", shape);
  this->template check<1>("krkk", shape);
  this->template check<3>("kkkr", shape);
  this->template check<1, 3>("krkr", shape);
  this->template check<3, 0>("rkkr", shape);
  this->template check<0, -1, 1>("rrkr", {40, 7, 5, 33});
  this->template check<0, 2, 3>("rkrr", {3, 2, 40, 40});
}

// Squares that are all alike are all rounded the same way: sums of doubles, which nothing wider checks, drift by an ulp for
// every forty of them.
TYPED_TEST(MomentsTest, ManySquaresThatAreAllRoundedAlike) {
  using S = typename TypeParam::Scalar;
  for (const auto& [letters, shape] : std::vector<std::pair<std::string, Shape>>{
           {"rk", {1001, 3}}, {"rk", {1001, 1000}}, {"rk", {65536, 20}}, {"rk", {4096, 1}}, {"kr", {3, 1001}}, {"kr", {20, 65536}}}) {
    SCOPED_TRACE(letters + testing::PrintToString(shape));
    const bool rows = letters == "kr";
    std::vector<S> values;
    for (Index i = 0; i < support::size_of(shape); ++i) {
      const Index sample = rows ? i % shape[1] : i / shape[1];
      values.push_back(static_cast<S>(sample == 0 ? 1.2 : sample % 2 == 1 ? 1.1 : 1.3));
    }
    const auto x = support::tensor_of<typename TypeParam::template Tensor<2>>(shape, values);
    const reference::Norm norm{shape, reference::roles_of(letters)};
    const auto expected = reference::moments(norm, reference::real(values)).variance;
    const auto variance = rows ? moments(x, over<1>).variance : moments(x, over<0>).variance;
    EXPECT_TRUE(support::all_near(support::logical(variance), expected, support::ulps<S>(4, expected[0])));
  }
}

// 1, 2, 3, 6: mean 3, squared deviations 4 + 1 + 0 + 9.
TYPED_TEST(MomentsTest, OverAllAxesAreTensorsOfRankZero) {
  using S = typename TypeParam::Scalar;
  const auto x = support::tensor_of<typename TypeParam::template Tensor<2>>({2, 2}, std::vector<S>{1, 2, 3, 6});
  const auto [mean, variance] = moments(x, over<0, 1>);
  ASSERT_EQ(mean.size(), 1);
  EXPECT_EQ(mean(), 3);
  EXPECT_EQ(variance(), S(3.5));
}

TYPED_TEST(MomentsTest, OverAnAxisOfOneIsXAndZero) {
  const auto x = support::random_values<typename TypeParam::Scalar>(30, 1);
  const auto tensor = support::tensor_of<typename TypeParam::template Tensor<3>>({5, 1, 6}, x);
  const auto [mean, variance] = moments(tensor, over<1>);
  EXPECT_TRUE(support::same_bits(support::logical(mean), x));
  EXPECT_TRUE(support::same_bits(support::logical(variance), std::vector<typename TypeParam::Scalar>(30)));
}

TYPED_TEST(MomentsTest, OverNothingIsNaN) {
  const typename TypeParam::template Tensor<3> x(2, 0, 3);
  const auto [mean, variance] = moments(x, over<1>);
  ASSERT_EQ(support::shape_of(mean), (Shape{2, 3}));
  for (Index i = 0; i < 6; ++i) EXPECT_TRUE(std::isnan(mean.data()[i]) && std::isnan(variance.data()[i]));
  const auto none = moments(x, over<0>);
  EXPECT_EQ(none.mean.size(), 0);
}

// Columns 1, 2, 3 and 10, 20, 60: means 2 and 30, variances 2 / 3 and (400 + 100 + 900) / 3.
TEST(MomentsOfMatrices, RowsAndColumnsOfAnyPitch) {
  Eigen::MatrixXd whole(5, 4);
  whole.setConstant(-1);
  whole.block(1, 1, 3, 2) << 1, 10, 2, 20, 3, 60;
  const Eigen::Ref<const Eigen::MatrixXd> x = whole.block(1, 1, 3, 2);
  const auto [mean, variance] = moments(x, over<0>);
  EXPECT_DOUBLE_EQ(mean(0), 2);
  EXPECT_DOUBLE_EQ(mean(1), 30);
  EXPECT_DOUBLE_EQ(variance(0), 2.0 / 3);
  EXPECT_DOUBLE_EQ(variance(1), 1400.0 / 3);
  const auto rows = moments(x, over<1>);
  EXPECT_DOUBLE_EQ(rows.mean(2), 31.5);
  EXPECT_DOUBLE_EQ(rows.variance(2), 28.5 * 28.5);
}

TEST(MomentsOfMaps, ReadConstDataWhereItLies) {
  const float data[] = {1, 3, 5, 7};
  const Eigen::TensorMap<const Eigen::Tensor<float, 2, Eigen::RowMajor>> x(data, 2, 2);
  const auto [mean, variance] = moments(x, over<1>);
  EXPECT_EQ(mean(0), 2);
  EXPECT_EQ(mean(1), 6);
  EXPECT_EQ(variance(0), 1);
}

// ---- normalize ----

template <class Kind>
class NormalizeOverAxes : public testing::Test {};
TYPED_TEST_SUITE(NormalizeOverAxes, support::Kinds, support::KindNames);

TYPED_TEST(NormalizeOverAxes, ByItsMomentsIsStandard) {
  using S = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  const Shape shape(std::begin(kSides), std::end(kSides));
  const auto x = support::tensor_of<Images>(shape, support::random_values<S>(support::size_of(shape), 1, 5, 2));
  const auto [mean, variance] = moments(x, over<1, 3>);
  const Images y = normalize(x, mean, variance, over<1, 3>, {.eps = 0});
  const auto [zero, one] = moments(y, over<1, 3>);
  // 4 ulp in each number, of which the largest is some 3.
  for (const S value : support::logical(zero)) EXPECT_NEAR(value, 0, 16 * std::numeric_limits<S>::epsilon());
  for (const S value : support::logical(one)) EXPECT_NEAR(value, 1, 16 * std::numeric_limits<S>::epsilon());
}

// (x - 2) / sqrt(3 + 1) and (x - 4) / sqrt(8 + 1).
TYPED_TEST(NormalizeOverAxes, ByGivenStatistics) {
  using S = typename TypeParam::Scalar;
  using Matrix = typename TypeParam::template Tensor<2>;
  using Vector = typename TypeParam::template Tensor<1>;
  const auto x = support::tensor_of<Matrix>({2, 2}, std::vector<S>{4, 10, 0, -2});
  const auto mean = support::tensor_of<Vector>({2}, std::vector<S>{2, 4});
  const auto variance = support::tensor_of<Vector>({2}, std::vector<S>{3, 8});
  const std::vector<S> expected{1, 2, -1, -2};
  EXPECT_EQ(support::logical(normalize(x, mean, variance, over<0>, {.eps = 1})), expected);
  Matrix y(2, 2);
  normalize(x, y, mean, variance, over<0>, {.eps = 1});
  EXPECT_EQ(support::logical(y), expected);
  Matrix in_place = x;
  normalize(in_place, in_place, mean, variance, over<0>, {.eps = 1});
  EXPECT_EQ(support::logical(in_place), expected);
}

// Rank-2 statistics lie in x's storage order.
TYPED_TEST(NormalizeOverAxes, StatisticsOfTwoAxes) {
  using S = typename TypeParam::Scalar;
  using Cube = typename TypeParam::template Tensor<3>;
  using Matrix = typename TypeParam::template Tensor<2>;
  const auto x = support::tensor_of<Cube>({2, 2, 3}, std::vector<S>(12, S(10)));
  const auto mean = support::tensor_of<Matrix>({2, 3}, std::vector<S>{0, 1, 2, 3, 4, 5});
  const auto variance = support::tensor_of<Matrix>({2, 3}, std::vector<S>(6, S(1)));
  EXPECT_EQ(support::logical(normalize(x, mean, variance, over<1>, {.eps = 0})),
            (std::vector<S>{10, 9, 8, 10, 9, 8, 7, 6, 5, 7, 6, 5}));
}

TYPED_TEST(NormalizeOverAxes, RefusesStatisticsOfAnotherShapeAndChangesNothing) {
  using S = typename TypeParam::Scalar;
  using Cube = typename TypeParam::template Tensor<3>;
  using Matrix = typename TypeParam::template Tensor<2>;
  const auto x = support::tensor_of<Cube>({2, 4, 3}, std::vector<S>(24, S(10)));
  auto y = support::tensor_of<Cube>({2, 4, 3}, std::vector<S>(24, S(7)));
  Matrix right(2, 3), wrong(3, 2);
  right.setConstant(S(1));
  wrong.setConstant(S(1));
  const auto text_of_failure = [&](const Matrix& mean, const Matrix& variance) -> std::string {
    try {
      normalize(x, y, mean, variance, over<1>);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing";
  };
  EXPECT_EQ(text_of_failure(wrong, right), "tensornorm::normalize: mean: expected [2,3], got [3,2]");
  EXPECT_EQ(text_of_failure(right, wrong), "tensornorm::normalize: variance: expected [2,3], got [3,2]");
  EXPECT_EQ(support::logical(y), std::vector<S>(24, S(7)));
}

}  // namespace
}  // namespace tensornorm
