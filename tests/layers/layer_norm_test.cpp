// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <tensornorm/tensornorm.hpp>

#include "support/compare.hpp"
#include "support/golden_layers.hpp"

namespace {

using namespace support;

template <class Kind>
class LayerNorm : public testing::Test {};
TYPED_TEST_SUITE(LayerNorm, Kinds, KindNames);

TYPED_TEST(LayerNorm, AgreesWithPyTorch) {
  expect_golden_file("layer_norm", [](const auto& c, auto f) { with_layer_norm<TypeParam>(c, f); });
}
TYPED_TEST(LayerNorm, TextbookVariantsAgreeWithTheirFormulas) {
  expect_golden_file("textbook_layer_norm", [](const auto& c, auto f) { with_layer_norm<TypeParam>(c, f); });
}

// The weights lie RowMajor whatever x's order: each element must meet its own.
TYPED_TEST(LayerNorm, EveryElementMeetsItsOwnWeight) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  const Shape shape{2, 3, 4, 5};
  const Images x = tensor_of<Images>(shape, random_values<Scalar>(120, 1));
  tn::LayerNorm<Scalar, 3> plain({3, 4, 5}, {.elementwise_affine = false}), layer({3, 4, 5});
  static_assert(std::remove_cvref_t<decltype(layer.weight())>::NumDimensions == 3);
  for (Index c = 0, flat = 0; c < 3; ++c)
    for (Index h = 0; h < 4; ++h)
      for (Index w = 0; w < 5; ++w, ++flat) {
        layer.weight()(c, h, w) = Scalar(flat + 1);
        layer.bias()(c, h, w) = Scalar(1000 * flat);
        EXPECT_EQ(layer.weight().data()[flat], Scalar(flat + 1)) << "flat RowMajor, PyTorch's order";
      }
  const Images norm = plain(x), y = layer(x);
  for (Index i = 0; i < 120; ++i) {
    const Shape at = coordinates(i, shape);
    const Scalar weight = Scalar(i % 60 + 1), bias = Scalar(1000 * (i % 60));
    const Scalar expected = coefficient(norm, at) * weight + bias;
    // norm is rounded here once more than inside the layer: 2 ulp of the larger term.
    EXPECT_NEAR(coefficient(y, at), expected, double(ulps<Scalar>(2, 4 * weight + bias)));
  }
}

// Short rows are taken a few together where they are few, and one by one, or together past the caches, where they are many; unusual ones among
// them by themselves.
template <class Scalar>
void expect_same_rows(Index width, Index many) {
  using Rows = Eigen::Tensor<Scalar, 2, Eigen::RowMajor>;
  constexpr Index few = 45;
  SCOPED_TRACE(width);
  const auto odd = [width](Rows& x, Index first) {
    const auto fill = [&](Index row, auto value) {
      for (Index i = 0; i < width; ++i) x(first + row, i) = Scalar(value(x(first + row, i), i));
    };
    fill(2, [](Scalar, Index) { return 0; });
    fill(3, [](Scalar, Index) { return 42; });
    fill(4, [](Scalar, Index) { return 0.25; });
    fill(5, [](Scalar v, Index) { return v * Scalar(1e30); });
    fill(6, [](Scalar v, Index) { return v * Scalar(1e-30); });
    fill(8, [](Scalar v, Index i) { return i == 0 ? Scalar(1e6) : v; });
    fill(13, [](Scalar v, Index i) { return i == 7 ? std::numeric_limits<Scalar>::infinity() : v; });
    fill(44, [](Scalar v, Index) { return v + Scalar(1e6); });
    // What is summed first about the mean of 16 elements, 0.7 to 0.9 deviations from that of all: doubles are so once more.
    for (Index row = 16; row < 32; ++row)
      fill(row, [&](Scalar v, Index i) {
        return Scalar(i % 2 == 0 ? 1 : -1) + v / 100 + (i < 16 ? Scalar(0.9) + Scalar(row - 16) / 80 : Scalar(0));
      });
  };
  for (const bool affine : {true, false}) {
    tn::LayerNorm<Scalar, 1> layer(width, {.elementwise_affine = affine});
    if (affine)
      for (Index i = 0; i < width; ++i) {
        layer.weight()(i) = Scalar(0.5) + Scalar(i) / 100;
        layer.bias()(i) = Scalar(i) - 50;
      }
    Rows x = tensor_of<Rows>({many, width}, random_values<Scalar>(many * width, 1));
    Rows dy = tensor_of<Rows>({many, width}, random_values<Scalar>(many * width, 2));
    odd(x, 0);
    typename tn::LayerNorm<Scalar, 1>::Saved saved, saved_few;
    Rows y(many, width), dx(many, width), y_few(few, width), dx_few(few, width);
    layer.forward(x, y, saved);
    auto gradients = layer.zero_gradients();
    layer.backward(dy, x, saved, dx, gradients);
    const Rows x_few = x.slice(Eigen::array<Index, 2>{0, 0}, Eigen::array<Index, 2>{few, width});
    const Rows dy_few = dy.slice(Eigen::array<Index, 2>{0, 0}, Eigen::array<Index, 2>{few, width});
    layer.forward(x_few, y_few, saved_few);
    auto gradients_few = layer.zero_gradients();
    layer.backward(dy_few, x_few, saved_few, dx_few, gradients_few);
    const auto begins = [](const Rows& all, const Rows& part) {
      return std::equal(part.data(), part.data() + part.size(), all.data(), support::same_number<Scalar>);
    };
    EXPECT_TRUE(begins(y, y_few)) << affine;
    EXPECT_TRUE(begins(dx, dx_few)) << affine;
    EXPECT_EQ(std::memcmp(saved.mean().data(), saved_few.mean().data(), sizeof(*saved.mean().data()) * few), 0) << affine;
    EXPECT_EQ(std::memcmp(saved.rstd().data(), saved_few.rstd().data(), sizeof(*saved.rstd().data()) * few), 0) << affine;
    // In place, and one row at a time.
    Rows again = x_few;
    layer.forward(again, again);
    EXPECT_TRUE(begins(again, y_few)) << affine;
    for (Index row = 0; row < few; ++row) {
      const Rows one = x_few.slice(Eigen::array<Index, 2>{row, 0}, Eigen::array<Index, 2>{1, width});
      EXPECT_EQ(std::memcmp(layer(one).data(), &y_few(row, 0), sizeof(Scalar) * std::size_t(width)), 0) << row;
    }
    again = dy_few;
    auto gradients_again = layer.zero_gradients();
    layer.backward(again, x_few, saved_few, again, gradients_again);
    EXPECT_TRUE(begins(again, dx_few)) << affine;
    if (!affine) continue;
    // Asked for alone, gradients are summed by the general walk.
    auto gradients_alone = layer.zero_gradients();
    layer.backward(dy_few, x_few, saved_few, tn::none, gradients_alone);
    for (const auto& gradients_of : {gradients_again, gradients_alone}) {
      EXPECT_EQ(std::memcmp(gradients_of.weight.data(), gradients_few.weight.data(), sizeof(Scalar) * std::size_t(width)), 0);
      EXPECT_EQ(std::memcmp(gradients_of.bias.data(), gradients_few.bias.data(), sizeof(Scalar) * std::size_t(width)), 0);
    }
  }
}
TYPED_TEST(LayerNorm, ARowIsTheSameAmongFewAndAmongMany) {
  // In the caches, in the last of them and out of them, as far as these are of usual sizes.
  using Shape = std::pair<Index, Index>;
  for (const auto& [width, many] : {Shape{100, 20000}, {200, 11000}, {512, 4200}, {513, 4200}, {700, 2000}, {1024, 100}, {1025, 100}})
    expect_same_rows<typename TypeParam::Scalar>(width, many);
}

// ---- worked cases ----

template <class Kind>
class LayerNormWorked : public testing::Test {
 protected:
  template <class Layer, class Tensor>
  void expect(const golden::Case& c, const std::string& key, Layer layer, const Tensor& x, const std::string& axes,
              Index statistics) {
    Tensor y(x.dimensions());
    tn::SavedStats<float> saved;
    layer.forward(x, y, saved);
    expect_worked(c, key, y);
    EXPECT_EQ(saved.size(), statistics);
    if (!axes.empty()) expect_worked_statistics<Kind>(c, axes, saved);
  }
};
using FloatKinds = testing::Types<Kind<float, Eigen::RowMajor>, Kind<float, Eigen::ColMajor>>;
TYPED_TEST_SUITE(LayerNormWorked, FloatKinds, KindNames);

TYPED_TEST(LayerNormWorked, SmallIntegers) {
  const golden::Case c = worked_case("small_integers");
  const auto x = worked_x<typename TypeParam::template Tensor<3>>(c);
  this->expect(c, "LayerNorm_3", tn::LayerNorm<float>(3), x, "", 4);
  this->expect(c, "LayerNorm_2_3", tn::LayerNorm<float, 2>({2, 3}), x, "", 2);
}

TYPED_TEST(LayerNormWorked, WholeImages) {
  const golden::Case c = worked_case("images");
  const auto x = worked_x<typename TypeParam::template Tensor<4>>(c);
  this->expect(c, "LayerNorm_3_3_3", tn::LayerNorm<float, 3>({3, 3, 3}), x, "123", 2);
}

TYPED_TEST(LayerNormWorked, EightSixteenAndFortyEightStatistics) {
  const golden::Case c = worked_case("normalized_shapes");
  const auto x = worked_x<typename TypeParam::template Tensor<4>>(c);
  this->expect(c, "LayerNorm_3", tn::LayerNorm<float, 3>({2, 3, 4}), x, "123", 8);
  this->expect(c, "LayerNorm_2", tn::LayerNorm<float, 2>({3, 4}), x, "23", 16);
  this->expect(c, "LayerNorm_1", tn::LayerNorm<float>(4), x, "3", 48);
}

// The "Annotated Transformer" layer: a * (x - mean) / (std + eps) + b with the unbiased std, on (batch, length,
// d_model).
TYPED_TEST(LayerNorm, AnnotatedTransformer) {
  using Scalar = typename TypeParam::Scalar;
  using Sequences = typename TypeParam::template Tensor<3>;
  const Shape shape{2, 5, 64};
  const Sequences x = tensor_of<Sequences>(shape, random_values<Scalar>(size_of(shape), 1));
  tn::LayerNorm<Scalar> layer(
      64, {.eps = 1e-6, .variance = tn::VarianceEstimator::unbiased, .eps_added_to = tn::EpsAddedTo::deviation});
  const Sequences y = layer(x);
  for (Index b = 0; b < 2; ++b) {
    for (Index t = 0; t < 5; ++t) {
      long double mean = 0, m2 = 0;
      for (Index i = 0; i < 64; ++i) mean += x(b, t, i) / 64.0L;
      for (Index i = 0; i < 64; ++i) m2 += (x(b, t, i) - mean) * (x(b, t, i) - mean);
      const long double deviation = std::sqrt(m2 / 63);
      for (Index i = 0; i < 64; ++i) {
        const long double expected = (x(b, t, i) - mean) / (deviation + 1e-6L);
        EXPECT_NEAR(y(b, t, i), double(expected), double(ulps<Scalar>(4, 4)));  // |norm| < 4, as normalization_test
      }
    }
  }
}

// weight = sqrt(variance + eps) and bias = mean undo the normalization.
TYPED_TEST(LayerNorm, RestoresItsInput) {
  using Scalar = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  const Rows x = tensor_of<Rows>({1, 50}, random_values<Scalar>(50, 1, 3.0));
  Rows y(1, 50);
  tn::LayerNorm<Scalar> layer(50);
  tn::SavedStats<Scalar> saved;
  layer.forward(x, y, saved);
  layer.weight().setConstant(Scalar(1 / saved.rstd()(0)));
  layer.bias().setConstant(Scalar(saved.mean()(0)));
  EXPECT_TRUE(
      all_near(logical(layer(x)), logical(x), ulps<Scalar>(2, largest(logical(x)))));  // weight and bias rounded
}

// ---- values and construction ----

TYPED_TEST(LayerNorm, AConstantRowIsTheBias) {
  using Scalar = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  for (const double eps : {1e-5, 0.0}) {
    for (const auto added_to : {tn::EpsAddedTo::variance, tn::EpsAddedTo::deviation}) {
      tn::LayerNorm<Scalar> layer(21, {.eps = eps, .eps_added_to = added_to});
      set_parameters(layer, random_values<Scalar>(21, 1), random_values<Scalar>(21, 2));
      Rows x(3, 21);
      x.setConstant(Scalar(0.3));
      const Rows y = layer(x);
      for (Index row = 0; row < 3; ++row)
        for (Index i = 0; i < 21; ++i) EXPECT_EQ(y(row, i), layer.bias()(i));
    }
  }
}

TYPED_TEST(LayerNorm, TheModeChangesNothing) {
  using Scalar = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  tn::LayerNorm<Scalar> layer(7);
  const Rows x = tensor_of<Rows>({3, 7}, random_values<Scalar>(21, 1));
  const auto y = logical(layer(x));
  layer.eval();
  EXPECT_FALSE(layer.is_training());
  EXPECT_TRUE(same_bits(logical(layer(x)), y));
  EXPECT_TRUE(same_bits(logical(std::as_const(layer).infer(x)), y));
  layer.train();
  EXPECT_TRUE(layer.is_training());
}

TEST(LayerNormOptions, DefaultsArePyTorchs) {
  const tn::LayerNorm<float, 2> layer({3, 4});
  EXPECT_EQ(layer.eps(), 1e-5);
  ASSERT_EQ(layer.weight().size(), 12);
  for (Index i = 0; i < 12; ++i) {
    EXPECT_EQ(layer.weight().data()[i], 1);
    EXPECT_EQ(layer.bias().data()[i], 0);
  }
  std::ostringstream text;
  text << layer;
  EXPECT_EQ(text.str().rfind("LayerNorm(", 0), 0u) << text.str();
}

TEST(LayerNormOptions, OneExtentWithAndWithoutBraces) {
  const std::size_t width = 7;
  EXPECT_EQ(tn::LayerNorm<float>({768}).weight().size(), 768);
  EXPECT_EQ(tn::LayerNorm<float>({width}).weight().size(), 7);
  EXPECT_EQ((tn::LayerNorm<float>({width}, {.bias = false}).weight().size()), 7);
  EXPECT_EQ(tn::LayerNorm<float>{5}.weight().size(), 5);
  EXPECT_EQ(tn::RMSNorm<float>({768}).weight().size(), 768);
}

TEST(LayerNormOptions, ParametersThatAreNotThere) {
  tn::LayerNorm<float> none(3, {.elementwise_affine = false}), no_bias(3, {.bias = false});
  EXPECT_FALSE(none.has_weight() || none.has_bias() || no_bias.has_bias());
  EXPECT_TRUE(no_bias.has_weight() && tn::LayerNorm<float>(3).has_bias());
  EXPECT_THROW(none.weight(), std::logic_error);
  EXPECT_THROW(none.bias(), std::logic_error);
  EXPECT_EQ(no_bias.weight().size(), 3);
  EXPECT_THROW(no_bias.bias(), std::logic_error);
}

}  // namespace
