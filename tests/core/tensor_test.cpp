// SPDX-License-Identifier: MIT
// What the library reads off each of Eigen's types, and which memory overlaps which.
#include <gtest/gtest.h>

#include <tensornorm/core/tensor.hpp>

#include <string>
#include <type_traits>
#include <vector>

namespace tensornorm {
namespace {

template <int kRank>
using Rows = Eigen::Tensor<float, kRank, Eigen::RowMajor>;
template <int kRank>
using Columns = Eigen::Tensor<float, kRank>;

template <class X>
constexpr bool is_readable = traits_of<X>::readable;

TEST(TensorTraits, OfEachKindOfTensorAndMatrix) {
  static_assert(rank_of<Rows<4>> == 4 && traits_of<Rows<4>>::row_major && traits_of<Rows<4>>::writable);
  static_assert(!traits_of<Columns<2>>::row_major);
  using Map = Eigen::TensorMap<Rows<3>>;
  static_assert(rank_of<Map> == 3 && traits_of<Map>::writable && std::is_same_v<traits_of<Map>::Plain, Rows<3>>);
  using OfConst = Eigen::TensorMap<const Rows<3>>;
  using OfConstScalar = Eigen::TensorMap<Eigen::Tensor<const float, 2>>;
  static_assert(is_readable<OfConst> && !traits_of<OfConst>::writable);
  static_assert(!traits_of<OfConstScalar>::writable && std::is_same_v<scalar_of<OfConstScalar>, float>);
  static_assert(rank_of<Eigen::TensorFixedSize<double, Eigen::Sizes<2, 3>>> == 2);
  static_assert(rank_of<Eigen::MatrixXf> == 2 && !traits_of<Eigen::MatrixXf>::row_major);
  static_assert(traits_of<Eigen::Array<float, 3, 4, Eigen::RowMajor>>::row_major);
  static_assert(traits_of<Eigen::Ref<Eigen::MatrixXf>>::writable);
  static_assert(is_readable<Eigen::Ref<const Eigen::MatrixXf>> &&
                !traits_of<Eigen::Ref<const Eigen::MatrixXf>>::writable);
  static_assert(!traits_of<Eigen::Map<const Eigen::MatrixXf>>::writable);
  static_assert(is_readable<decltype(std::declval<Eigen::MatrixXf&>().leftCols(2))>);
  static_assert(is_readable<decltype(std::declval<Eigen::VectorXf&>().segment(1, 2))>);
  static_assert(is_readable<decltype(std::declval<const Eigen::VectorXf&>().head(2))>);
}

TEST(TensorTraits, WhatHasNoMemoryIsNotReadable) {
  static_assert(!is_readable<decltype(std::declval<Eigen::MatrixXf&>() + std::declval<Eigen::MatrixXf&>())>);
  static_assert(!is_readable<decltype(std::declval<Rows<2>&>() * 2.0F)>);
  static_assert(!is_readable<int> && !is_readable<None> && !is_readable<std::vector<float>>);
}

TEST(Accumulators, AreAtLeastFloatAndStatisticsDouble) {
  static_assert(std::is_same_v<accumulator_t<float>, float> && std::is_same_v<statistic_t<float>, double>);
  static_assert(std::is_same_v<accumulator_t<double>, double> && std::is_same_v<statistic_t<double>, double>);
  static_assert(std::is_same_v<accumulator_t<Eigen::half>, float> && std::is_same_v<statistic_t<Eigen::half>, double>);
  static_assert(std::is_same_v<accumulator_t<Eigen::bfloat16>, float>);
  static_assert(std::is_same_v<statistic_t<long double>, long double>);
  static_assert(RealScalar<float> && !RealScalar<int> && !RealScalar<std::complex<float>>);
}

TEST(View, StridesFollowTheStorageOrder) {
  const Rows<3> rows(2, 3, 4);
  const auto row_view = view_of(rows);
  EXPECT_EQ(row_view.data, rows.data());
  EXPECT_EQ(row_view.shape, (Extents<3>{{2, 3, 4}}));
  EXPECT_EQ(row_view.stride, (Extents<3>{{12, 4, 1}}));
  EXPECT_EQ(row_view.size(), 24);
  EXPECT_EQ(row_view.span(), 24);
  static_assert(std::is_same_v<decltype(row_view.data), const float*>);
  Columns<3> columns(2, 3, 4);
  EXPECT_EQ(view_of(columns).stride, (Extents<3>{{1, 2, 6}}));
  static_assert(std::is_same_v<decltype(view_of(columns).data), float*>);
  EXPECT_EQ(view_of(Rows<3>(2, 0, 4)).span(), 0);
}

TEST(View, MatricesHaveAnOuterStride) {
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(5, 7);
  const auto block = rows.block(1, 2, 3, 4);
  EXPECT_EQ(view_of(block).data, &rows(1, 2));
  EXPECT_EQ(view_of(block).shape, (Extents<2>{{3, 4}}));
  EXPECT_EQ(view_of(block).stride, (Extents<2>{{7, 1}}));
  EXPECT_EQ(view_of(block).span(), 2 * 7 + 4) << "gaps included";
  Eigen::MatrixXf columns(5, 7);
  EXPECT_EQ(view_of(columns.middleRows(1, 3)).stride, (Extents<2>{{1, 5}}));
  const Eigen::Ref<const Eigen::MatrixXf> reference = columns.topRows(2);
  EXPECT_EQ(view_of(reference).stride, (Extents<2>{{1, 5}}));
}

TEST(MakeLike, OwnsMemoryOfXsShape) {
  constexpr Call call{"Layer", "forward"};
  float data[6] = {};
  const auto tensor = make_like(call, Eigen::TensorMap<const Rows<2>>(data, 2, 3));
  static_assert(std::is_same_v<decltype(tensor), const Rows<2>>);
  EXPECT_EQ(tensor.dimension(1), 3);
  Eigen::MatrixXf matrix(5, 7);
  const auto block = make_like(call, matrix.topRows(2));
  EXPECT_EQ(block.rows(), 2);
  EXPECT_EQ(block.cols(), 7);
  const auto fixed = make_like(call, Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3>>());
  static_assert(std::is_same_v<decltype(fixed), const Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3>>>);
}

TEST(RangesOverlap, WhereAByteIsShared) {
  const std::vector<float> memory(20);
  const float* p = memory.data();
  EXPECT_TRUE(ranges_overlap(p, 5, p, 5));
  EXPECT_TRUE(ranges_overlap(p, 5, p + 4, 5));
  EXPECT_TRUE(ranges_overlap(p + 4, 5, p, 5));
  EXPECT_FALSE(ranges_overlap(p, 5, p + 5, 5));
  EXPECT_FALSE(ranges_overlap(p + 5, 5, p, 5));
  EXPECT_FALSE(ranges_overlap(p + 2, 0, p, 5)) << "nothing overlaps nothing";
  EXPECT_TRUE(ranges_overlap(p, 5, reinterpret_cast<const double*>(p + 4), 1));
  const auto* bytes = reinterpret_cast<const char*>(p);
  EXPECT_TRUE(ranges_overlap(bytes + 19, 4, p, 5));
  EXPECT_FALSE(ranges_overlap(bytes + 20, 4, p, 5));
}

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Blocks of a matrix, against a set of the elements they touch.
TEST(ViewsOverlap, BlocksOfOneMatrixWhereAnElementIsShared) {
  Matrix whole(5, 6);
  whole.setZero();
  for (int i = 0; i < 5 * 5 * 4 * 4; ++i) {
    const Index row_a = i % 2, row_b = i / 2 % 2, col_a = i / 4 % 5, col_b = i / 20 % 5, width = 1 + i / 100 % 2;
    if (col_a + width > 6 || col_b + width > 6) continue;
    Matrix touched = Matrix::Zero(5, 6);
    touched.block(row_a, col_a, 3, width).array() += 1;
    touched.block(row_b, col_b, 3, width).array() += 1;
    const auto a = view_of(whole.block(row_a, col_a, 3, width)), b = view_of(whole.block(row_b, col_b, 3, width));
    EXPECT_EQ(views_overlap(a, b), touched.maxCoeff() == 2)
        << row_a << "," << col_a << " and " << row_b << "," << col_b << ", width " << width;
  }
}

TEST(InPlaceOrApart, RefusesWhatIsNeither) {
  const Call call{"Layer", "call"};
  std::vector<float> memory(40);
  const auto map = [&](Index at) { return Eigen::TensorMap<Rows<2>>(memory.data() + at, 3, 4); };
  const auto x = view_of(map(12));
  EXPECT_NO_THROW(check_in_place_or_apart(call, "y", view_of(map(12)), "x", x));
  EXPECT_NO_THROW(check_in_place_or_apart(call, "y", view_of(map(0)), "x", x));
  EXPECT_NO_THROW(check_in_place_or_apart(call, "y", view_of(map(24)), "x", x));
  for (const Index at : {1, 11, 13, 23})
    EXPECT_THROW(check_in_place_or_apart(call, "y", view_of(map(at)), "x", x), std::invalid_argument) << at;
}

TEST(SameShape, NamesBoth) {
  const Rows<2> x(2, 3), y(2, 4);
  try {
    check_same_shape(Call{"Layer", "call"}, "y", view_of(x), view_of(y));
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "Layer::call: y: expected [2,3], got [2,4]");
  }
}

TEST(FixedArray, IsAListOfItsSize) {
  constexpr FixedArray<int, 3> array{{1, 2, 3}};
  static_assert(array[2] == 3 && array.size() == 3 && array == FixedArray<int, 3>{{1, 2, 3}});
  static_assert(!(array == FixedArray<int, 3>{{1, 2, 4}}));
  static_assert(FixedArray<int, 0>::size() == 0);
  int sum = 0;
  for (const int value : array) sum += value;
  EXPECT_EQ(sum, 6);
  FixedArray<int, 3> filled{};
  filled.fill(7);
  EXPECT_EQ(filled, (FixedArray<int, 3>{{7, 7, 7}}));
}

}  // namespace
}  // namespace tensornorm
