// SPDX-License-Identifier: MIT
// What must hold between layers, storage orders, ways to call and instruction sets. "The same bits" means just that.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include "support/compare.hpp"
#include "support/dispatch_level.hpp"
#include "support/logical.hpp"
#include "support/subjects.hpp"

namespace {

using namespace support;

/// Of two results that are each within the forward bound of normalization_test of the truth.
template <class Scalar>
constexpr double kTwiceForwardUlps = std::is_same_v<Scalar, float> ? 4 : 8;

template <class Kind>
class Laws : public testing::Test {
 protected:
  using S = typename Kind::Scalar;
  using T = typename Kind::template Tensor<4>;
  static constexpr Index lanes = 64 / sizeof(S);

  T images(const Shape& shape, unsigned seed = 1) const {
    return tensor_of<T>(shape, random_values<S>(size_of(shape), seed));
  }
  /// f(subject) for all layers at a few pairs of channels and lengths: row and column kernels, whole vectors and tails.
  template <class F>
  void for_each_subject(F f) {
    for (const auto& [c, l] : {std::pair<Index, Index>{3, 5}, {lanes, 2 * lanes + 1}, {3 * lanes - 1, 7}, {2, 700}}) {
      for (const auto& subject : all_subjects<Kind>(c, l)) {
        SCOPED_TRACE(subject->name + " " + testing::PrintToString(subject->shape));
        subject->random_parameters(5);
        f(*subject);
      }
    }
  }
};
TYPED_TEST_SUITE(Laws, Kinds, KindNames);

TYPED_TEST(Laws, InPlaceIsOutOfPlace) {
  this->for_each_subject([](auto& subject) {
    const auto x = subject.random_x(1);
    EXPECT_TRUE(same_bits(subject.forward_in_place(x), subject.forward(x)));
  });
}

TYPED_TEST(Laws, TheSameCallTwiceGivesTheSameBits) {
  this->for_each_subject([](auto& subject) {
    const auto x = subject.random_x(1);
    EXPECT_TRUE(same_bits(subject.forward(x), subject.forward(x)));
  });
}

// Where statistics do not span the batch, an example's result does not depend on who stands beside it. RowMajor: the
// same bits. ColMajor has the batch innermost, so that its extent decides how rows are taken together and, where it is
// 1, that an example lies contiguous: the sums are then added up in another order, to rounding.
TYPED_TEST(Laws, AnExampleIsTheSameWhoeverStandsBesideIt) {
  using Scalar = typename TypeParam::Scalar;
  this->for_each_subject([](auto& subject) {
    if (subject.norm.roles[0] != reference::Role::kept) return;
    const auto size = subject.norm.size() / subject.shape[0];
    Shape shape = subject.shape;
    shape[0] = 5;
    const auto x = random_values<Scalar>(5 * size, 1);
    const auto y = subject.forward(x, shape);
    for (const auto& [first, count] : {std::pair<Index, Index>{0, 2}, {3, 2}, {1, 3}, {1, 4}, {0, 1}, {4, 1}}) {
      shape[0] = count;
      const auto cut = [&, from = first * size, to = (first + count) * size](const std::vector<Scalar>& all) {
        return std::vector<Scalar>(all.begin() + from, all.begin() + to);
      };
      const auto part = subject.forward(cut(x), shape);
      if (TypeParam::order == Eigen::ColMajor) {
        EXPECT_TRUE(all_near(part, cut(y), ulps<Scalar>(kTwiceForwardUlps<Scalar>, largest(y))));
      } else {
        EXPECT_TRUE(same_bits(part, cut(y))) << "examples " << first << " to " << first + count;
      }
    }
  });
}

// One list of subjects per storage order, the same data.
TYPED_TEST(Laws, RowMajorIsColMajor) {
  using Scalar = typename TypeParam::Scalar;
  for (const auto& [c, l] : {std::pair<Index, Index>{3, 5}, {33, 67}}) {
    const auto rows = all_subjects<Kind<Scalar, Eigen::RowMajor>>(c, l);
    const auto columns = all_subjects<Kind<Scalar, Eigen::ColMajor>>(c, l);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      SCOPED_TRACE(rows[i]->name);
      rows[i]->random_parameters(5);
      columns[i]->random_parameters(5);
      const auto x = rows[i]->random_x(1);
      const auto y = rows[i]->forward(x);
      EXPECT_TRUE(all_near(columns[i]->forward(x), y, ulps<Scalar>(kTwiceForwardUlps<Scalar>, largest(y))));
    }
  }
}

TYPED_TEST(Laws, OneGroupHasTheStatisticsOfLayerNorm) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  const Images x = this->images({3, 6, 5, 7});
  Images y(x.dimensions()), z(x.dimensions());
  tn::SavedStats<Scalar> group, layer;
  tn::GroupNorm<Scalar>(1, 6).forward(x, y, group);
  tn::LayerNorm<Scalar, 3>({6, 5, 7}, {.elementwise_affine = false}).forward(x, z, layer);
  ASSERT_EQ(group.size(), 3);
  ASSERT_EQ(layer.size(), 3);
  // A parameter per channel cuts the walk over an example, so its sums may be added up in another order.
  const auto doubles = [](const auto& values) {
    return std::vector<double>(values.data(), values.data() + values.size());
  };
  const auto near = [&](const auto& actual, const auto& expected, long double scale) {
    EXPECT_TRUE(all_near(doubles(actual), doubles(expected), ulps<Scalar>(kTwiceForwardUlps<Scalar>, scale)));
  };
  near(group.mean(), layer.mean(), largest(logical(x)));
  near(group.rstd(), layer.rstd(), largest(doubles(layer.rstd())));
  EXPECT_TRUE(all_near(logical(y), logical(z), ulps<Scalar>(kTwiceForwardUlps<Scalar>, largest(logical(z)))));
}

TYPED_TEST(Laws, AGroupPerChannelIsInstanceNorm) {
  using Scalar = typename TypeParam::Scalar;
  tn::GroupNorm<Scalar> group(6, 6);
  tn::InstanceNorm2d<Scalar> instance(6, {.affine = true});
  const auto weight = random_values<Scalar>(6, 2), bias = random_values<Scalar>(6, 3);
  set_parameters(group, weight, bias);
  set_parameters(instance, weight, bias);
  const auto x = this->images({3, 6, 5, 7});
  EXPECT_TRUE(same_bits(logical(group(x)), logical(instance(x))));
}

TYPED_TEST(Laws, ChannelsLastIsChannelsFirstOfThePermutedTensor) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  const Images x = this->images({3, 6, 5, 7});
  const Eigen::array<int, 4> to_last{0, 2, 3, 1}, to_first{0, 3, 1, 2};
  const Images last = x.shuffle(to_last);
  const auto expect = [&](auto first_layer, auto last_layer) {
    const auto weight = random_values<Scalar>(6, 2), bias = random_values<Scalar>(6, 3);
    set_parameters(first_layer, weight, bias);
    set_parameters(last_layer, weight, bias);
    const auto y = logical(first_layer(x));
    const Images back = last_layer(last).shuffle(to_first);
    EXPECT_TRUE(all_near(logical(back), y, ulps<Scalar>(kTwiceForwardUlps<Scalar>, largest(y))));
  };
  expect(tn::BatchNorm2d<Scalar>(6), tn::BatchNorm2d<Scalar, tn::BatchAxes<-1>>(6));
  expect(tn::InstanceNorm2d<Scalar>(6, {.affine = true}),
         tn::InstanceNorm2d<Scalar, tn::InstanceAxes<-1>>(6, {.affine = true}));
  expect(tn::GroupNorm<Scalar>(2, 6), tn::GroupNorm<Scalar, tn::GroupAxes<-1>>(2, 6));
}

TYPED_TEST(Laws, EvalBatchNormIsItsAffineForm) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  tn::BatchNorm2d<Scalar> layer(4);
  set_parameters(layer, random_values<Scalar>(4, 2), random_values<Scalar>(4, 3));
  layer(this->images({3, 4, 5, 7}, 1));
  layer.eval();
  const Images x = this->images({3, 4, 5, 7}, 2);
  const Images y = layer(x);
  std::vector<long double> expected;
  for (Index i = 0; i < x.size(); ++i) {
    const Shape at = coordinates(i, {3, 4, 5, 7});
    const Index c = at[1];
    const long double slope = layer.weight()(c) / std::sqrt(static_cast<long double>(layer.running_var()(c)) + 1e-5);
    expected.push_back(coefficient(x, at) * slope + (layer.bias()(c) - layer.running_mean()(c) * slope));
  }
  // x - mean, the slope, their product and the sum are rounded once each.
  EXPECT_TRUE(all_near(logical(y), expected, ulps<Scalar>(3, largest(expected))));
}

TYPED_TEST(Laws, WeightAndBiasOfTheStatisticsRestoreTheInput) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  const Images x = this->images({3, 6, 5, 7});
  Images y(x.dimensions());
  tn::BatchNorm2d<Scalar> layer(6);
  tn::SavedStats<Scalar> saved;
  layer.forward(x, y, saved);
  for (Index c = 0; c < 6; ++c) {
    layer.weight()(c) = static_cast<Scalar>(1 / saved.rstd()(c));
    layer.bias()(c) = static_cast<Scalar>(saved.mean()(c));
  }
  EXPECT_TRUE(all_near(logical(layer(x)), logical(x), ulps<Scalar>(2, largest(logical(x)))));  // both rounded to Scalar
}

TYPED_TEST(Laws, TheSameBitsForEveryInstructionSetWithFma) {
  using tn::kernels::Level;
  if (AtLevel(Level::avx512).forced != Level::avx512) GTEST_SKIP() << "this processor has one level with FMA or none";
  this->for_each_subject([](auto& subject) {
    for (const double mean : {0.5, 1e4}) {
      const auto x = subject.random_x(1, mean);
      const auto at = [&](Level level) {
        const AtLevel forced(level);
        return subject.forward_saved(x);
      };
      const auto widest = at(Level::avx512), narrower = at(Level::avx2);
      EXPECT_TRUE(same_bits(narrower.y, widest.y));
      EXPECT_TRUE(same_bits(narrower.mean, widest.mean));
      EXPECT_TRUE(same_bits(narrower.rstd, widest.rstd));
    }
  });
}

// Without FMA the last bits may differ.
TYPED_TEST(Laws, TheBaselineAgreesToRounding) {
  using Scalar = typename TypeParam::Scalar;
  this->for_each_subject([](auto& subject) {
    const auto x = subject.random_x(1);
    const auto widest = subject.forward(x);
    const AtLevel forced(tn::kernels::Level::baseline);
    EXPECT_TRUE(all_near(subject.forward(x), widest, ulps<Scalar>(kTwiceForwardUlps<Scalar>, largest(widest))));
  });
}

}  // namespace
