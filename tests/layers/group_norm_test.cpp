// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <sstream>
#include <stdexcept>
#include <tensornorm/tensornorm.hpp>

#include "support/golden_layers.hpp"

namespace {

using namespace support;

template <class Kind>
class GroupNorm : public testing::Test {};
TYPED_TEST_SUITE(GroupNorm, Kinds, KindNames);

TYPED_TEST(GroupNorm, AgreesWithPyTorch) {
  expect_golden_file("group_norm", [](const auto& c, auto f) { with_group_norm<TypeParam>(c, f); });
}

TYPED_TEST(GroupNorm, WorkedCases) {
  if constexpr (std::is_same_v<typename TypeParam::Scalar, float>) {
    using Images = typename TypeParam::template Tensor<4>;
    const golden::Case small = worked_case("groups");
    expect_worked(small, "GroupNorm_2", tn::GroupNorm<float>(2, 6)(worked_x<Images>(small)));

    const golden::Case many = worked_case("many_groups");
    const Images x = worked_x<Images>(many);
    for (const Index groups : {3, 6, 1}) {
      const std::string key = "GroupNorm_" + std::to_string(groups);
      tn::GroupNorm<float> layer(groups, 6);
      Images y(x.dimensions());
      tn::SavedStats<float> saved;
      layer.forward(x, y, saved);
      expect_worked(many, key, y);
      EXPECT_EQ(saved.size(), 20 * groups);
      EXPECT_EQ(saved.shape()[0], 20);
      EXPECT_EQ(saved.shape()[1], groups);
    }
    // PyTorch's two other layers that give these numbers.
    expect_worked(many, "GroupNorm_6", tn::InstanceNorm2d<float>(6)(x));
    expect_worked(many, "GroupNorm_1", tn::LayerNorm<float, 3>({6, 10, 10}, {.elementwise_affine = false})(x));
  }
}

// PyTorch refuses this for a batch of one only; the answer is y = bias.
TYPED_TEST(GroupNorm, OneValuePerGroupIsTheBias) {
  using Scalar = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  tn::GroupNorm<Scalar> layer(6, 6);
  set_parameters(layer, random_values<Scalar>(6, 1), random_values<Scalar>(6, 2));
  for (const Index rows : {1, 3}) {
    const Rows y = layer(tensor_of<Rows>({rows, 6}, random_values<Scalar>(6 * rows, 3)));
    for (Index row = 0; row < rows; ++row)
      for (Index c = 0; c < 6; ++c) EXPECT_EQ(y(row, c), layer.bias()(c));
  }
}

TYPED_TEST(GroupNorm, TheModeChangesNothing) {
  using Scalar = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  tn::GroupNorm<Scalar> layer(2, 6);
  const Rows x = tensor_of<Rows>({3, 6}, random_values<Scalar>(18, 1));
  const auto y = logical(layer(x));
  layer.eval();
  EXPECT_TRUE(same_bits(logical(layer(x)), y));
  EXPECT_TRUE(same_bits(logical(std::as_const(layer).infer(x)), y));
}

TEST(GroupNormOptions, DefaultsArePyTorchs) {
  const tn::GroupNorm<float> layer(8, 64);
  EXPECT_EQ(layer.eps(), 1e-5);
  EXPECT_EQ(layer.weight().size(), 64);
  EXPECT_EQ(layer.weight()(63), 1);
  EXPECT_EQ(layer.bias()(63), 0);
  std::ostringstream text;
  text << layer;
  EXPECT_EQ(text.str(), "GroupNorm(8, 64, eps=1e-05, affine=true)");
  text.str("");
  text << tn::GroupNorm<float>(8, 64, {.bias = false});
  EXPECT_EQ(text.str(), "GroupNorm(8, 64, eps=1e-05, affine=true, bias=false)");
}

// ColMajor puts the batch innermost: pixels follow each other in wide rows, of which the last is a partial one.
TEST(GroupNormChannelsLast, IsTheSameInColMajorWhereTheLastRowIsPartial) {
  using Layer = tn::GroupNorm<float, tn::GroupAxes<-1>>;
  using Rows = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  using Columns = Eigen::Tensor<float, 4, Eigen::ColMajor>;
  const Eigen::array<int, 4> reversed{3, 2, 1, 0};
  for (const Shape& shape : {Shape{4, 20, 20, 6}, {32, 7, 7, 8}, {100, 7, 7, 8}}) {
    const Index channels = shape[3], size = size_of(shape);
    Layer layer(2, channels);
    set_parameters(layer, random_values<float>(channels, 1), random_values<float>(channels, 2));
    const Rows x = tensor_of<Rows>(shape, random_values<float>(size, 3)), dy = tensor_of<Rows>(shape, random_values<float>(size, 4));
    const Columns x_columns = x.swap_layout().shuffle(reversed), dy_columns = dy.swap_layout().shuffle(reversed);
    Rows y(x.dimensions()), dx(x.dimensions());
    Columns y_columns(x.dimensions()), dx_columns(x.dimensions());
    tn::SavedStats<float> saved;
    auto gradients = layer.zero_gradients(), column_gradients = layer.zero_gradients();
    layer.forward(x, y, saved);
    layer.backward(dy, x, saved, dx, gradients);
    layer.forward(x_columns, y_columns, saved);
    layer.backward(dy_columns, x_columns, saved, dx_columns, column_gradients);
    const Rows y_of_columns = y_columns.swap_layout().shuffle(reversed), dx_of_columns = dx_columns.swap_layout().shuffle(reversed);
    const auto largest = [](const Rows& a, const Rows& b) {
      return Eigen::Tensor<float, 0, Eigen::RowMajor>((a - b).abs().maximum<Eigen::PropagateNaN>())();
    };
    EXPECT_LT(largest(y, y_of_columns), 1e-5F) << shape[0];
    EXPECT_LT(largest(dx, dx_of_columns), 1e-5F) << shape[0];
    for (Index c = 0; c < channels; ++c) {
      const float terms = static_cast<float>(size / channels);
      EXPECT_NEAR(gradients.weight(c), column_gradients.weight(c), 1e-6F * terms) << c;
      EXPECT_NEAR(gradients.bias(c), column_gradients.bias(c), 1e-6F * terms) << c;
    }
  }
}

// One group's channels meet their parameters at every position: thousands of terms per statistic.
TEST(GroupNormChannelsLast, GradientsOfOneGroupKeepTheirDigitsOverManyPositions) {
  using Images = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  for (const Index positions : {15, 16, 17, 4096, 65536}) {
    tn::GroupNorm<float, tn::GroupAxes<-1>> layer(1, 2);
    const Images x = tensor_of<Images>({1, positions, 2}, random_values<float>(2 * positions, 1));
    Images dy(x.dimensions()), y(x.dimensions());
    dy.setConstant(0.1F);
    tn::SavedStats<float> saved;
    layer.forward(x, y, saved);
    const auto [dx, dweight, dbias] = layer.backward(dy, x, saved);
    for (Index c = 0; c < 2; ++c) {
      double norms = 0;
      for (Index i = 0; i < positions; ++i) norms += double(x(0, i, c)) - saved.mean()(0);
      const double scale = double(0.1F) * double(positions);
      EXPECT_NEAR(dbias(c), scale, 3e-7 * scale) << positions;
      EXPECT_NEAR(dweight(c), double(0.1F) * norms * saved.rstd()(0), 1e-6 * scale) << positions;
    }
  }
}

}  // namespace
