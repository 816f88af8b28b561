// SPDX-License-Identifier: MIT
// The functional forms are the layers, bit by bit, whatever holds the parameters; what the layers compute is judged
// elsewhere.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::logical;
using support::same_bits;

template <class Kind>
class Functional : public testing::Test {
 protected:
  using Scalar = typename Kind::Scalar;
  template <int kRank>
  using Tensor = typename Kind::template Tensor<kRank>;

  static constexpr Index kChannels = 6;
  const Tensor<4> x_ = support::tensor_of<Tensor<4>>({3, kChannels, 5, 4}, support::random_values<Scalar>(360, 1));
  Tensor<4> y_ = support::sized<Tensor<4>>({3, kChannels, 5, 4});

  template <class Layer>
  static Layer randomized(Layer layer, bool with_bias = true) {
    const auto fill = [](auto& tensor, unsigned seed) {
      const auto values = support::random_values<Scalar>(tensor.size(), seed);
      std::copy(values.begin(), values.end(), tensor.data());
    };
    fill(layer.weight(), 2);
    if (with_bias) fill(layer.bias(), 3);
    return layer;
  }
  /// call(y) writes what the layer computes.
  template <class Layer, class F>
  void expect_same(const Layer& layer, F call) {
    y_.setConstant(Scalar(-12345));
    call();
    EXPECT_TRUE(same_bits(logical(y_), logical(layer.infer(x_))));
  }
  /// The same for a form that fills saved statistics.
  template <class Layer, class F>
  void expect_same_saved(Layer layer, F call) {
    tn::SavedStats<Scalar> expected, saved;
    auto y = y_;
    layer.forward(x_, y, expected);
    y_.setConstant(Scalar(-12345));
    call(saved);
    EXPECT_TRUE(same_bits(logical(y_), logical(y)));
    EXPECT_TRUE(same_bits(logical(saved.mean()), logical(expected.mean())));
    EXPECT_TRUE(same_bits(logical(saved.rstd()), logical(expected.rstd())));
    EXPECT_TRUE(
        std::equal(saved.shape().begin(), saved.shape().end(), expected.shape().begin(), expected.shape().end()));
  }
};
TYPED_TEST_SUITE(Functional, support::Kinds, support::KindNames);

TYPED_TEST(Functional, LayerNormOfOneToThreeAxes) {
  using S = typename TypeParam::Scalar;
  const auto check = [this](const auto& layer) {
    this->expect_same(layer, [&] { tn::layer_norm(this->x_, this->y_, layer.weight(), layer.bias()); });
    this->expect_same_saved(
        layer, [&](auto& saved) { tn::layer_norm(this->x_, this->y_, saved, layer.weight(), layer.bias()); });
  };
  check(this->randomized(tn::LayerNorm<S>(4)));
  check(this->randomized(tn::LayerNorm<S, 2>(tn::Extents<2>{{5, 4}})));
  check(this->randomized(tn::LayerNorm<S, 3>(tn::Extents<3>{{6, 5, 4}})));
}

TYPED_TEST(Functional, LayerNormWithoutWeightOrBias) {
  using S = typename TypeParam::Scalar;
  auto layer = this->randomized(tn::LayerNorm<S, 2>(tn::Extents<2>{{5, 4}}));
  const auto weight = layer.weight(), bias = layer.bias();
  layer.weight().setConstant(S(1));
  this->expect_same(layer, [&] { tn::layer_norm(this->x_, this->y_, tn::none, bias); });
  layer.bias().setZero();
  this->expect_same(layer, [&] { tn::layer_norm<2>(this->x_, this->y_, tn::none, tn::none); });
  layer.weight() = weight;
  this->expect_same(layer, [&] { tn::layer_norm(this->x_, this->y_, weight); });
  this->expect_same(tn::LayerNorm<S>(4, {.elementwise_affine = false}),
                    [&] { tn::layer_norm(this->x_, this->y_); });
}

TYPED_TEST(Functional, LayerNormsOptions) {
  using S = typename TypeParam::Scalar;
  for (const auto variance : {tn::VarianceEstimator::biased, tn::VarianceEstimator::unbiased})
    for (const auto eps_added_to : {tn::EpsAddedTo::variance, tn::EpsAddedTo::deviation}) {
      const auto layer =
          this->randomized(tn::LayerNorm<S>(4, {.eps = 0.25, .variance = variance, .eps_added_to = eps_added_to}));
      this->expect_same(layer, [&] {
        tn::layer_norm(this->x_, this->y_, layer.weight(), layer.bias(),
                       {.eps = 0.25, .variance = variance, .eps_added_to = eps_added_to}, Eigen::DefaultDevice());
      });
    }
}

TYPED_TEST(Functional, RmsNorm) {
  using S = typename TypeParam::Scalar;
  const auto one = this->randomized(tn::RMSNorm<S>(4), false);
  this->expect_same(one, [&] { tn::rms_norm(this->x_, this->y_, one.weight()); });
  const auto three = this->randomized(tn::RMSNorm<S, 3>(tn::Extents<3>{{6, 5, 4}}, {.eps = 0.5}), false);
  this->expect_same(three, [&] { tn::rms_norm(this->x_, this->y_, three.weight(), {.eps = 0.5}); });
  this->expect_same_saved(three,
                          [&](auto& saved) { tn::rms_norm(this->x_, this->y_, saved, three.weight(), {.eps = 0.5}); });
  const tn::RMSNorm<S, 2> plain(tn::Extents<2>{{5, 4}}, {.elementwise_affine = false});
  this->expect_same(plain, [&] { tn::rms_norm<2>(this->x_, this->y_); });
}

TYPED_TEST(Functional, GroupNorm) {
  using S = typename TypeParam::Scalar;
  for (const Index groups : {1, 2, 3, 6}) {
    const auto layer = this->randomized(tn::GroupNorm<S>(groups, this->kChannels, {.eps = 1e-3}));
    this->expect_same(layer,
                      [&] { tn::group_norm(this->x_, this->y_, groups, layer.weight(), layer.bias(), {.eps = 1e-3}); });
    this->expect_same_saved(layer, [&](auto& saved) {
      tn::group_norm(this->x_, this->y_, saved, groups, layer.weight(), layer.bias(), {.eps = 1e-3});
    });
    this->expect_same(tn::GroupNorm<S>(groups, this->kChannels, {.affine = false}),
                      [&] { tn::group_norm(this->x_, this->y_, groups); });
  }
}

TYPED_TEST(Functional, InstanceNorm) {
  using S = typename TypeParam::Scalar;
  const auto layer = this->randomized(tn::InstanceNorm2d<S>(this->kChannels, {.affine = true}));
  this->expect_same(layer, [&] { tn::instance_norm(this->x_, this->y_, layer.weight(), layer.bias()); });
  this->expect_same_saved(
      layer, [&](auto& saved) { tn::instance_norm(this->x_, this->y_, saved, layer.weight(), layer.bias()); });
  this->expect_same(tn::InstanceNorm2d<S>(this->kChannels),
                    [&] { tn::instance_norm(this->x_, this->y_); });
}

TYPED_TEST(Functional, BatchNormIsTheLayerInEvalMode) {
  using S = typename TypeParam::Scalar;
  auto layer = this->randomized(tn::BatchNorm2d<S>(this->kChannels, {.eps = 1e-3}));
  layer(this->x_);
  const auto& mean = layer.running_mean();
  const auto& variance = layer.running_var();
  this->expect_same(
      layer, [&] { tn::batch_norm(this->x_, this->y_, mean, variance, layer.weight(), layer.bias(), {.eps = 1e-3}); });
  layer.weight().setConstant(S(1));
  layer.bias().setZero();
  this->expect_same(layer,
                    [&] { tn::batch_norm(this->x_, this->y_, mean, variance, tn::none, tn::none, {.eps = 1e-3}); });
}

TYPED_TEST(Functional, ParametersInAnythingThatHoldsNumbers) {
  using S = typename TypeParam::Scalar;
  using Vector = Eigen::Matrix<S, Eigen::Dynamic, 1>;
  using RowVector = Eigen::Matrix<S, 1, Eigen::Dynamic>;
  const auto layer = this->randomized(tn::GroupNorm<S>(2, this->kChannels));
  const S* w = layer.weight().data();
  const S* b = layer.bias().data();
  const auto check = [&](const auto& weight, const auto& bias) {
    this->expect_same(layer, [&] { tn::group_norm(this->x_, this->y_, 2, weight, bias); });
  };
  using Map = Eigen::TensorMap<const Eigen::Tensor<S, 1>>;
  const Index c = this->kChannels;
  check(Map(w, c), Map(b, c));
  check(Vector(Eigen::Map<const Vector>(w, c)), RowVector(Eigen::Map<const RowVector>(b, c)));
  check(Eigen::Map<const Vector>(w, c), Eigen::Array<S, Eigen::Dynamic, 1>(Eigen::Map<const Vector>(b, c).array()));
  // A flat buffer of all parameters, at an address that suits no vector.
  std::vector<S> buffer(1);
  buffer.insert(buffer.end(), w, w + c);
  buffer.insert(buffer.end(), b, b + c);
  check(Map(buffer.data() + 1, c), Eigen::Map<const Vector>(buffer.data() + 1 + c, c));
  const Vector both = Eigen::Map<const Vector>(buffer.data() + 1, 2 * c);
  check(both.head(c), both.tail(c));
  Eigen::TensorFixedSize<S, Eigen::Sizes<6>> fixed;
  std::copy(w, w + c, fixed.data());
  check(fixed, layer.bias());
}

TYPED_TEST(Functional, WeightOfRankTwoAsAMatrix) {
  using S = typename TypeParam::Scalar;
  using Matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto layer = this->randomized(tn::LayerNorm<S, 2>(tn::Extents<2>{{5, 4}}));
  const Eigen::Map<const Matrix> weight(layer.weight().data(), 5, 4), bias(layer.bias().data(), 5, 4);
  this->expect_same(layer, [&] { tn::layer_norm(this->x_, this->y_, weight, bias); });
}

TYPED_TEST(Functional, InPlaceAndIntoATemporaryMap) {
  const auto expected = logical(tn::LayerNorm<typename TypeParam::Scalar>(4).infer(this->x_));
  auto data = this->x_;
  tn::layer_norm(data, data, tn::none, tn::none);
  EXPECT_TRUE(same_bits(logical(data), expected));
  using Images = std::remove_const_t<decltype(this->x_)>;
  tn::layer_norm(this->x_, Eigen::TensorMap<Images>(this->y_.data(), this->y_.dimensions()), tn::none, tn::none);
  EXPECT_TRUE(same_bits(logical(this->y_), expected));
}

TYPED_TEST(Functional, WrongParametersAreRefusedBeforeAnythingIsWritten) {
  using S = typename TypeParam::Scalar;
  using Vector = Eigen::Matrix<S, Eigen::Dynamic, 1>;
  auto& x = this->x_;
  auto& y = this->y_;
  y.setConstant(S(7));
  const auto before = logical(y);
  const auto refused = [&](const std::string& text, auto call) {
    try {
      call();
      ADD_FAILURE() << "expected " << text;
    } catch (const std::invalid_argument& error) {
      EXPECT_EQ(error.what(), "tensornorm::" + text);
    }
    EXPECT_TRUE(same_bits(logical(y), before));
  };
  Vector six = Vector::Ones(6), five = Vector::Ones(5), four = Vector::Ones(4), twelve = Vector::Ones(12);
  const Eigen::Tensor<S, 2, Eigen::RowMajor> turned(4, 5);
  refused("layer_norm: weight: expected [4], got [5]", [&] { tn::layer_norm(x, y, five, four); });
  refused("layer_norm: bias: expected [4], got [5]", [&] { tn::layer_norm(x, y, four, five); });
  refused("layer_norm: weight: expected [5,4], got [4,5]", [&] { tn::layer_norm(x, y, turned, tn::none); });
  refused("rms_norm: weight: expected [4], got [6]", [&] { tn::rms_norm(x, y, six); });
  refused("group_norm: weight: expected [6], got [5]", [&] { tn::group_norm(x, y, 2, five, six); });
  refused("instance_norm: bias: expected [6], got [4]", [&] { tn::instance_norm(x, y, six, four); });
  refused("batch_norm: running_mean: expected [6], got [5]", [&] { tn::batch_norm(x, y, five, six, six, six); });
  refused("batch_norm: running_var: expected [6], got [5]", [&] { tn::batch_norm(x, y, six, five, six, six); });
  refused("batch_norm: weight: expected [6], got [12]", [&] { tn::batch_norm(x, y, six, six, twelve, six); });
  const Eigen::TensorMap<const Eigen::Tensor<S, 1>> inside(y.data() + 3, 6);
  refused("group_norm: y overlaps weight: expected no memory in common, got some", [&] { tn::group_norm(x, y, 2, inside, six); });
  refused("group_norm: y overlaps bias: expected no memory in common, got some", [&] { tn::group_norm(x, y, 2, six, inside); });
  refused("batch_norm: y overlaps the given statistics: expected no memory in common, got some", [&] { tn::batch_norm(x, y, six, inside, six, six); });
}

}  // namespace
