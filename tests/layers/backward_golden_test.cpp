// SPDX-License-Identifier: MIT
// PyTorch's gradients, of every layer, in train and eval mode.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include "support/golden_layers.hpp"
#include "support/golden_norm.hpp"

namespace {

using namespace support;

/// PyTorch's rounding and ours, relative to the terms before they cancel: an ulp or so each. PyTorch's GroupNorm forms dx as
/// a * dy + b * x + c, where b * x is rounded as x has it, not x - mean: up to 6 deviations in these data. Measured: 4.9 in
/// GroupNorm in double, 1.3 in everything else.
constexpr double kGradientUlps = 6;

template <class Tensor, class Layer>
void expect_gradients(Layer& layer, const golden::Case& c, const std::string& suffix, const reference::Norm& norm,
                      const reference::Statistics& statistics) {
  using Scalar = typename Tensor::Scalar;
  const Tensor x = tensor_of<Tensor>(c.shape(), c.values<Scalar>("x"));
  const Tensor dy = tensor_of<Tensor>(c.shape(), c.values<Scalar>("dy"));
  Tensor y(x.dimensions());
  tn::SavedStats<Scalar> saved;
  layer.forward(x, y, saved);
  const auto [dx, dweight, dbias] = layer.backward(dy, x, saved);

  const auto real = [&](const char* key) { return reference::real(c.values<Scalar>(key)); };
  const auto near = [&](const std::string& key, const std::vector<Scalar>& actual, const reference::Values& terms) {
    EXPECT_TRUE(all_near(actual, c.values<Scalar>(key), ulps<Scalar>(kGradientUlps, terms))) << key;
  };
  const auto flat = [](const auto& tensor) {
    return std::vector<Scalar>(tensor.data(), tensor.data() + tensor.size());
  };
  near("dx" + suffix, logical(dx), reference::terms_of_dx(norm, real("dy"), real("x"), real("weight"), statistics));
  const auto terms =
      reference::terms_of_parameters(norm, real("dy"), reference::normalized(norm, real("x"), statistics));
  if (c.find<Scalar>("weight")) near("dweight" + suffix, flat(dweight), terms);
  if (c.find<Scalar>("bias")) near("dbias" + suffix, flat(dbias), terms);
  EXPECT_EQ(dweight.size(), static_cast<Index>(c.values<Scalar>("weight").size()));
  EXPECT_EQ(dbias.size(), static_cast<Index>(c.values<Scalar>("bias").size()));
}

template <class Kind>
class GoldenGradients : public testing::Test {
 protected:
  using S = typename Kind::Scalar;

  template <class WithFamily>
  void expect_file(const std::string& file, WithFamily with_family) {
    for (const golden::Case& c : golden::load(file)) {
      SCOPED_TRACE(c.layer + " " + c.name);
      reference::Norm norm = norm_of(c);
      if (!c.option("eps")) norm.eps = std::numeric_limits<S>::epsilon();
      const auto x = reference::real(c.values<S>("x"));
      with_family(c, [&]<class Tensor>(auto layer) {
        set_parameters(layer, c.values<S>("weight"), c.values<S>("bias"));
        expect_gradients<Tensor>(layer, c, "", norm, reference::moments(norm, x));
        if constexpr (requires { layer.running_mean(); }) {
          if (!c.flag("track")) return;
          layer(tensor_of<Tensor>(c.shape(), c.values<S>("x2")));
          layer.eval();
          auto running = reference::moments(norm, x);
          for (std::size_t s = 0; s < running.mean.size(); ++s) {
            const auto channel = static_cast<Index>(s) % layer.running_mean().size();
            running.mean[s] = layer.running_mean()(channel);
            running.mean_lo[s] = 0;
            running.variance[s] = layer.running_var()(channel);
          }
          expect_gradients<Tensor>(layer, c, "_eval", norm, running);
        }
      });
    }
  }
};
TYPED_TEST_SUITE(GoldenGradients, Kinds, KindNames);

TYPED_TEST(GoldenGradients, BatchNorm) {
  this->expect_file("batch_norm", [](const auto& c, auto f) { with_batch_norm<TypeParam>(c, f); });
}
TYPED_TEST(GoldenGradients, InstanceNorm) {
  this->expect_file("instance_norm", [](const auto& c, auto f) { with_instance_norm<TypeParam>(c, f); });
}
TYPED_TEST(GoldenGradients, LayerNorm) {
  this->expect_file("layer_norm", [](const auto& c, auto f) { with_layer_norm<TypeParam>(c, f); });
}
TYPED_TEST(GoldenGradients, TextbookLayerNorm) {
  this->expect_file("textbook_layer_norm", [](const auto& c, auto f) { with_layer_norm<TypeParam>(c, f); });
}
TYPED_TEST(GoldenGradients, GroupNorm) {
  this->expect_file("group_norm", [](const auto& c, auto f) { with_group_norm<TypeParam>(c, f); });
}
TYPED_TEST(GoldenGradients, RMSNorm) {
  this->expect_file("rms_norm", [](const auto& c, auto f) { with_rms_norm<TypeParam>(c, f); });
}

}  // namespace
