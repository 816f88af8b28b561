// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <limits>
#include <sstream>
#include <stdexcept>
#include <tensornorm/tensornorm.hpp>

#include "support/golden_layers.hpp"

namespace {

using namespace support;

template <class Kind>
class RMSNorm : public testing::Test {};
TYPED_TEST_SUITE(RMSNorm, Kinds, KindNames);

TYPED_TEST(RMSNorm, AgreesWithItsFormula) {
  expect_golden_file("rms_norm", [](const auto& c, auto f) { with_rms_norm<TypeParam>(c, f); });
}

TYPED_TEST(RMSNorm, EpsIsTheAccumulatorsEpsilonUnlessGiven) {
  using Scalar = typename TypeParam::Scalar;
  EXPECT_EQ(tn::RMSNorm<Scalar>(4).eps(), double(std::numeric_limits<Scalar>::epsilon()));
  EXPECT_EQ(tn::RMSNorm<Scalar>(4, {.eps = 1e-6}).eps(), 1e-6);
}

TYPED_TEST(RMSNorm, AZeroRowStaysZero) {
  using Scalar = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  for (const double eps : {1e-6, 0.0}) {
    Rows x(2, 19);
    x.setZero();
    const Rows y = tn::RMSNorm<Scalar>(19, {.eps = eps})(x);
    for (Index i = 0; i < 19; ++i) EXPECT_EQ(y(1, i), 0);
  }
}

TYPED_TEST(RMSNorm, TheMeanIsNotRemoved) {
  using Scalar = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  Rows x(3, 33);
  x.setConstant(Scalar(-7));
  const Rows y = tn::RMSNorm<Scalar>(33)(x);
  for (Index i = 0; i < 33; ++i) EXPECT_NEAR(y(2, i), -1, 2 * std::numeric_limits<Scalar>::epsilon());
}

TEST(RMSNormOptions, DefaultsArePyTorchs) {
  tn::RMSNorm<float, 2> layer({3, 4});
  EXPECT_EQ(layer.weight().size(), 12);
  EXPECT_EQ(layer.weight().data()[11], 1);
  EXPECT_THROW((tn::RMSNorm<float>(3, {.elementwise_affine = false}).weight()), std::logic_error);
  std::ostringstream text;
  text << layer;
  EXPECT_EQ(text.str().rfind("RMSNorm(", 0), 0u) << text.str();
}

}  // namespace
