// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <tensornorm/axes/policies.hpp>
#include <tensornorm/axes/role_shapes.hpp>

#include <string>
#include <vector>

namespace tensornorm {
namespace {

/// The roles of a policy, one letter per axis: k / K kept without / with weight and bias, r / R reduced likewise.
template <class Policy>
std::string roles(const Policy& policy, int rank) {
  std::string letters;
  for (int axis = 0; axis < split_rank<Policy>(rank); ++axis)
    letters += "kKrR"[static_cast<int>(policy.role(axis, split_rank<Policy>(rank)))];
  return letters;
}

TEST(Policies, BatchAxesKeepTheChannel) {
  EXPECT_EQ(roles(BatchAxes<1>{}, 2), "rK");
  EXPECT_EQ(roles(BatchAxes<1>{}, 5), "rKrrr");
  EXPECT_EQ(roles(BatchAxes<-1>{}, 4), "rrrK");
  EXPECT_EQ(roles(BatchAxes<-2>{}, 3), "rKr");
}

TEST(Policies, InstanceAxesKeepImageAndChannel) {
  EXPECT_EQ(roles(InstanceAxes<1>{}, 4), "kKrr");
  EXPECT_EQ(roles(InstanceAxes<-1>{}, 5), "krrrK");
}

TEST(Policies, GroupAxesKeepImageAndGroup) {
  EXPECT_EQ(roles(GroupAxes<1>{3}, 2), "kKR");
  EXPECT_EQ(roles(GroupAxes<1>{3}, 4), "kKRrr");
  EXPECT_EQ(roles(GroupAxes<-1>{3}, 4), "krrKR");
  EXPECT_EQ(GroupAxes<-1>::split_axis(4), 3);
}

TEST(Policies, LayerAxesReduceTheLastOnes) {
  EXPECT_EQ(roles(LayerAxes<1>{}, 3), "kkR");
  EXPECT_EQ(roles(LayerAxes<3>{}, 4), "kRRR");
  EXPECT_EQ(roles(LayerAxes<2>{}, 2), "RR");
}

TEST(Policies, ReduceAxesCountFromEitherEnd) {
  EXPECT_EQ(roles(over<0, 2, 3>, 4), "rkrr");
  EXPECT_EQ(roles(over<-2, -1>, 4), "kkrr");
  EXPECT_EQ(roles(over<>, 3), "kkk");
  static_assert(ReduceAxes<0, -1>::fits(2));
  static_assert(!ReduceAxes<0, 0>::fits(2) && !ReduceAxes<1, -1>::fits(2), "an axis named twice");
  static_assert(!ReduceAxes<2>::fits(2) && !ReduceAxes<-3>::fits(2), "an axis that is not there");
}

struct UserAxes {
  static constexpr AxisRole role(int axis, int /*rank*/) {
    return axis == 1 ? AxisRole::reduced_affine : AxisRole::kept;
  }
};

TEST(Policies, AreSmallValues) {
  static_assert(AxisPolicy<UserAxes> && !SplitsAnAxis<UserAxes>);
  static_assert(AxisPolicy<BatchAxes<>> && AxisPolicy<InstanceAxes<>> && AxisPolicy<LayerAxes<>>);
  static_assert(SplitsAnAxis<GroupAxes<>> && !SplitsAnAxis<BatchAxes<>>);
  static_assert(std::is_empty_v<BatchAxes<>> && std::is_empty_v<LayerAxes<>> && std::is_empty_v<ReduceAxes<0, 1>>);
  static_assert(!AxisPolicy<int>);
}

TEST(Roles, SayWhatTheyMean) {
  static_assert(!is_reduced(AxisRole::kept) && !is_affine(AxisRole::kept));
  static_assert(!is_reduced(AxisRole::kept_affine) && is_affine(AxisRole::kept_affine));
  static_assert(is_reduced(AxisRole::reduced) && !is_affine(AxisRole::reduced));
  static_assert(is_reduced(AxisRole::reduced_affine) && is_affine(AxisRole::reduced_affine));
  static_assert(from_end(-1, 4) == 3 && from_end(2, 4) == 2);
}

using Shape = std::vector<Index>;

template <class Policy, int kRank>
Shape kept(const Policy& policy, const Extents<kRank>& shape) {
  const auto extents = kept_shape(policy, shape);
  return Shape(extents.span().begin(), extents.span().end());
}
template <class Policy, int kRank>
Shape affine(const Policy& policy, const Extents<kRank>& shape) {
  const auto extents = affine_shape(policy, shape);
  return Shape(extents.span().begin(), extents.span().end());
}

TEST(RoleShapes, OfEachPolicy) {
  const Extents<4> images{{2, 12, 5, 7}}, channels_last{{2, 5, 7, 12}};
  EXPECT_EQ(kept(BatchAxes<1>{}, images), (Shape{12}));
  EXPECT_EQ(affine(BatchAxes<1>{}, images), (Shape{12}));
  EXPECT_EQ(kept(InstanceAxes<1>{}, images), (Shape{2, 12}));
  EXPECT_EQ(affine(InstanceAxes<-1>{}, channels_last), (Shape{12}));
  EXPECT_EQ(kept(GroupAxes<1>{4}, images), (Shape{2, 4}));
  EXPECT_EQ(affine(GroupAxes<1>{4}, images), (Shape{12})) << "a split axis counts once, whole";
  EXPECT_EQ(kept(GroupAxes<-1>{3}, channels_last), (Shape{2, 3}));
  EXPECT_EQ(affine(GroupAxes<-1>{3}, channels_last), (Shape{12}));
  EXPECT_EQ(kept(LayerAxes<3>{}, images), (Shape{2}));
  EXPECT_EQ(affine(LayerAxes<3>{}, images), (Shape{12, 5, 7}));
  EXPECT_EQ(kept(LayerAxes<4>{}, images), Shape{});
  EXPECT_EQ(kept(over<1, 3>, images), (Shape{2, 5}));
  EXPECT_EQ(affine(over<1, 3>, images), Shape{});
  EXPECT_EQ(kept(UserAxes{}, images), (Shape{2, 5, 7}));
  EXPECT_EQ(affine(UserAxes{}, images), (Shape{12}));
}

TEST(RoleShapes, CountTheParameters) {
  const Extents<4> images{{2, 12, 5, 7}};
  EXPECT_EQ(affine_shape(BatchAxes<1>{}, images).size(), 12);
  EXPECT_EQ(affine_shape(GroupAxes<1>{4}, images).size(), 12);
  EXPECT_EQ(affine_shape(LayerAxes<3>{}, images).size(), 12 * 5 * 7);
  EXPECT_EQ(affine_shape(over<1, 3>, images).size(), 1);
  EXPECT_EQ(affine_shape(BatchAxes<1>{}, Extents<4>{{0, 12, 5, 7}}).size(), 12);
}

TEST(RoleShapes, NameTheAxisTheyComeFrom) {
  const auto extents = affine_shape(GroupAxes<-1>{3}, Extents<4>{{2, 5, 7, 12}});
  ASSERT_EQ(extents.rank, 1);
  EXPECT_EQ(extents.axes[0], 3);
}

}  // namespace
}  // namespace tensornorm
