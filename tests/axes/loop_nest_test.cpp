// SPDX-License-Identifier: MIT
// The nest against logical indexing, in order: x's memory ascending, statistics by x's storage order of the kept axes,
// parameters RowMajor over the affine ones.
#include <gtest/gtest.h>

#include <tensornorm/axes/loop_nest.hpp>

#include <algorithm>
#include <array>
#include <random>
#include <string>

#include "support/logical.hpp"
#include "support/nests.hpp"

namespace tensornorm {
namespace {

using support::RolesOf;
using support::Shape;

/// Offsets into three operands, the statistics and the parameters.
using Place = std::array<Index, 5>;
using Places = std::vector<Place>;

/// What a nest is made of, and the same for the judge: roles by letter, the axis at `split` seen as [groups, rest].
template <int kRank>
struct Layout {
  Shape shape;
  std::string letters;
  std::array<Shape, 3> strides;
  int split = -1;
  Index groups = 1;

  Extents<kRank> extents(const Shape& from) const {
    Extents<kRank> to{};
    std::copy_n(from.begin(), kRank, to.begin());
    return to;
  }
  template <bool kRowMajor, int kSlowest = 0, class Policy>
  LoopNest nest(const Policy& policy) const {
    return make_loop_nest<kRank, kRowMajor, kSlowest>(extents(shape),
                                                      {extents(strides[0]), extents(strides[1]), extents(strides[2])}, policy);
  }
  Shape split_up(Shape at, Index divisor) const {
    if (split < 0) return at;
    const auto axis = at.begin() + split;
    const Index whole = *axis;
    *axis = whole % divisor;
    at.insert(at.begin() + split, whole / divisor);
    return at;
  }
};

template <int kOrder>
Shape dense_strides(const Shape& shape) {
  Shape strides;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    Shape unit(shape.size(), 0);
    unit[axis] = 1;
    strides.push_back(support::storage_index<kOrder>(unit, shape));
  }
  return strides;
}

template <int kOrder, int kRank>
Layout<kRank> dense(const Shape& shape, std::string letters, int split = -1, Index groups = 1) {
  const Shape strides = dense_strides<kOrder>(shape);
  return {shape, std::move(letters), {strides, strides, strides}, split, groups};
}

/// The position of `at` among the axes whose letter is one of `chosen`.
template <int kOrder>
Index position(const Shape& at, const Shape& shape, const std::string& letters, const std::string& chosen) {
  Shape some_at, some_shape;
  for (std::size_t axis = 0; axis < at.size(); ++axis) {
    if (chosen.find(letters[axis]) == std::string::npos) continue;
    some_at.push_back(at[axis]);
    some_shape.push_back(shape[axis]);
  }
  return support::storage_index<kOrder>(some_at, some_shape);
}

template <int kOrder, int kRank>
Places expected_places(const Layout<kRank>& layout) {
  const Index members = layout.split < 0 ? 1 : layout.shape[static_cast<std::size_t>(layout.split)] / layout.groups;
  Shape split_shape = layout.shape;
  if (layout.split >= 0) {
    split_shape[static_cast<std::size_t>(layout.split)] = members;
    split_shape.insert(split_shape.begin() + layout.split, layout.groups);
  }
  Places places;
  for (Index flat = 0; flat < support::size_of(layout.shape); ++flat) {
    const Shape at = support::coordinates(flat, layout.shape);
    Place place{};
    for (std::size_t k = 0; k < 3; ++k)
      for (std::size_t axis = 0; axis < at.size(); ++axis) place[k] += at[axis] * layout.strides[k][axis];
    const Shape split_at = layout.split_up(at, members);
    place[3] = position<kOrder>(split_at, split_shape, layout.letters, "kK");
    place[4] = position<Eigen::RowMajor>(split_at, split_shape, layout.letters, "KR");
    places.push_back(place);
  }
  std::sort(places.begin(), places.end());  // in the order of x's memory
  return places;
}

LoopList all_loops(const LoopNest& nest) {
  LoopList list;
  for (int i = 0; i < nest.depth; ++i) list.push(nest.loops[i]);
  return list;
}

Place place_of(const Offsets& at) { return {at.data[0], at.data[1], at.data[2], at.statistic, at.param}; }

Places walked_places(const LoopNest& nest) {
  Places places;
  const LoopList list = all_loops(nest);
  Odometer at(list);
  for (Index i = list.size(); i > 0; --i, at.next()) places.push_back(place_of(at.offsets()));
  return places;
}

Index extent_of(const Places& places, std::size_t what) {
  Index largest = -1;
  for (const Place& place : places) largest = std::max(largest, place[what]);
  return largest + 1;
}

void expect_minimal(const LoopNest& nest) {
  ASSERT_GE(nest.depth, 1);
  const Loop& innermost = nest.innermost();
  for (const Index stride : innermost.data) EXPECT_EQ(stride, 1);
  EXPECT_TRUE(innermost.statistic == 0 || innermost.statistic == 1);
  for (int i = 0; i + 1 < nest.depth; ++i) {
    const Loop &outer = nest.loops[i], &inner = nest.loops[i + 1];
    EXPECT_NE(outer.extent, 1);
    bool in_step = outer.statistic == inner.extent * inner.statistic && outer.param == inner.extent * inner.param;
    for (int k = 0; k < kMaxOperands; ++k) in_step &= outer.data[k] == inner.extent * inner.data[k];
    EXPECT_FALSE(in_step && inner.extent > 1) << "loops " << i << " and " << i + 1 << " are one";
  }
}

/// The nest of `policy` visits what logical indexing says, in order, by as few loops as that takes.
template <int kOrder, int kRank, class Policy>
void expect_nest(const Layout<kRank>& layout, const Policy& policy) {
  SCOPED_TRACE(layout.letters + " " + testing::PrintToString(layout.shape) + " groups " +
               std::to_string(layout.groups));
  const LoopNest nest = layout.template nest<kOrder == Eigen::RowMajor>(policy);
  Places expected = expected_places<kOrder>(layout);
  EXPECT_EQ(walked_places(nest), expected);
  EXPECT_EQ(nest.statistics, extent_of(expected, 3));
  EXPECT_EQ(nest.params, extent_of(expected, 4));
  EXPECT_EQ(nest.size(), support::size_of(layout.shape));
  expect_minimal(nest);

  const LoopNest plain = without_params(nest);
  for (Place& place : expected) place[4] = 0;
  EXPECT_EQ(walked_places(plain), expected);
  EXPECT_LE(plain.depth, nest.depth);
  EXPECT_EQ(plain.size(), nest.size());
  expect_minimal(plain);
}

template <class Order>
class LoopNestTest : public testing::Test {
 protected:
  static constexpr int order = Order::value;

  Index pick(std::initializer_list<Index> from) {
    return from.begin()[std::uniform_int_distribution<std::size_t>(0, from.size() - 1)(engine_)];
  }
  Shape random_shape(int rank) {
    Shape shape;
    for (int axis = 0; axis < rank; ++axis) shape.push_back(pick({1, 1, 2, 3, 4, 5}));
    return shape;
  }
  /// f(shape) for a few random shapes, at least one without an extent of 1.
  template <class F>
  void for_shapes(int rank, F f) {
    Shape distinct;
    for (int axis = 0; axis < rank; ++axis) distinct.push_back(axis + 2);
    f(distinct);
    for (int i = 0; i < 12; ++i) f(random_shape(rank));
  }
  template <int kRank, class Policy>
  void check(const Policy& policy, const std::string& letters) {
    for_shapes(kRank, [&](const Shape& shape) { expect_nest<order>(dense<order, kRank>(shape, letters), policy); });
  }
  template <int kRank, class Policy>
  void check_groups(const std::string& letters, int axis) {
    for_shapes(kRank, [&](Shape shape) {
      const Index groups = pick({1, 2, 3});
      shape[static_cast<std::size_t>(axis)] *= groups;
      expect_nest<order>(dense<order, kRank>(shape, letters, axis, groups), Policy{groups});
    });
  }
  std::mt19937 engine_{7};
};

struct OrderNames {
  template <class Order>
  static std::string GetName(int) {
    return Order::value == Eigen::RowMajor ? "RowMajor" : "ColMajor";
  }
};
using Orders =
    testing::Types<std::integral_constant<int, Eigen::RowMajor>, std::integral_constant<int, Eigen::ColMajor>>;
TYPED_TEST_SUITE(LoopNestTest, Orders, OrderNames);

TYPED_TEST(LoopNestTest, BatchAxes) {
  this->template check<2>(BatchAxes<1>{}, "rK");
  this->template check<3>(BatchAxes<1>{}, "rKr");
  this->template check<4>(BatchAxes<1>{}, "rKrr");
  this->template check<5>(BatchAxes<1>{}, "rKrrr");
  this->template check<4>(BatchAxes<-1>{}, "rrrK");
  this->template check<4>(BatchAxes<0>{}, "Krrr");
}

TYPED_TEST(LoopNestTest, InstanceAxes) {
  this->template check<3>(InstanceAxes<1>{}, "kKr");
  this->template check<4>(InstanceAxes<1>{}, "kKrr");
  this->template check<5>(InstanceAxes<-1>{}, "krrrK");
}

TYPED_TEST(LoopNestTest, GroupAxesSplitTheChannelsGroupSlower) {
  this->template check_groups<2, GroupAxes<1>>("kKR", 1);
  this->template check_groups<4, GroupAxes<1>>("kKRrr", 1);
  this->template check_groups<4, GroupAxes<-1>>("krrKR", 3);
  this->template check_groups<5, GroupAxes<2>>("krKRrr", 2);
}

TYPED_TEST(LoopNestTest, LayerAxesHaveRowMajorParametersInEitherStorageOrder) {
  this->template check<1>(LayerAxes<1>{}, "R");
  this->template check<2>(LayerAxes<1>{}, "kR");
  this->template check<4>(LayerAxes<2>{}, "kkRR");
  this->template check<4>(LayerAxes<3>{}, "kRRR");
  this->template check<4>(LayerAxes<4>{}, "RRRR");
}

TYPED_TEST(LoopNestTest, ReduceAxes) {
  this->template check<4>(ReduceAxes<0, 2, 3>{}, "rkrr");
  this->template check<4>(ReduceAxes<-2, -1>{}, "kkrr");
  this->template check<4>(ReduceAxes<1, 3>{}, "krkr");
  this->template check<3>(ReduceAxes<>{}, "kkk");
  this->template check<3>(ReduceAxes<0, 1, 2>{}, "rrr");
}

// Any policy of a user's, every axis of any role.
TYPED_TEST(LoopNestTest, RandomRoles) {
  const auto check = [this]<int kRank>() {
    for (int i = 0; i < 40; ++i) {
      std::string letters;
      for (int axis = 0; axis < kRank; ++axis) letters += "kKrR"[this->pick({0, 1, 2, 3})];
      const Layout<kRank> layout = dense<TestFixture::order, kRank>(this->random_shape(kRank), letters);
      expect_nest<TestFixture::order>(layout, RolesOf{letters});
    }
  };
  check.template operator()<1>();
  check.template operator()<2>();
  check.template operator()<3>();
  check.template operator()<4>();
  check.template operator()<6>();
  check.template operator()<8>();
}

// Matrices whose rows or columns stand apart, in x by another pitch than in y.
TYPED_TEST(LoopNestTest, StridedMatrices) {
  constexpr int storage = TestFixture::order;
  for (const std::string letters : {"kR", "rK", "KK", "RR", "rr"}) {
    this->for_shapes(2, [&](const Shape& shape) {
      const auto outer = [&](Index gap) {
        return storage == Eigen::RowMajor ? Shape{shape[1] + gap, 1} : Shape{1, shape[0] + gap};
      };
      for (const std::array<Index, 3> gaps : {std::array<Index, 3>{2, 2, 2}, {0, 3, 3}, {3, 0, 1}, {0, 0, 4}})
        expect_nest<storage>(Layout<2>{shape, letters, {outer(gaps[0]), outer(gaps[1]), outer(gaps[2])}},
                             RolesOf{letters});
    });
  }
}

// Rows of a ColMajor tensor copied one after the other: other memory, the same statistics and parameters.
template <int kLeading, int kRank, class Policy>
void expect_leading_slowest(const Shape& shape, const std::string& letters, const Policy& policy, int split = -1, Index groups = 1) {
  Shape strides(shape.size());
  Index stride = 1;
  for (int i = 0; i < kRank; ++i) {
    const auto axis = static_cast<std::size_t>((i + kLeading) % kRank);
    strides[axis] = stride;
    stride *= shape[axis];
  }
  const Layout<kRank> layout{shape, letters, {strides, strides, strides}, split, groups};
  const LoopNest nest = layout.template nest<false, kLeading>(policy);
  EXPECT_EQ(walked_places(nest), expected_places<Eigen::ColMajor>(layout)) << letters;
}

/// Channels in the middle, split, and a kept axis after them.
struct GroupsInTheMiddle {
  Index groups = 1;
  static constexpr int split_axis(int) { return 1; }
  static constexpr AxisRole role(int axis, int) {
    return axis == 1 ? AxisRole::kept_affine : axis == 2 ? AxisRole::reduced_affine : AxisRole::kept;
  }
};

TEST(LoopNestTest, LeadingAxesMayBeTheSlowest) {
  for (const Index last : {1, 3}) {
    expect_leading_slowest<1, 2>({4, 5}, "kR", LayerAxes<1>{});
    expect_leading_slowest<2, 3>({4, 2, last}, "kkR", LayerAxes<1>{});
    expect_leading_slowest<2, 3>({4, 1, last}, "kkR", LayerAxes<1>{});
    expect_leading_slowest<2, 4>({4, 2, 5, last}, "kkRR", LayerAxes<2>{});
    expect_leading_slowest<2, 4>({4, 2, 5, last}, "kKrr", InstanceAxes<1>{});
    expect_leading_slowest<1, 4>({4, 2, 5, last}, "krrK", InstanceAxes<-1>{});
    expect_leading_slowest<1, 4>({4, 1, 1, last}, "krrK", InstanceAxes<-1>{});
    expect_leading_slowest<1, 4>({4, 2, 5, 2 * last}, "krrKR", GroupAxes<-1>{2}, 3, 2);
    expect_leading_slowest<1, 2>({4, 3 * last}, "kKR", GroupAxes<1>{3}, 1, 3);
    expect_leading_slowest<1, 3>({4, 6, last}, "kKRk", GroupsInTheMiddle{3}, 1, 3);
    expect_leading_slowest<2, 3>({4, 2, last}, "KKr", RolesOf{"KKr"});
    expect_leading_slowest<2, 4>({4, 2, 5, last}, "KkRr", RolesOf{"KkRr"});
  }
}

TEST(LoopNestTest, AnEmptyShapeHasNoElements) {
  const Layout<3> layout = dense<Eigen::RowMajor, 3>({2, 0, 3}, "rKr");
  EXPECT_EQ(layout.nest<true>(BatchAxes<1>{}).size(), 0);
}

TEST(LoopNestTest, IsMadeAtCompileTime) {
  static_assert([] {
    const Extents<4> strides{{60, 20, 5, 1}};
    const LoopNest nest =
        make_loop_nest<4, true>(Extents<4>{{2, 3, 4, 5}}, {{strides, strides, strides}}, BatchAxes<1>{});
    return nest.depth == 3 && nest.statistics == 3 && nest.samples == 40 && nest.params == 3 &&
           nest.loops[nest.depth - 1].extent == 20;
  }());
}

class OdometerTest : public testing::Test {
 protected:
  OdometerTest() {
    list_.push({2, {{100, 1000, 7}}, 3, 0});
    list_.push({3, {{10, 50, 2}}, 0, 5});
    list_.push({4, {{1, 1, 0}}, 1, -2});
  }
  /// Position i by division: the last loop is the fastest.
  Place expected(Index i) const {
    const Index a = i / 12, b = i / 4 % 3, c = i % 4;
    return {100 * a + 10 * b + c, 1000 * a + 50 * b + c, 7 * a + 2 * b, 3 * a + c, 5 * b - 2 * c};
  }
  LoopList list_;
};

/// What reduces_rows() says, against the nests of all shapes of extents 1 to 3: one run of elements behind each statistic, unless it is a
/// single element.
template <bool kRowMajor, int kRank, class Policy>
bool rows_by_all_shapes(const Policy& policy, int split = -1) {
  bool rows = true, reduces_any = false, keeps_any = false;
  int codes = 1;
  for (int axis = 0; axis < kRank; ++axis) codes *= 3;
  for (int code = 0; code < codes; ++code) {
    Extents<kRank> shape{}, strides{};
    for (int axis = 0, rest = code; axis < kRank; ++axis, rest /= 3) shape[axis] = 1 + rest % 3;
    if (split >= 0) shape[split] *= 2;
    Index stride = 1;
    for (int i = 0; i < kRank; ++i) {
      const int axis = kRowMajor ? kRank - 1 - i : i;
      strides[axis] = stride;
      stride *= shape[axis];
    }
    const LoopNest nest = without_params(make_loop_nest<kRank, kRowMajor>(shape, {strides, strides, strides}, policy));
    for (int i = 0; i + 1 < nest.depth; ++i) rows &= !reduces(nest.loops[i]);
    rows &= nest.samples == 1 || reduces(nest.innermost());
    reduces_any |= nest.samples > 1;
    keeps_any |= nest.statistics > 1;
  }
  return rows && reduces_any && keeps_any;
}

/// The first axis split into groups, one part of it reduced, all else kept.
template <bool kGroups>
struct FirstAxisSplit {
  Index groups = 2;
  static constexpr int split_axis(int) { return 0; }
  static constexpr AxisRole role(int axis, int) { return axis == (kGroups ? 0 : 1) ? AxisRole::reduced : AxisRole::kept; }
};

template <int kRank, class Policy>
void expect_rows(const Policy& policy, bool row_major, bool col_major, int split = -1) {
  EXPECT_EQ((reduces_rows<Policy, kRank, true>()), row_major);
  EXPECT_EQ((reduces_rows<Policy, kRank, false>()), col_major);
  EXPECT_EQ((rows_by_all_shapes<true, kRank>(policy, split)), row_major);
  EXPECT_EQ((rows_by_all_shapes<false, kRank>(policy, split)), col_major);
}

TEST(ReducesRows, WhereReducedAxesAreTheFasterOnes) {
  expect_rows<2>(LayerAxes<1>{}, true, false);
  expect_rows<4>(LayerAxes<3>{}, true, false);
  expect_rows<4>(InstanceAxes<1>{}, true, false);
  expect_rows<4>(InstanceAxes<-1>{}, false, false);
  expect_rows<4>(BatchAxes<1>{}, false, false);
  expect_rows<4>(BatchAxes<-1>{}, false, true);
  expect_rows<2>(BatchAxes<0>{}, true, false);
  expect_rows<4>(GroupAxes<1>{2}, true, false, 1);
  expect_rows<2>(GroupAxes<1>{2}, true, false, 1);
  expect_rows<4>(GroupAxes<-1>{2}, false, false, 3);
  expect_rows<3>(ReduceAxes<0>{}, false, true);
  expect_rows<3>(ReduceAxes<1, 2>{}, true, false);
  expect_rows<3>(ReduceAxes<0, 2>{}, false, false);
  expect_rows<2>(FirstAxisSplit<false>{}, false, true, 0);
  expect_rows<2>(FirstAxisSplit<true>{}, false, false, 0);
}

TEST(ReducesRows, NotWhereAllAxesAreReducedOrNone) {
  expect_rows<2>(LayerAxes<2>{}, false, false);
  expect_rows<2>(ReduceAxes<>{}, false, false);
}

TEST(ReducesRows, WhereLeadingAxesAreTheSlowest) {
  EXPECT_TRUE((reduces_rows<LayerAxes<1>, 2, false, 1>()));
  EXPECT_TRUE((reduces_rows<LayerAxes<2>, 4, false, 2>()));
  EXPECT_TRUE((reduces_rows<InstanceAxes<-1>, 4, false, 1>()));
  EXPECT_TRUE((reduces_rows<GroupAxes<-1>, 4, false, 1>()));
  EXPECT_FALSE((reduces_rows<GroupAxes<1>, 4, false, 1>()));
  EXPECT_TRUE((reduces_rows<GroupsInTheMiddle, 3, false, 1>()));
}

TEST(ReducesRows, NotOfRolesThatOnlyTheObjectKnows) {
  EXPECT_FALSE((reduces_rows<RolesOf, 2, true>()));
}

TEST_F(OdometerTest, StartsAnywhere) {
  for (Index i = 0; i < list_.size(); ++i) EXPECT_EQ(place_of(Odometer(list_, i).offsets()), expected(i));
}

TEST_F(OdometerTest, GoesForwardsAndBackwardsAndAround) {
  Odometer forwards(list_, 5), backwards(list_, 5);
  for (Index i = 1; i <= 60; ++i) {
    forwards.next();
    backwards.previous();
    EXPECT_EQ(place_of(forwards.offsets()), expected((5 + i) % 24)) << i;
    EXPECT_EQ(place_of(backwards.offsets()), expected((5 + 72 - i) % 24)) << i;
  }
}

TEST_F(OdometerTest, EveryPositionIsVisitedInEitherOrder) {
  Offsets start;
  start.param = 1000;
  for (int depth = 0; depth <= list_.depth; ++depth) {
    LoopList inner;
    for (int i = list_.depth - depth; i < list_.depth; ++i) inner.push(list_.loops[i]);
    Places visited, backwards;
    for_each_position<false>(inner, start, [&](const Offsets& at) { visited.push_back(place_of(at)); });
    for_each_position<true>(inner, start, [&](const Offsets& at) { backwards.push_back(place_of(at)); });
    ASSERT_EQ(Index(visited.size()), inner.size());
    for (Index i = 0; i < inner.size(); ++i) {
      Place place = expected(i);
      place.back() += 1000;
      EXPECT_EQ(visited[std::size_t(i)], place);
    }
    std::reverse(backwards.begin(), backwards.end());
    EXPECT_EQ(backwards, visited);
  }
}

TEST_F(OdometerTest, OfNoLoopStandsAtTheOrigin) {
  const LoopList none;
  EXPECT_EQ(none.size(), 1);
  Odometer at(none);
  at.next();
  at.previous();
  EXPECT_EQ(place_of(at.offsets()), Place{});
}

TEST(OffsetsTest, AddUp) {
  const Offsets a{{{1, 2, 3}}, 4, 5}, b{{{10, 20, 30}}, 40, 50};
  EXPECT_EQ(place_of(a + b), (Place{11, 22, 33, 44, 55}));
}

}  // namespace
}  // namespace tensornorm
