// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <tensornorm/tensornorm.hpp>
#include <utility>

#include "support/golden_layers.hpp"
#include "support/subjects.hpp"

namespace {

using namespace support;

template <class Kind>
class BatchNorm : public testing::Test {
 protected:
  using S = typename Kind::Scalar;
  using T = typename Kind::template Tensor<4>;
  const Shape shape{3, 4, 2, 5};
  static constexpr Index channels = 4;

  T images(unsigned seed, double mean = 2.0) const {
    return tensor_of<T>(shape, random_values<S>(size_of(shape), seed, mean));
  }
};
TYPED_TEST_SUITE(BatchNorm, Kinds, KindNames);

TYPED_TEST(BatchNorm, AgreesWithPyTorch) {
  expect_golden_file("batch_norm", [](const auto& c, auto f) { with_batch_norm<TypeParam>(c, f); });
}

// ---- the mode table of the interface ----

/// What a layer answers and whether its running statistics move, for the three calls in one mode.
template <class Layer, class Tensor>
void expect_mode(Layer layer, const Tensor& x, const Tensor& from_running, const Tensor& from_batch, bool uses_batch,
                 bool moves, bool infers_from_batch) {
  const auto expected = logical(uses_batch ? from_batch : from_running);
  const auto state = [](const Layer& l) { return std::pair(logical(l.running_mean()), logical(l.running_var())); };
  const auto before = state(layer);
  const auto count = layer.running_stats().num_batches();

  EXPECT_TRUE(
      same_bits(logical(std::as_const(layer).infer(x)), logical(infers_from_batch ? from_batch : from_running)));
  Tensor y(x.dimensions());
  std::as_const(layer).infer(x, y);
  EXPECT_TRUE(same_bits(logical(y), logical(infers_from_batch ? from_batch : from_running)));
  EXPECT_EQ(state(layer), before) << "infer moved the running statistics";

  EXPECT_TRUE(same_bits(logical(layer(x)), expected));
  layer.forward(x, y);
  EXPECT_TRUE(same_bits(logical(y), expected));
  tn::SavedStats<typename Tensor::Scalar> saved;
  layer.forward(x, y, saved);
  EXPECT_TRUE(same_bits(logical(y), expected));
  EXPECT_EQ(layer.running_stats().num_batches(), count + (moves ? 3 : 0));
  EXPECT_EQ(state(layer) != before, moves);
}

TYPED_TEST(BatchNorm, ModesWithRunningStatistics) {
  using Scalar = typename TypeParam::Scalar;
  tn::BatchNorm2d<Scalar> layer(this->channels);
  EXPECT_TRUE(layer.is_training());
  set_parameters(layer, random_values<Scalar>(4, 1), random_values<Scalar>(4, 2));
  layer(this->images(1));
  const auto x = this->images(2);
  const auto from_batch = tn::BatchNorm2d<Scalar>(layer)(x);
  auto frozen = layer;
  frozen.eval();
  const auto from_running = frozen(x);
  ASSERT_FALSE(same_bits(logical(from_batch), logical(from_running)));

  expect_mode(layer, x, from_running, from_batch, true, true, false);
  layer.eval();
  EXPECT_FALSE(layer.is_training());
  expect_mode(layer, x, from_running, from_batch, false, false, false);
  layer.train();
  EXPECT_TRUE(layer.is_training());
  expect_mode(layer, x, from_running, from_batch, true, true, false);
  layer.train(false);
  EXPECT_FALSE(layer.is_training());
  expect_mode(layer, x, from_running, from_batch, false, false, false);
}

TYPED_TEST(BatchNorm, ModesWithoutRunningStatistics) {
  using Scalar = typename TypeParam::Scalar;
  tn::BatchNorm2d<Scalar> layer(this->channels, {.track_running_stats = false});
  EXPECT_FALSE(layer.track_running_stats());
  const auto x = this->images(2);
  const auto y = logical(layer(x));
  const auto from_batch = logical(tn::BatchNorm2d<Scalar>(this->channels)(x));
  EXPECT_TRUE(same_bits(y, from_batch));
  EXPECT_TRUE(same_bits(logical(std::as_const(layer).infer(x)), from_batch));
  layer.eval();
  EXPECT_TRUE(same_bits(logical(layer(x)), from_batch));
  EXPECT_TRUE(same_bits(logical(std::as_const(layer).infer(x)), from_batch));
}

// ---- running statistics ----

TYPED_TEST(BatchNorm, RunningStatisticsStartAtZeroAndOneAndReset) {
  using Scalar = typename TypeParam::Scalar;
  tn::BatchNorm2d<Scalar> layer(this->channels);
  const auto expect_initial = [&] {
    for (Index c = 0; c < this->channels; ++c) {
      EXPECT_EQ(layer.running_mean()(c), 0);
      EXPECT_EQ(layer.running_var()(c), 1);
    }
    EXPECT_EQ(layer.running_stats().num_batches(), 0);
  };
  expect_initial();
  layer(this->images(1));
  EXPECT_EQ(layer.running_stats().num_batches(), 1);
  layer.running_stats().reset();
  expect_initial();
}

TYPED_TEST(BatchNorm, LoadedRunningStatisticsAreUsed) {
  using Scalar = typename TypeParam::Scalar;
  tn::BatchNorm2d<Scalar> from(this->channels), to(this->channels);
  from(this->images(1));
  to.running_stats().load(from.running_mean(), from.running_var(), 7);
  EXPECT_EQ(to.running_stats().num_batches(), 7);
  EXPECT_TRUE(same_bits(logical(to.infer(this->images(2))), logical(from.infer(this->images(2)))));
  // All or nothing.
  auto variance = from.running_var();
  variance(2) = -1;
  EXPECT_THROW(to.running_stats().load(from.running_var(), variance, 9), std::invalid_argument);
  EXPECT_TRUE(same_bits(logical(to.running_mean()), logical(from.running_mean())));
  EXPECT_EQ(to.running_stats().num_batches(), 7);
}

TYPED_TEST(BatchNorm, MomentumZeroKeepsOneReplaces) {
  using Scalar = typename TypeParam::Scalar;
  tn::BatchNorm2d<Scalar> keeps(this->channels, {.momentum = 0.0}), replaces(this->channels, {.momentum = 1.0});
  tn::BatchNorm2d<Scalar> once(this->channels, {.momentum = std::nullopt});
  const auto start = logical(keeps.running_mean());
  keeps(this->images(1));
  EXPECT_TRUE(same_bits(logical(keeps.running_mean()), start));
  replaces(this->images(1));
  replaces(this->images(2));
  once(this->images(2));  // cumulative: the first batch replaces the initial values
  EXPECT_TRUE(same_bits(logical(replaces.running_mean()), logical(once.running_mean())));
  EXPECT_TRUE(same_bits(logical(replaces.running_var()), logical(once.running_var())));
}

TYPED_TEST(BatchNorm, RunningVarianceByEitherEstimator) {
  using Scalar = typename TypeParam::Scalar;
  tn::BatchNorm2d<Scalar> unbiased(this->channels, {.momentum = 1.0});
  tn::BatchNorm2d<Scalar> biased(this->channels, {.momentum = 1.0, .running_variance = tn::VarianceEstimator::biased});
  const auto x = this->images(1);
  EXPECT_TRUE(same_bits(logical(unbiased(x)), logical(biased(x)))) << "only the running variance differs";
  const double n = 3 * 2 * 5;
  for (Index c = 0; c < this->channels; ++c)
    EXPECT_NEAR(double(biased.running_var()(c)) * n / (n - 1), double(unbiased.running_var()(c)),
                double(ulps<Scalar>(2, unbiased.running_var()(c))));
}

// Row 97 of the faults, through a layer: a million steps of training with eval mode between them, against the recursion in long
// double. Running statistics stay below 1: each step rounds to half an ulp of that and forgets a tenth of the error before it.
TYPED_TEST(BatchNorm, RunningStatisticsDoNotDriftInAMillionSteps) {
  using Scalar = typename TypeParam::Scalar;
  tn::BatchNorm2d<Scalar> layer(2);
  typename TypeParam::template Tensor<4> x(2, 2, 1, 1), y(2, 2, 1, 1);
  long double mean[2] = {0, 0}, variance[2] = {1, 1};
  for (int i = 0; i < 1000000; ++i) {
    for (Index c = 0; c < 2; ++c) {
      const double centre = 0.5 * std::sin(0.1 * i + static_cast<double>(c)), distance = 0.5 + 0.4 * std::cos(0.7 * i);
      x(0, c, 0, 0) = static_cast<Scalar>(centre + distance);
      x(1, c, 0, 0) = static_cast<Scalar>(centre - distance);
      const long double a = x(0, c, 0, 0), b = x(1, c, 0, 0);
      mean[c] += 0.1L * ((a + b) / 2 - mean[c]);
      variance[c] += 0.1L * ((a - b) * (a - b) / 2 - variance[c]);
    }
    layer.forward(x, y);
    if (i % 5 != 0) continue;
    layer.eval();
    layer.forward(x, y);
    layer.train();
  }
  EXPECT_EQ(layer.running_stats().num_batches(), 1000000);
  const double tolerance = std::min(1e-6, 10.0 * std::numeric_limits<Scalar>::epsilon());
  for (Index c = 0; c < 2; ++c) {
    EXPECT_NEAR(layer.running_mean()(c), static_cast<double>(mean[c]), tolerance) << c;
    EXPECT_NEAR(layer.running_var()(c), static_cast<double>(variance[c]), tolerance) << c;
  }
}

TYPED_TEST(BatchNorm, AConstantChannelIsItsBias) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  for (const double eps : {1e-5, 0.0}) {
    tn::BatchNorm2d<Scalar> layer(this->channels, {.eps = eps, .momentum = 1.0});
    set_parameters(layer, random_values<Scalar>(4, 1), random_values<Scalar>(4, 2));
    Images x(3, 4, 2, 5);
    x.setConstant(Scalar(0.1));
    const Images y = layer(x);
    for (Index i = 0; i < size_of(this->shape); ++i) {
      const Shape at = coordinates(i, this->shape);
      EXPECT_EQ(coefficient(y, at), layer.bias()(at[1]));
    }
    EXPECT_EQ(layer.running_mean()(0), Scalar(0.1));
    EXPECT_EQ(layer.running_var()(0), 0);
  }
}

TYPED_TEST(BatchNorm, ANaNStaysInItsChannel) {
  using Scalar = typename TypeParam::Scalar;
  for (const auto& subject : all_subjects<TypeParam>(19, 6)) {
    if (subject->name.find("BatchNorm") == std::string::npos) continue;
    SCOPED_TRACE(subject->name);
    auto x = subject->random_x(1);
    const auto clean = subject->forward(x);
    x[x.size() / 2] = std::numeric_limits<Scalar>::quiet_NaN();
    const std::size_t poisoned = subject->norm.statistic(x.size() / 2);
    const auto y = subject->forward(x);
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (subject->norm.statistic(i) == poisoned) {
        EXPECT_TRUE(std::isnan(y[i]));
      } else {
        ASSERT_EQ(y[i], clean[i]) << i;
      }
    }
  }
}

// ---- worked cases: PyTorch's numbers, from layers as constructed ----

template <class Kind>
class BatchNormWorked : public testing::Test {};
using FloatKinds = testing::Types<Kind<float, Eigen::RowMajor>, Kind<float, Eigen::ColMajor>>;
TYPED_TEST_SUITE(BatchNormWorked, FloatKinds, KindNames);

TYPED_TEST(BatchNormWorked, TwoRowsBecomeOneAndMinusOne) {
  using Batch = typename TypeParam::template Tensor<2>;
  const golden::Case c = worked_case("two_rows");
  const Batch y = tn::BatchNorm1d<float>(3)(worked_x<Batch>(c));
  expect_worked(c, "BatchNorm1d", y);
  for (Index column = 0; column < 3; ++column) {
    EXPECT_NEAR(y(0, column), 1.0f, 1e-5f);  // 1 / sqrt(1 + eps)
    EXPECT_NEAR(y(1, column), -1.0f, 1e-5f);
  }
}

TYPED_TEST(BatchNormWorked, Images) {
  using Images = typename TypeParam::template Tensor<4>;
  const golden::Case c = worked_case("images");
  const Images x = worked_x<Images>(c);
  tn::BatchNorm2d<float> layer(3);
  Images y(x.dimensions());
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);
  expect_worked(c, "BatchNorm2d", y);
  EXPECT_EQ(saved.size(), 3);
  expect_worked_statistics<TypeParam>(c, "023", saved);
}

TYPED_TEST(BatchNormWorked, VolumesTwiceThenEval) {
  using Volumes = typename TypeParam::template Tensor<5>;
  const golden::Case c = worked_case("volumes_twice");
  const Volumes x = worked_x<Volumes>(c);
  tn::BatchNorm3d<float> layer(2, {.momentum = 0.3});
  for (const std::string step : {"first", "second"}) {
    expect_worked(c, step, layer(x));
    expect_golden(c, "running_mean_" + step, logical(layer.running_mean()), kGoldenRunningUlps);
    expect_golden(c, "running_var_" + step, logical(layer.running_var()), kGoldenRunningUlps);
  }
  layer.eval();
  expect_worked(c, "eval", layer(x));
}

// ---- construction ----

TEST(BatchNormOptions, DefaultsArePyTorchs) {
  const tn::BatchNorm2d<float> layer(64);
  EXPECT_EQ(layer.num_features(), 64);
  EXPECT_EQ(layer.eps(), 1e-5);
  EXPECT_EQ(layer.momentum(), 0.1);
  EXPECT_TRUE(layer.affine());
  EXPECT_TRUE(layer.track_running_stats());
  EXPECT_EQ(layer.weight().size(), 64);
  for (Index c = 0; c < 64; ++c) {
    EXPECT_EQ(layer.weight()(c), 1);
    EXPECT_EQ(layer.bias()(c), 0);
  }
  std::ostringstream text;
  text << layer;
  EXPECT_EQ(text.str(), "BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=true, track_running_stats=true)");
  text.str("");
  text << tn::BatchNorm1d<float>(3, {.affine = false, .running_variance = tn::VarianceEstimator::biased});
  EXPECT_EQ(text.str(), "BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=false, track_running_stats=true, running_variance=biased)");
}

TEST(BatchNormOptions, WithoutBiasHasAWeightAlone) {
  tn::BatchNorm1d<double> layer(3, {.bias = false});
  EXPECT_TRUE(layer.affine());
  EXPECT_TRUE(layer.has_weight());
  EXPECT_FALSE(layer.has_bias());
  EXPECT_EQ(layer.weight().size(), 3);
  EXPECT_THROW(layer.bias(), std::logic_error);
  EXPECT_EQ(layer.zero_gradients().bias.size(), 0);
  std::ostringstream text;
  text << layer;
  EXPECT_EQ(text.str(), "BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=true, bias=false, track_running_stats=true)");
  EXPECT_TRUE(tn::BatchNorm1d<double>(3).has_bias());
  EXPECT_FALSE(tn::BatchNorm1d<double>(3, {.affine = false}).has_weight());
  EXPECT_FALSE(tn::BatchNorm1d<double>(3, {.affine = false}).has_bias());
}

TEST(BatchNormOptions, NotAffineHasNoWeight) {
  tn::BatchNorm1d<double> layer(3, {.affine = false});
  EXPECT_FALSE(layer.affine());
  EXPECT_THROW(layer.weight(), std::logic_error);
  EXPECT_THROW(layer.bias(), std::logic_error);
}

}  // namespace
