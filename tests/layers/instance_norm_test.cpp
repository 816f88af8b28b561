// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <sstream>
#include <tensornorm/tensornorm.hpp>

#include "support/golden_layers.hpp"

namespace {

using namespace support;

template <class Kind>
class InstanceNorm : public testing::Test {};
TYPED_TEST_SUITE(InstanceNorm, Kinds, KindNames);

TYPED_TEST(InstanceNorm, AgreesWithPyTorch) {
  expect_golden_file("instance_norm", [](const auto& c, auto f) { with_instance_norm<TypeParam>(c, f); });
}

TYPED_TEST(InstanceNorm, WorkedImages) {
  if constexpr (std::is_same_v<typename TypeParam::Scalar, float>) {
    using Images = typename TypeParam::template Tensor<4>;
    const golden::Case c = worked_case("images");
    const Images x = worked_x<Images>(c);
    Images y(x.dimensions());
    tn::InstanceNorm2d<float> layer(3);
    tn::SavedStats<float> saved;
    layer.forward(x, y, saved);
    expect_worked(c, "InstanceNorm2d", y);
    EXPECT_EQ(saved.size(), 6);
    expect_worked_statistics<TypeParam>(c, "23", saved);
  }
}

// Unbatched (C, H, W) is (1, C, H, W).
TYPED_TEST(InstanceNorm, UnbatchedIsABatchOfOne) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  using Image = typename TypeParam::template Tensor<3>;
  tn::InstanceNorm2d<Scalar> layer(3, {.affine = true, .track_running_stats = true});
  set_parameters(layer, random_values<Scalar>(3, 1), random_values<Scalar>(3, 2));
  auto twin = layer;
  const auto values = random_values<Scalar>(60, 3);
  const Image x = tensor_of<Image>({3, 4, 5}, values);
  Image y(x.dimensions());
  tn::SavedStats<Scalar> saved;
  layer.forward(x, y, saved);
  EXPECT_EQ(saved.size(), 3);
  const Images batched = tensor_of<Images>({1, 3, 4, 5}, values);
  EXPECT_TRUE(same_bits(logical(y), logical(twin(batched))));
  EXPECT_TRUE(same_bits(logical(layer.running_var()), logical(twin.running_var())));
  layer.eval();
  twin.eval();
  EXPECT_TRUE(same_bits(logical(layer(x)), logical(twin(batched))));
}

TYPED_TEST(InstanceNorm, ModesWithRunningStatistics) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  tn::InstanceNorm2d<Scalar> layer(3, {.track_running_stats = true});
  const Images x = tensor_of<Images>({2, 3, 4, 5}, random_values<Scalar>(120, 1, 2.0));
  const auto from_batch = logical(layer(x));
  EXPECT_EQ(layer.running_stats().num_batches(), 1);
  const auto inferred = logical(std::as_const(layer).infer(x));
  EXPECT_FALSE(same_bits(inferred, from_batch));
  EXPECT_EQ(layer.running_stats().num_batches(), 1);
  layer.eval();
  EXPECT_TRUE(same_bits(logical(layer(x)), inferred));
  layer.train();
  EXPECT_TRUE(same_bits(logical(layer(x)), from_batch));
  EXPECT_EQ(layer.running_stats().num_batches(), 2);
}

TYPED_TEST(InstanceNorm, WithoutRunningStatisticsTheModeChangesNothing) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  tn::InstanceNorm2d<Scalar> layer(3);
  const Images x = tensor_of<Images>({2, 3, 4, 5}, random_values<Scalar>(120, 1, 2.0));
  const auto y = logical(layer(x));
  layer.eval();
  EXPECT_TRUE(same_bits(logical(layer(x)), y));
  EXPECT_TRUE(same_bits(logical(std::as_const(layer).infer(x)), y));
}

// PyTorch does not move them at all with momentum None; here they are averaged, as BatchNorm's are.
TYPED_TEST(InstanceNorm, CumulativeMomentumAverages) {
  using Scalar = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<4>;
  tn::InstanceNorm2d<Scalar> cumulative(3, {.momentum = std::nullopt, .track_running_stats = true});
  std::vector<long double> mean(3), variance(3);
  for (unsigned batch = 1; batch <= 3; ++batch) {
    const Images x = tensor_of<Images>({2, 3, 4, 5}, random_values<Scalar>(120, batch));
    tn::InstanceNorm2d<Scalar> latest(3, {.momentum = 1.0, .track_running_stats = true});
    latest(x);
    cumulative(x);
    for (std::size_t c = 0; c < 3; ++c) {
      mean[c] += latest.running_mean()(static_cast<Index>(c)) / 3.0L;
      variance[c] += latest.running_var()(static_cast<Index>(c)) / 3.0L;
    }
  }
  EXPECT_EQ(cumulative.running_stats().num_batches(), 3);
  // Three steps of two rounded products and a sum each.
  EXPECT_TRUE(all_near(logical(cumulative.running_mean()), mean, ulps<Scalar>(4, largest(mean))));
  EXPECT_TRUE(all_near(logical(cumulative.running_var()), variance, ulps<Scalar>(4, largest(variance))));
}

TEST(InstanceNormOptions, DefaultsArePyTorchs) {
  const tn::InstanceNorm2d<float> layer(64);
  EXPECT_EQ(layer.num_features(), 64);
  EXPECT_EQ(layer.eps(), 1e-5);
  EXPECT_FALSE(layer.affine());
  EXPECT_FALSE(layer.track_running_stats());
  EXPECT_THROW(layer.weight(), std::logic_error);
  std::ostringstream text;
  text << layer;
  EXPECT_EQ(text.str(), "InstanceNorm2d(64, eps=1e-05, momentum=0.1, affine=false, track_running_stats=false)");
}

}  // namespace
