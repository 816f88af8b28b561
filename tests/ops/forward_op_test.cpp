// SPDX-License-Identifier: MIT
// Every walk against the naive reference, on shapes that reach it: rows in one chunk and several, columns in wide rows
// with a part of one left over, strips that do not divide the columns, two passes, given statistics; weight and bias
// along whatever axis.
#include <gtest/gtest.h>

#include <tensornorm/ops/normalize.hpp>
#include <tensornorm/tensornorm.hpp>

#include <cmath>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/nests.hpp"
#include "support/reference.hpp"

namespace tensornorm {
namespace {

using support::kLetters;
using support::RolesOf;
using support::Shape;

struct Case {
  const char* name;
  std::string letters;
  Shape shape;
  Walk walk;
  bool strips = false, wide_rows = false;
  Index groups = 0;  ///< axis 1 is split into these, and has two letters
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name << ' ' << c.letters << testing::PrintToString(c.shape);
}

/// Rows of floats: 512 KiB of cache are 131072 of them; strips are of 384 to 1024 columns.
std::vector<Case> row_major_cases() {
  return {
      {"LayerNorm", "kR", {3, 768}, Walk::row},
      {"LayerNorm of few", "kR", {5, 3}, Walk::row},
      {"LayerNorm, three chunks", "kR", {2, 9001}, Walk::row},
      {"LayerNorm of two axes", "kkRR", {2, 3, 9, 11}, Walk::row},
      {"LayerNorm, weight along one of its axes", "krR", {4, 7, 50}, Walk::row},
      {"LayerNorm, weight along the other", "kRr", {4, 7, 50}, Walk::row},
      {"InstanceNorm", "kKrr", {2, 3, 13, 11}, Walk::row},
      {"InstanceNorm of few", "kKr", {2, 3, 5}, Walk::row},
      {"GroupNorm", "kKRrr", {2, 6, 7, 9}, Walk::row, false, false, 3},
      {"GroupNorm of (N, C)", "kKR", {4, 12}, Walk::row, false, false, 4},
      {"GroupNorm, many runs of a few elements", "kKRr", {2, 2 * 133, 33}, Walk::row, false, false, 2},
      {"GroupNorm, many runs of less than a vector", "kKRr", {2, 2 * 70, 12}, Walk::row, false, false, 2},
      {"GroupNorm, many runs", "kKRr", {2, 2 * 70, 83}, Walk::row, false, false, 2},
      {"all of it", "rrr", {7, 9, 11}, Walk::row},
      {"BatchNorm, long slices", "rKrr", {3, 2, 32, 33}, Walk::row},
      {"BatchNorm, slices of two chunks", "rKr", {2, 2, 5000}, Walk::row},
      {"BatchNorm, short slices", "rKrr", {10, 20, 7, 7}, Walk::column},
      {"BatchNorm, many slices", "rKr", {66, 2, 601}, Walk::row},
      {"a weight for each slice", "RKr", {9, 2, 1030}, Walk::row},
      {"BatchNorm, few short slices", "rKrr", {4, 20, 7, 7}, Walk::row},
      {"BatchNorm, short slices in strips", "rKrr", {32, 96, 7, 7}, Walk::column, true},
      {"BatchNorm, short slices, one channel", "rKr", {50, 1, 7}, Walk::row},
      {"BatchNorm of (N, C), a wide row", "rK", {1000, 3}, Walk::column, false, true},
      {"BatchNorm of (N, C), a part of a wide row left", "rK", {687, 3}, Walk::column, false, true},
      {"BatchNorm of (N, C), few rows", "rK", {2, 5}, Walk::column, false, true},
      {"BatchNorm of (N, C), two passes", "rK", {1500, 130}, Walk::column, false, true},
      {"BatchNorm of (N, C), wide, two passes", "rK", {400, 600}, Walk::column},
      {"BatchNorm of (N, C), in strips", "rK", {200, 900}, Walk::column, true},
      {"BatchNorm, channels last", "rrrK", {3, 5, 7, 20}, Walk::column, false, true},
      {"PONO", "kRkk", {2, 5, 6, 7}, Walk::column},
      {"PONO, a part of a wide row left", "kRkk", {2, 143, 6, 7}, Walk::column, false, true},
      {"PONO, weight along the columns too", "kRKk", {2, 143, 6, 7}, Walk::column, false, true},
      {"every role", "KrkR", {4, 5, 3, 6}, Walk::column, false, true},
      {"every role in another order", "RkrK", {143, 5, 3, 6}, Walk::column, false, true},
      {"rows with weight and bias, wide", "RK", {700, 5}, Walk::column, false, true},
      {"rows with weight and bias, in strips", "Rk", {300, 600}, Walk::column, true},
      {"reduced ones around", "rkRkr", {195, 4, 5, 2, 3}, Walk::column, false, true},
  };
}

std::vector<Case> col_major_cases() {
  return {
      {"LayerNorm", "kR", {300, 40}, Walk::column},
      {"LayerNorm, a part of a wide row left", "kR", {300, 203}, Walk::column, false, true},
      {"LayerNorm, short runs of one weight each", "kR", {19, 515}, Walk::column, false, true},
      {"LayerNorm, wide", "kR", {700, 40}, Walk::column},
      {"LayerNorm, in strips", "kR", {1100, 200}, Walk::column, true},
      {"LayerNorm of one row", "kR", {1, 768}, Walk::row},
      {"LayerNorm of three axes", "kRRR", {5, 4, 3, 7}, Walk::column, false, true},
      {"LayerNorm, weight along one of its axes", "krR", {6, 7, 50}, Walk::column, false, true},
      {"LayerNorm, weight along the other", "kRr", {6, 7, 50}, Walk::column, false, true},
      {"LayerNorm, met again by few", "kRr", {6, 70, 3}, Walk::column, false, true},
      {"InstanceNorm", "kKrr", {2, 3, 13, 11}, Walk::column, false, true},
      {"GroupNorm", "kKRrr", {2, 6, 7, 9}, Walk::column, false, true, 3},
      {"GroupNorm of (N, C)", "kKR", {4, 12}, Walk::column, false, true, 4},
      {"BatchNorm", "rKrr", {5, 20, 13, 10}, Walk::column, false, true},
      {"BatchNorm, images innermost, in strips", "rKrr", {32, 100, 7, 7}, Walk::column, true},
      {"BatchNorm of (N, C)", "rK", {768, 5}, Walk::row},
      {"BatchNorm, channels last", "rrrK", {3, 5, 7, 20}, Walk::row},
      {"every role", "KrkR", {4, 5, 3, 143}, Walk::column, false, true},
      {"every role in another order", "RkrK", {4, 5, 3, 6}, Walk::column, false, true},
  };
}

template <class Kind>
class ForwardOpTest : public testing::Test {
 protected:
  using Scalar = typename Kind::Scalar;
  static constexpr bool row_major = Kind::order == Eigen::RowMajor;

  static std::vector<Case> cases() { return row_major ? row_major_cases() : col_major_cases(); }

  static reference::Norm norm_of(const Case& c) {
    reference::Norm norm;
    norm.shape = c.shape;
    if (c.groups > 0) {
      norm.shape[1] /= c.groups;
      norm.shape.insert(norm.shape.begin() + 1, c.groups);
    }
    for (const char letter : c.letters)
      norm.roles.push_back(static_cast<reference::Role>(std::string(kLetters).find(letter)));
    return norm;
  }
  /// The parameters of a case; with or without weight and bias, whatever the letters.
  struct Affine {
    std::vector<Scalar> weight, bias;
    Parameters<Scalar> pointers() const {
      return {weight.empty() ? nullptr : weight.data(), bias.empty() ? nullptr : bias.data()};
    }
  };
  static Affine affine_of(const reference::Norm& norm, bool weight, bool bias) {
    Affine affine;
    if (weight) affine.weight = support::random_values<Scalar>(norm.parameters(), 3, 1.0, 0.5);
    if (bias) affine.bias = support::random_values<Scalar>(norm.parameters(), 4, 0.0, 1.0);
    return affine;
  }
  /// f(policy, x, y): views of tensors of the case's rank.
  template <class F>
  static void with_tensors(const Case& c, const std::vector<Scalar>& values, F f) {
    support::with_rank<2, 3, 4, 5>(c.shape.size(), [&]<int kRank>() {
      using Tensor = typename Kind::template Tensor<kRank>;
      const auto x = support::tensor_of<Tensor>(c.shape, values);
      auto y = support::sized<Tensor>(c.shape);
      if (c.groups > 0)
        f(GroupAxes<1>{c.groups}, x, y);
      else
        f(RolesOf{c.letters}, x, y);
    });
  }
  static NormalizeContext<Scalar> context_of(const Affine& affine) {
    return {{"test", "forward"}, {}, affine.pointers()};
  }

  /// The mean of up to 1e4 numbers, the deviations and y are a few roundings each; relative to the largest y.
  static constexpr double kUlps = std::is_same_v<Scalar, float> ? 4 : 12;
  static void expect_near(const std::vector<Scalar>& actual, const std::vector<reference::Real>& expected) {
    EXPECT_TRUE(support::all_near(actual, expected, support::ulps<Scalar>(kUlps, support::largest(expected))));
  }
  /// Statistics lie in x's storage order.
  static Index storage_position(const reference::Norm& norm, Index flat) {
    const Shape kept = norm.statistic_shape();
    return support::storage_index<Kind::order>(support::coordinates(flat, kept), kept);
  }
};
TYPED_TEST_SUITE(ForwardOpTest, support::Kinds, support::KindNames);

TYPED_TEST(ForwardOpTest, TheShapesReachTheirWalks) {
  if (std::is_same_v<typename TypeParam::Scalar, double>) return;  // the thresholds are in bytes
  for (const Case& c : this->cases()) {
    SCOPED_TRACE(testing::PrintToString(c));
    this->with_tensors(c, std::vector<typename TypeParam::Scalar>(static_cast<std::size_t>(support::size_of(c.shape))),
                       [&](const auto& policy, const auto& x, const auto&) {
                         const auto in = view_of(x);
                         const LoopNest nest = make_loop_nest<rank_of<decltype(x)>, TestFixture::row_major>(in.shape, {in.stride, in.stride, in.stride}, policy);
                         const LoopNest merged = without_params(nest);
                         EXPECT_EQ(choose_walk(merged, 0, sizeof(float), true), c.walk);
                         if (c.walk == Walk::row) return;
                         const HeldLines held = HeldLines::of<float, double>(kernels::kHeldMomentLines);
                         const ColumnWalk walk = make_column_walk(nest, merged, {.bytes = sizeof(float), .held = held});
                         EXPECT_EQ(walk.strips > 1, c.strips);
                         EXPECT_EQ(reduces(walk.columns.loops[0]), c.wide_rows);
                       });
  }
}

TYPED_TEST(ForwardOpTest, EveryWalkIsTheReference) {
  using S = typename TypeParam::Scalar;
  for (const Case& c : this->cases()) {
    SCOPED_TRACE(testing::PrintToString(c));
    const auto norm = this->norm_of(c);
    const auto values = support::random_values<S>(support::size_of(c.shape), 1, 3, 2);
    const auto statistics = reference::moments(norm, reference::real(values));
    for (const bool weight : {true, false})
      for (const bool bias : {weight, !weight}) {
        const auto affine = this->affine_of(norm, weight, bias);
        const auto expected = reference::forward(norm, reference::real(values), reference::real(affine.weight),
                                                 reference::real(affine.bias), statistics);
        support::at_each_level([&](kernels::Level) {
          this->with_tensors(c, values, [&](const auto& policy, const auto& x, auto& y) {
            SavedStats<S> saved;
            normalize_by_batch<TestFixture::row_major>(this->context_of(affine), policy, view_of(x), view_of(y), nullptr, &saved,
                                                       static_cast<RunningStats<S>*>(nullptr), Eigen::DefaultDevice());
            this->expect_near(support::logical(y), expected);
            ASSERT_EQ(saved.size(), norm.statistics());
            for (Index flat = 0; flat < saved.size(); ++flat) {
              const Index at = this->storage_position(norm, flat);
              const auto k = static_cast<std::size_t>(flat);
              const reference::Real deviation = std::sqrt(statistics.variance[k]);
              // A sum of deviations for the mean, half the variance's 4 ulp and an ulp for rstd.
              ASSERT_NEAR(double(saved.mean()(at)), double(statistics.mean[k]),
                          double(support::ulps<S>(4, deviation + 1)));
              ASSERT_NEAR(double(saved.rstd()(at) / reference::factor(norm, statistics.variance[k]).value), 1,
                          double(support::ulps<S>(4, 1)));
            }
          });
        });
      }
  }
}

// Statistics that are no statistics of x: a walk that ignored them would be found out.
TYPED_TEST(ForwardOpTest, GivenStatisticsAreUsed) {
  using S = typename TypeParam::Scalar;
  for (const Case& c : this->cases()) {
    SCOPED_TRACE(testing::PrintToString(c));
    const auto norm = this->norm_of(c);
    const auto values = support::random_values<S>(support::size_of(c.shape), 1, 3, 2);
    const auto means = support::random_values<S>(norm.statistics(), 5, 1, 1);
    auto variances = support::random_values<S>(norm.statistics(), 6, 3, 0.5);
    auto mean = means, variance = variances;
    for (Index flat = 0; flat < norm.statistics(); ++flat) {
      const auto at = static_cast<std::size_t>(this->storage_position(norm, flat)), k = static_cast<std::size_t>(flat);
      mean[at] = means[k];
      variance[at] = variances[k];
    }
    const auto affine = this->affine_of(norm, true, true);
    reference::Statistics given = reference::moments(norm, reference::real(values));
    given.mean_lo.assign(means.size(), 0);
    given.mean = reference::real(means);
    given.variance = reference::real(variances);
    const auto expected = reference::forward(norm, reference::real(values), reference::real(affine.weight),
                                             reference::real(affine.bias), given);
    support::at_each_level([&](kernels::Level) {
      this->with_tensors(c, values, [&](const auto& policy, const auto& x, auto& y) {
        normalize_by_given<TestFixture::row_major>(this->context_of(affine), policy, view_of(x), view_of(y),
                                                   mean.data(), variance.data(), static_cast<SavedStats<S>*>(nullptr),
                                                   Eigen::DefaultDevice());
        this->expect_near(support::logical(y), expected);
      });
    });
  }
}

// One element far away makes its statistic's pivot bad; the redo touches no bit of any other.
TYPED_TEST(ForwardOpTest, ABadPivotIsItsOwnStatisticsAffair) {
  using S = typename TypeParam::Scalar;
  for (const Case& c : this->cases()) {
    SCOPED_TRACE(testing::PrintToString(c));
    const auto norm = this->norm_of(c);
    auto values = support::random_values<S>(support::size_of(c.shape), 1, 3, 2);
    const auto run = [&](std::vector<S>& y_values) {
      this->with_tensors(c, values, [&](const auto& policy, const auto& x, auto& y) {
        normalize_by_batch<TestFixture::row_major>(this->context_of({}), policy, view_of(x), view_of(y), nullptr,
                                                   static_cast<SavedStats<S>*>(nullptr), nullptr,
                                                   Eigen::DefaultDevice());
        y_values = support::logical(y);
      });
    };
    std::vector<S> before, after;
    run(before);
    const std::size_t spoiled = norm.statistic(0);
    values[0] = S(1e5);  // among the samples of the pivot: it comes out at thousands, the others at 3
    run(after);
    this->expect_near(after, reference::forward(norm, reference::real(values), {}, {},
                                                reference::moments(norm, reference::real(values))));
    std::vector<S> others_before, others_after;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (norm.statistic(i) == spoiled) continue;
      others_before.push_back(before[i]);
      others_after.push_back(after[i]);
    }
    EXPECT_TRUE(support::same_bits(others_after, others_before));
  }
}

TYPED_TEST(ForwardOpTest, TheSameBitsOnEveryInstructionSetWithFma) {
  using S = typename TypeParam::Scalar;
  for (const Case& c : this->cases()) {
    SCOPED_TRACE(testing::PrintToString(c));
    const auto norm = this->norm_of(c);
    const auto values = support::random_values<S>(support::size_of(c.shape), 1, 3, 2);
    const auto affine = this->affine_of(norm, true, true);
    std::vector<S> first;
    support::at_each_level([&](kernels::Level level) {
      if (!support::has_fma(level)) return;
      this->with_tensors(c, values, [&](const auto& policy, const auto& x, auto& y) {
        normalize_by_batch<TestFixture::row_major>(this->context_of(affine), policy, view_of(x), view_of(y), nullptr,
                                                   static_cast<SavedStats<S>*>(nullptr), nullptr,
                                                   Eigen::DefaultDevice());
        if (first.empty()) first = support::logical(y);
        EXPECT_TRUE(support::same_bits(support::logical(y), first));
      });
    });
  }
}

/// Where loads of an array do not wait for the stores of the row it lies beside.
template <class A, class T>
void expect_beside_rows() {
  alignas(64) static A room[std::size_t(kernels::kPageElements<A> + 2 * kernels::kLine<A>)];
  alignas(64) static T y[8192 / sizeof(T)];
  for (Index offset = 0; offset < Index(4096 / sizeof(T)); ++offset) {
    A* beside[6];
    for (A*& array : beside) array = room;
    kernels::place_beside(y + offset, {&beside[0], &beside[1], &beside[2], &beside[3], &beside[4], &beside[5]});
    const auto line = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) / 64; };
    for (std::size_t i = 0; i < 6; ++i) {
      EXPECT_GE(beside[i], room) << offset;
      EXPECT_LE(beside[i] - room, kernels::kPageElements<A>) << offset;
      EXPECT_EQ((line(beside[i]) - line(y + offset)) % 64, 8 * (i + 1)) << offset;
      EXPECT_EQ(kernels::elements_past_line(beside[i]), kernels::elements_past_line(y + offset) % kernels::kLine<A>) << offset;
    }
  }
}

TEST(ColumnChoice, IsTheLinesWithAMarkUnlessTheseAreMost) {
  const Index line = kernels::kLine<float>, width = 7 * line + 3;
  using Runs = std::vector<std::pair<Index, Index>>;
  const auto runs = [&](std::initializer_list<Index> marked) {
    std::vector<float> marks(std::size_t(width + line), 0.0f);
    for (const Index c : marked) marks[std::size_t(c)] = 1;
    Runs result;
    kernels::ColumnChoice<float>::by_marks(marks.data(), width).for_each_run([&](Index from, Index to) { result.emplace_back(from, to); });
    return result;
  };
  EXPECT_EQ(runs({0}), (Runs{{0, line}}));
  EXPECT_EQ(runs({line - 1, line, 5 * line + 2}), (Runs{{0, 2 * line}, {5 * line, 6 * line}}));
  EXPECT_EQ(runs({width - 1}), (Runs{{7 * line, width}}));
  EXPECT_EQ(runs({6 * line, width - 3}), (Runs{{6 * line, width}}));
  EXPECT_EQ(runs({0, 2 * line, 3 * line}), (Runs{{0, line}, {2 * line, 4 * line}}));
  EXPECT_EQ(runs({0, 2 * line, 3 * line, 5 * line}), (Runs{{0, width}}));  // 64 of 115
}

TEST(BesideRow, IsALittleAfterItAndAlignedWhereItIs) {
  expect_beside_rows<float, float>();
  expect_beside_rows<double, double>();
  expect_beside_rows<float, Eigen::half>();
}

}  // namespace
}  // namespace tensornorm
