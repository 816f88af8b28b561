// SPDX-License-Identifier: MIT
// A thread's last plans serve calls like the ones they were made for, and no others.
#include <gtest/gtest.h>

#include <tensornorm/ops/remembered_plan.hpp>

#include <stdexcept>
#include <string>
#include <thread>

#include "support/nests.hpp"

namespace tensornorm {
namespace {

struct Plan {
  struct Options {
    bool one, other;
    friend bool operator==(const Options&, const Options&) = default;
  };
  static inline int made = 0;

  Index samples, statistics;
  Options options;
  Plan(const LoopNest& nest, const Options& o) : samples(nest.samples), statistics(nest.statistics), options(o) { ++made; }
};

using Shape = Extents<3>;
using Strides = FixedArray<Shape, kMaxOperands>;

constexpr Strides dense(const Shape& shape) {
  const Shape stride{shape[1] * shape[2], shape[2], 1};
  return {stride, stride, stride};
}

/// How many plans a call makes.
template <bool kRowMajor = true, class P = BatchAxes<1>>
int made_for(const P& policy, const Shape& shape, const Strides& strides, const Plan::Options& options = {true, false}) {
  const int before = Plan::made;
  const Plan& plan = plan_of<Plan, kRowMajor>(policy, shape, {&strides[0], &strides[1], &strides[2]}, options, [] {});
  const LoopNest nest = make_loop_nest<3, kRowMajor>(shape, strides, policy);
  EXPECT_EQ(plan.samples, nest.samples);
  EXPECT_EQ(plan.statistics, nest.statistics);
  EXPECT_EQ(plan.options, options);
  return Plan::made - before;
}

class RememberedPlan : public testing::Test {
 protected:
  const Shape shape_{2, 6, 5};
  void SetUp() override {  // in the place of what other tests left
    for (Index i = 1; i <= kPlansKept; ++i) of_extent(100 + i);
  }
  static int of_extent(Index i) { return made_for(BatchAxes<1>{}, {1, 1, i}, dense({1, 1, i})); }
};

TEST_F(RememberedPlan, ServesCallsLikeTheLast) {
  EXPECT_EQ(made_for(BatchAxes<1>{}, shape_, dense(shape_)), 1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(made_for(BatchAxes<1>{}, shape_, dense(shape_)), 0);
}

TEST_F(RememberedPlan, AreKeptOfAsManyShapesAsTakeTurns) {
  for (Index i = 1; i <= kPlansKept; ++i) EXPECT_EQ(of_extent(i), 1) << i;
  for (Index i = 1; i <= kPlansKept; ++i) EXPECT_EQ(of_extent(i), 0) << i;
  for (Index i = kPlansKept; i > 0; --i) EXPECT_EQ(of_extent(i), 0) << i;
}

TEST_F(RememberedPlan, TheOldestMakesRoomForOneMore) {
  for (Index i = 1; i <= kPlansKept; ++i) of_extent(i);
  of_extent(1);  // that it was asked for again does not count
  EXPECT_EQ(of_extent(kPlansKept + 1), 1);
  for (Index i = 2; i <= kPlansKept + 1; ++i) EXPECT_EQ(of_extent(i), 0) << i;
  EXPECT_EQ(of_extent(1), 1);
  EXPECT_EQ(of_extent(2), 1);
}

TEST_F(RememberedPlan, IsMadeAnewForAnotherShape) {
  for (int axis = 0; axis < 3; ++axis) {
    Shape other = shape_;
    ++other[axis];
    made_for(BatchAxes<1>{}, shape_, dense(shape_));
    EXPECT_EQ(made_for(BatchAxes<1>{}, other, dense(shape_)), 1) << axis;
  }
}

TEST_F(RememberedPlan, IsMadeAnewForOtherStridesOfAnyOperand) {
  for (int operand = 0; operand < kMaxOperands; ++operand)
    for (int axis = 0; axis < 3; ++axis) {
      Strides other = dense(shape_);
      other[operand][axis] += 60;
      made_for(BatchAxes<1>{}, shape_, dense(shape_));
      EXPECT_EQ(made_for(BatchAxes<1>{}, shape_, other), 1) << operand << ' ' << axis;
    }
}

TEST_F(RememberedPlan, IsMadeAnewForOtherOptions) {
  for (const Plan::Options other : {Plan::Options{false, false}, Plan::Options{true, true}, Plan::Options{false, true}}) {
    made_for(BatchAxes<1>{}, shape_, dense(shape_));
    EXPECT_EQ(made_for(BatchAxes<1>{}, shape_, dense(shape_), other), 1);
    EXPECT_EQ(made_for(BatchAxes<1>{}, shape_, dense(shape_), other), 0);
  }
}

TEST_F(RememberedPlan, IsMadeAnewForOtherGroups) {
  for (const int made : {1, 0})
    for (const Index groups : {Index{2}, Index{3}}) EXPECT_EQ(made_for(GroupAxes<1>{groups}, shape_, dense(shape_)), made) << groups;
}

TEST_F(RememberedPlan, OfOneTypeOfCallIsNoneOfAnother) {
  made_for(BatchAxes<1>{}, shape_, dense(shape_));
  EXPECT_EQ(made_for(InstanceAxes<1>{}, shape_, dense(shape_)), 1);
  EXPECT_EQ((made_for<false>(BatchAxes<1>{}, shape_, {Shape{1, 2, 12}, Shape{1, 2, 12}, Shape{1, 2, 12}})), 1);
  EXPECT_EQ(made_for(BatchAxes<1>{}, shape_, dense(shape_)), 0) << "and each is kept";
}

TEST_F(RememberedPlan, IsCheckedBeforeItIsMadeAndOnlyThen) {
  int checks = 0;
  bool fails = true;
  const auto ask = [&] {
    const Strides strides = dense(shape_);
    return plan_of<Plan, true>(BatchAxes<1>{}, shape_, {&strides[0], &strides[1], &strides[2]}, {true, false}, [&] {
      ++checks;
      if (fails) throw std::invalid_argument("a layout");
    }).samples;
  };
  const int before = Plan::made;
  for (int i = 1; i <= 2; ++i) {
    EXPECT_THROW(ask(), std::invalid_argument);
    EXPECT_EQ(checks, i) << "what is refused once is asked again";
  }
  EXPECT_EQ(Plan::made, before);
  fails = false;
  EXPECT_EQ(ask(), shape_[0] * shape_[2]);
  EXPECT_EQ(checks, 3);
  fails = true;
  EXPECT_NO_THROW(ask());
  EXPECT_EQ(checks, 3) << "a call like the one before";
}

TEST_F(RememberedPlan, IsAThreadsOwn) {
  made_for(BatchAxes<1>{}, shape_, dense(shape_));
  int made = 0;
  std::thread([&] { made = made_for(BatchAxes<1>{}, shape_, dense(shape_)); }).join();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(made_for(BatchAxes<1>{}, shape_, dense(shape_)), 0);
}

/// Roles that only the object knows, in a function or in a member that can be called, those of a static function that looks elsewhere, and
/// a split that only the object knows.
struct AnyRoles {
  AxisRole last;
  AxisRole role(int axis, int rank) const { return axis == rank - 1 ? last : AxisRole::kept; }
};
struct MemberRoles {
  AxisRole (*role)(int axis, int rank);
};
struct GlobalRoles {
  static inline bool reduce = false;
  static AxisRole role(int axis, int) { return axis > 0 && reduce ? AxisRole::reduced : AxisRole::kept; }
};
struct AnySplit {
  Index groups = 1;
  int axis = 1;
  int split_axis(int) const { return axis; }
  static constexpr AxisRole role(int axis, int) { return axis == 0 ? AxisRole::kept : AxisRole::reduced; }
};
struct MemberSplit {
  Index groups = 1;
  int (*split_axis)(int rank);
  static constexpr AxisRole role(int axis, int) { return axis == 0 ? AxisRole::kept : AxisRole::reduced; }
};
static_assert(StaticRoles<BatchAxes<1>, 2> && StaticRoles<BatchAxes<-1>, 4> && StaticRoles<InstanceAxes<1>, 3> && StaticRoles<GroupAxes<1>, 4>);
static_assert(StaticRoles<GroupAxes<-1>, 2> && StaticRoles<LayerAxes<2>, 5> && StaticRoles<ReduceAxes<0, -1>, 3>);
static_assert(!StaticRoles<AnyRoles, 3> && !StaticRoles<GlobalRoles, 3> && !StaticRoles<AnySplit, 3> && !StaticRoles<support::RolesOf, 3>);
static_assert(!StaticRoles<MemberRoles, 3> && !StaticRoles<MemberSplit, 3>);

TEST_F(RememberedPlan, IsNeverThatOfRolesThatMayChange) {
  for (const AxisRole role : {AxisRole::reduced, AxisRole::kept, AxisRole::reduced})
    EXPECT_EQ(made_for(AnyRoles{role}, shape_, dense(shape_)), 1);
  for (const bool reduce : {true, false, true}) {
    GlobalRoles::reduce = reduce;
    EXPECT_EQ(made_for(GlobalRoles{}, shape_, dense(shape_)), 1);
  }
  for (const int axis : {1, 0, 1}) EXPECT_EQ(made_for(AnySplit{2, axis}, shape_, dense(shape_)), 1);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(made_for(MemberRoles{[](int axis, int) { return axis == 0 ? AxisRole::kept : AxisRole::reduced; }}, shape_, dense(shape_)), 1);
    EXPECT_EQ(made_for(MemberSplit{2, [](int) { return 1; }}, shape_, dense(shape_)), 1);
  }
}

}  // namespace
}  // namespace tensornorm
