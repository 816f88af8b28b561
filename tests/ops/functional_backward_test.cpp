// SPDX-License-Identifier: MIT
// The functional backward forms are the layers', bit by bit, whatever holds the parameters and their gradients.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <limits>
#include <stdexcept>
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
class FunctionalBackward : public testing::Test {
 protected:
  using Scalar = typename Kind::Scalar;
  template <int kRank>
  using Tensor = typename Kind::template Tensor<kRank>;
  using ParameterVector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

  static constexpr Index kChannels = 6;
  const support::Shape shape_{3, kChannels, 5, 4};
  const Tensor<4> x_ = support::tensor_of<Tensor<4>>(shape_, support::random_values<Scalar>(360, 1));
  const Tensor<4> dy_ = support::tensor_of<Tensor<4>>(shape_, support::random_values<Scalar>(360, 2));
  Tensor<4> dx_ = support::sized<Tensor<4>>(shape_);
  tn::SavedStats<Scalar> saved_;

  template <class Layer>
  static Layer randomized(Layer layer) {
    const auto values = support::random_values<Scalar>(layer.weight().size(), 3);
    std::copy(values.begin(), values.end(), layer.weight().data());
    return layer;
  }
  static auto flat(const auto& tensor) { return std::vector<Scalar>(tensor.data(), tensor.data() + tensor.size()); }

  /// call(dx, dweight, dbias) adds what the layer does: with all three, and with each of them alone; dx alone but for the order of sums
  /// where it is not the same.
  template <class Layer, class F>
  void expect_same(Layer layer, F call, bool same_order = true) {
    auto y = dx_;
    layer.forward(x_, y, saved_);
    auto dx = dx_;
    auto gradients = layer.zero_gradients();
    gradients.weight.setConstant(Scalar(0.5));
    gradients.bias.setConstant(Scalar(-3));
    const auto before = gradients;
    layer.backward(dy_, x_, saved_, dx, gradients);
    const bool has_bias = gradients.bias.size() > 0;

    auto got = before;
    dx_.setConstant(Scalar(-12345));
    call(dx_, got.weight, got.bias);
    EXPECT_TRUE(same_bits(logical(dx_), logical(dx)));
    EXPECT_TRUE(same_bits(flat(got.weight), flat(gradients.weight))) << "dweight";
    EXPECT_TRUE(same_bits(flat(got.bias), flat(gradients.bias))) << "dbias";

    dx_.setConstant(Scalar(-12345));
    call(dx_, tn::none, tn::none);
    if (same_order) {
      EXPECT_TRUE(same_bits(logical(dx_), logical(dx))) << "dx alone";
    } else {
      EXPECT_TRUE(support::all_near(logical(dx_), logical(dx), support::ulps<Scalar>(8, support::largest(logical(dx))))) << "dx alone";
    }
    got = before;
    call(tn::none, got.weight, tn::none);
    EXPECT_TRUE(same_bits(flat(got.weight), flat(gradients.weight))) << "dweight alone";
    EXPECT_TRUE(same_bits(flat(got.bias), flat(before.bias)));
    if (has_bias) {
      call(tn::none, tn::none, got.bias);
      EXPECT_TRUE(same_bits(flat(got.bias), flat(gradients.bias))) << "dbias alone";
    }
  }
};
TYPED_TEST_SUITE(FunctionalBackward, support::Kinds, support::KindNames);

TYPED_TEST(FunctionalBackward, LayerNormOfOneToThreeAxes) {
  using S = typename TypeParam::Scalar;
  const auto check = [this](const auto& layer) {
    this->expect_same(layer, [&](auto&& dx, auto&& dweight, auto&& dbias) {
      tn::layer_norm_backward(this->dy_, this->x_, this->saved_, layer.weight(), dx, dweight, dbias);
    });
  };
  check(this->randomized(tn::LayerNorm<S>(4)));
  check(this->randomized(tn::LayerNorm<S, 2>(tn::Extents<2>{{5, 4}})));
  check(this->randomized(tn::LayerNorm<S, 3>(tn::Extents<3>{{6, 5, 4}})));
}

TYPED_TEST(FunctionalBackward, LayerNormsOptions) {
  using S = typename TypeParam::Scalar;
  for (const auto variance : {tn::VarianceEstimator::biased, tn::VarianceEstimator::unbiased})
    for (const auto eps_added_to : {tn::EpsAddedTo::variance, tn::EpsAddedTo::deviation}) {
      const auto layer =
          this->randomized(tn::LayerNorm<S>(4, {.eps = 0.25, .variance = variance, .eps_added_to = eps_added_to}));
      this->expect_same(layer, [&](auto&& dx, auto&& dweight, auto&& dbias) {
        tn::layer_norm_backward(this->dy_, this->x_, this->saved_, layer.weight(), dx, dweight, dbias,
                                {.eps = 0.25, .variance = variance, .eps_added_to = eps_added_to},
                                Eigen::DefaultDevice());
      });
    }
}

TYPED_TEST(FunctionalBackward, WithoutWeight) {
  using S = typename TypeParam::Scalar;
  // Rows of a ColMajor tensor that parameters part, or that are a part of a wide one, are summed in another order without them.
  const bool same_order = TypeParam::order == Eigen::RowMajor;
  this->expect_same(
      tn::LayerNorm<S, 2>(tn::Extents<2>{{5, 4}}),
      [&](auto&& dx, auto&& dweight, auto&& dbias) {
        tn::layer_norm_backward<2>(this->dy_, this->x_, this->saved_, tn::none, dx, dweight, dbias);
      },
      same_order);
  this->expect_same(tn::InstanceNorm2d<S>(this->kChannels, {.affine = true}),
                    [&](auto&& dx, auto&& dweight, auto&& dbias) {
                      tn::instance_norm_backward(this->dy_, this->x_, this->saved_, tn::none, dx, dweight, dbias);
                    });
}

TYPED_TEST(FunctionalBackward, RmsNorm) {
  using S = typename TypeParam::Scalar;
  const auto one = this->randomized(tn::RMSNorm<S>(4));
  this->expect_same(one, [&](auto&& dx, auto&& dweight, auto&&) {
    tn::rms_norm_backward(this->dy_, this->x_, this->saved_, one.weight(), dx, dweight);
  });
  const auto three = this->randomized(tn::RMSNorm<S, 3>(tn::Extents<3>{{6, 5, 4}}, {.eps = 0.5}));
  this->expect_same(three, [&](auto&& dx, auto&& dweight, auto&&) {
    tn::rms_norm_backward(this->dy_, this->x_, this->saved_, three.weight(), dx, dweight, {.eps = 0.5});
  });
}

TYPED_TEST(FunctionalBackward, GroupNorm) {
  using S = typename TypeParam::Scalar;
  for (const Index groups : {1, 2, 3, 6}) {
    const auto layer = this->randomized(tn::GroupNorm<S>(groups, this->kChannels, {.eps = 1e-3}));
    this->expect_same(layer, [&](auto&& dx, auto&& dweight, auto&& dbias) {
      tn::group_norm_backward(this->dy_, this->x_, this->saved_, groups, layer.weight(), dx, dweight, dbias,
                              {.eps = 1e-3});
    });
  }
}

TYPED_TEST(FunctionalBackward, InstanceNorm) {
  using S = typename TypeParam::Scalar;
  const auto layer = this->randomized(tn::InstanceNorm2d<S>(this->kChannels, {.eps = 1e-3, .affine = true}));
  this->expect_same(layer, [&](auto&& dx, auto&& dweight, auto&& dbias) {
    tn::instance_norm_backward(this->dy_, this->x_, this->saved_, layer.weight(), dx, dweight, dbias, {.eps = 1e-3});
  });
}

TYPED_TEST(FunctionalBackward, BatchNormOfGivenStatistics) {
  using S = typename TypeParam::Scalar;
  auto layer = this->randomized(tn::BatchNorm2d<S>(this->kChannels, {.eps = 1e-3}));
  layer(this->x_);
  layer.eval();
  this->expect_same(layer, [&](auto&& dx, auto&& dweight, auto&& dbias) {
    tn::batch_norm_backward(this->dy_, this->x_, layer.running_mean(), layer.running_var(), layer.weight(), dx, dweight,
                            dbias, {.eps = 1e-3});
  });
}

// Parameters and gradients in one flat buffer of the caller's, and in Eigen vectors.
TYPED_TEST(FunctionalBackward, WhateverHoldsTheParameters) {
  using S = typename TypeParam::Scalar;
  using Vector = typename TestFixture::ParameterVector;
  const auto layer = this->randomized(tn::GroupNorm<S>(2, this->kChannels));
  Vector buffer(4 * this->kChannels);
  this->expect_same(layer, [&](auto&& dx, auto&& dweight, auto&& dbias) {
    const Index c = this->kChannels;
    for (Index i = 0; i < c; ++i) buffer(i) = layer.weight()(i);
    auto part = [&](Index k) { return Eigen::TensorMap<Eigen::Tensor<S, 1>>(buffer.data() + k * c, c); };
    const auto copy = [c](auto&& from, auto&& to) {
      if constexpr (!tn::is_none<decltype(from)> && !tn::is_none<decltype(to)>)
        for (Index i = 0; i < c; ++i) to(i) = from(i);
    };
    copy(dweight, part(1));
    copy(dbias, part(2));
    auto dw = part(1), db = part(2);
    const auto weight = buffer.head(c);
    if constexpr (tn::is_none<decltype(dweight)> && tn::is_none<decltype(dbias)>)
      tn::group_norm_backward(this->dy_, this->x_, this->saved_, 2, weight, dx, tn::none, tn::none);
    else if constexpr (tn::is_none<decltype(dweight)>)
      tn::group_norm_backward(this->dy_, this->x_, this->saved_, 2, weight, dx, tn::none, db);
    else if constexpr (tn::is_none<decltype(dbias)>)
      tn::group_norm_backward(this->dy_, this->x_, this->saved_, 2, weight, dx, dw, tn::none);
    else
      tn::group_norm_backward(this->dy_, this->x_, this->saved_, 2, weight, dx, dw, buffer.segment(2 * c, c));
    copy(part(1), dweight);
    copy(part(2), dbias);
  });
}

// The gradients of a single row are added where the caller has them, but not into what is still to be read.
TYPED_TEST(FunctionalBackward, GradientsOfOneRowOverWhatIsRead) {
  using S = typename TypeParam::Scalar;
  using Vector = typename TestFixture::ParameterVector;
  for (const Index n : {Index{7}, Index{40}, Index{1201}}) {
    const auto vector = [n](unsigned seed) -> Vector {
      const auto values = support::random_values<S>(n, seed);
      return Eigen::Map<const Vector>(values.data(), n);
    };
    typename TestFixture::template Tensor<2> x(1, n), dx(1, n), expected_dx(1, n);
    const Vector x_values = vector(1), dy_values = vector(2), weight_values = vector(3);
    std::copy_n(x_values.data(), n, x.data());
    auto dy = x, y = x;
    std::copy_n(dy_values.data(), n, dy.data());
    Vector weight = weight_values;
    tn::SavedStats<S> saved;
    tn::layer_norm(x, y, saved, weight, weight);
    Vector dweight = Vector::Zero(n), dbias = Vector::Zero(n);
    tn::layer_norm_backward(dy, x, saved, weight, expected_dx, dweight, dbias);
    EXPECT_TRUE(same_bits(this->flat(dbias), this->flat(dy_values)));

    const auto check = [&](const auto& was, const auto& values, const auto& gradient) {
      const Vector sum = was + gradient, now = Eigen::Map<const Vector>(values.data(), n);
      EXPECT_TRUE(same_bits(this->flat(dx), this->flat(expected_dx))) << n;
      EXPECT_LE((now - sum).template lpNorm<Eigen::Infinity>(), 2 * std::numeric_limits<S>::epsilon() * sum.template lpNorm<Eigen::Infinity>()) << n;
    };
    tn::layer_norm_backward(dy, x, saved, weight, dx, weight, tn::none);
    check(weight_values, weight, dweight);
    weight = weight_values;
    Eigen::Map<Vector> onto_x(x.data(), n), onto_dy(dy.data(), n);
    tn::layer_norm_backward(dy, x, saved, weight, dx, onto_x, tn::none);
    check(x_values, onto_x, dweight);
    onto_x = x_values;
    tn::layer_norm_backward(dy, x, saved, weight, dx, onto_dy, tn::none);
    check(dy_values, onto_dy, dweight);
    onto_dy = dy_values;
    Vector into = Vector::Zero(n);
    tn::layer_norm_backward(dy, x, saved, weight, dx, into, weight);
    check(weight_values, weight, dbias);
    weight = weight_values;
    tn::layer_norm_backward(dy, x, saved, weight, dx, into, onto_x);
    check(x_values, onto_x, dbias);
    onto_x = x_values;
    tn::layer_norm_backward(dy, x, saved, weight, dx, into, onto_dy);
    check(dy_values, onto_dy, dbias);
  }
}

TYPED_TEST(FunctionalBackward, RefusesWhatDoesNotFitBeforeItWrites) {
  using S = typename TypeParam::Scalar;
  using Vector = typename TestFixture::ParameterVector;
  auto y = this->dx_;
  const Vector weight = Vector::Ones(6);
  Vector dweight = Vector::Zero(6), five = Vector::Zero(5);
  tn::SavedStats<S> saved;
  tn::group_norm(this->x_, y, saved, 2, weight, tn::none);
  this->dx_.setConstant(S(-12345));
  const auto before = logical(this->dx_);
  const auto refused = [&]<class Error>(Error*, auto call, const char* text) {
    try {
      call();
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_PRED_FORMAT2(testing::IsSubstring, text, error.what());
    }
    EXPECT_TRUE(same_bits(logical(this->dx_), before));
    EXPECT_EQ(dweight.norm() + five.norm(), S(0));
  };
  std::invalid_argument* invalid = nullptr;
  std::logic_error* logic = nullptr;
  const auto with = [&](const auto& s, Index groups, const auto& w, auto& dw, auto& db) {
    return [&, groups] { tn::group_norm_backward(this->dy_, this->x_, s, groups, w, this->dx_, dw, db); };
  };
  Vector dbias = Vector::Zero(6);
  refused(invalid, with(saved, 2, five, dweight, dbias), "weight");
  refused(invalid, with(saved, 2, weight, five, dbias), "dweight");
  refused(invalid, with(saved, 2, weight, dweight, five), "dbias");
  refused(invalid, with(saved, 4, weight, dweight, dbias), "num_groups");
  refused(logic, with(saved, 3, weight, dweight, dbias), "expected shape [3,3], got [3,2]");
  refused(logic, with(tn::SavedStats<S>(), 2, weight, dweight, dbias), "got none");
}

}  // namespace
