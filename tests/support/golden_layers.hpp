// SPDX-License-Identifier: MIT
// Builds the library's layer for a golden case, feeds it as generate.py fed PyTorch's, and compares.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <tensornorm/tensornorm.hpp>
#include <vector>

#include "compare.hpp"
#include "golden.hpp"

namespace support {

namespace tn = tensornorm;

/// Fills weight and bias, flat RowMajor; empty vectors are for layers that have none.
template <class Layer, class Scalar>
void set_parameters(Layer& layer, const std::vector<Scalar>& weight, const std::vector<Scalar>& bias) {
  if (!weight.empty()) {
    ASSERT_EQ(static_cast<std::size_t>(layer.weight().size()), weight.size());
    std::copy(weight.begin(), weight.end(), layer.weight().data());
  }
  if (!bias.empty()) {
    ASSERT_EQ(static_cast<std::size_t>(layer.bias().size()), bias.size());
    std::copy(bias.begin(), bias.end(), layer.bias().data());
  }
}

template <class Options>
Options running_options(const golden::Case& c) {
  return {.eps = *c.option("eps"),
          .momentum = c.option("momentum"),
          .affine = c.flag("affine"),
          .track_running_stats = c.flag("track")};
}

/// Calls f.operator()<Tensor>(make()) with the tensor type of the case's rank, one of Ranks.
template <class Kind, int... Ranks, class Make, class F>
void with_tensor(const golden::Case& c, Make make, F f) {
  with_rank<Ranks...>(c.shape().size(),
                      [&]<int Rank>() { f.template operator()<typename Kind::template Tensor<Rank>>(make()); });
}

inline Index channels_of(const golden::Case& c) { return c.shape()[c.name.starts_with("unbatched") ? 0 : 1]; }

// with_x<Kind>(case, f) calls f.operator()<Tensor>(layer) with the layer of family x that the case asks for.

template <class Kind, class F>
void with_batch_norm(const golden::Case& c, F f) {
  using S = typename Kind::Scalar;
  const auto options = running_options<tn::BatchNormOptions>(c);
  const Index channels = channels_of(c);
  if (c.layer == "BatchNorm1d")
    with_tensor<Kind, 2, 3>(
        c, [&] { return tn::BatchNorm1d<S>(channels, options); }, f);
  if (c.layer == "BatchNorm2d")
    with_tensor<Kind, 4>(
        c, [&] { return tn::BatchNorm2d<S>(channels, options); }, f);
  if (c.layer == "BatchNorm3d")
    with_tensor<Kind, 5>(
        c, [&] { return tn::BatchNorm3d<S>(channels, options); }, f);
}

template <class Kind, class F>
void with_instance_norm(const golden::Case& c, F f) {
  using S = typename Kind::Scalar;
  const auto options = running_options<tn::InstanceNormOptions>(c);
  const Index channels = channels_of(c);
  if (c.layer == "InstanceNorm1d")
    with_tensor<Kind, 2, 3>(
        c, [&] { return tn::InstanceNorm1d<S>(channels, options); }, f);
  if (c.layer == "InstanceNorm2d")
    with_tensor<Kind, 3, 4>(
        c, [&] { return tn::InstanceNorm2d<S>(channels, options); }, f);
  if (c.layer == "InstanceNorm3d")
    with_tensor<Kind, 4, 5>(
        c, [&] { return tn::InstanceNorm3d<S>(channels, options); }, f);
}

template <class Kind, class F>
void with_group_norm(const golden::Case& c, F f) {
  const auto groups = static_cast<Index>(*c.option("num_groups"));
  const tn::GroupNormOptions options{.eps = *c.option("eps"), .affine = c.flag("affine")};
  with_tensor<Kind, 2, 3, 4, 5>(
      c, [&] { return tn::GroupNorm<typename Kind::Scalar>(groups, channels_of(c), options); }, f);
}

/// Layer is tn::LayerNorm or tn::RMSNorm.
template <class Kind, template <class, int> class Layer, class Options, class F>
void with_last_axes(const golden::Case& c, const Options& options, F f) {
  using S = typename Kind::Scalar;
  with_tensor<Kind, 3, 4>(
      c, [] { return 0; },
      [&]<class Tensor>(int) {
        const Shape& shape = c.shape();
        const std::size_t last = shape.size() - 1;
        switch (static_cast<int>(*c.option("normalized_rank"))) {
          case 1:
            return f.template operator()<Tensor>(Layer<S, 1>({shape[last]}, options));
          case 2:
            return f.template operator()<Tensor>(Layer<S, 2>({shape[last - 1], shape[last]}, options));
          default:
            return f.template operator()<Tensor>(Layer<S, 3>({shape[last - 2], shape[last - 1], shape[last]}, options));
        }
      });
}

template <class Kind, class F>
void with_layer_norm(const golden::Case& c, F f) {
  const tn::LayerNormOptions options{
      .eps = *c.option("eps"),
      .elementwise_affine = c.flag("elementwise_affine"),
      .bias = c.flag("bias"),
      .variance = c.flag("unbiased") ? tn::VarianceEstimator::unbiased : tn::VarianceEstimator::biased,
      .eps_added_to = c.flag("eps_added_to_deviation") ? tn::EpsAddedTo::deviation : tn::EpsAddedTo::variance};
  with_last_axes<Kind, tn::LayerNorm>(c, options, f);
}

template <class Kind, class F>
void with_rms_norm(const golden::Case& c, F f) {
  const tn::RMSNormOptions options{.eps = c.option("eps"), .elementwise_affine = c.flag("elementwise_affine")};
  with_last_axes<Kind, tn::RMSNorm>(c, options, f);
}

/// PyTorch computes y as x * (weight * rstd) + (bias - mean * weight * rstd), each rounded in its own type: an ulp of
/// mean / deviation, up to 6 in these data, beside an ulp for every other step and for our own. Relative to the largest
/// y.
constexpr double kGoldenUlps = 16;
/// A running statistic: its estimate, two products, one sum, in either library.
constexpr double kGoldenRunningUlps = 4;

template <class Scalar>
void expect_golden(const golden::Case& c, const std::string& key, const std::vector<Scalar>& actual, double k) {
  const auto expected = c.values<Scalar>(key);
  EXPECT_TRUE(all_near(actual, expected, ulps<Scalar>(k, largest(expected)))) << key;
}

/// y, then with running statistics both of them after each of two batches, and eval mode.
template <class Tensor, class Layer>
void expect_golden_forward(Layer layer, const golden::Case& c) {
  using Scalar = typename Tensor::Scalar;
  set_parameters(layer, c.values<Scalar>("weight"), c.values<Scalar>("bias"));
  const auto x = tensor_of<Tensor>(c.shape(), c.values<Scalar>("x"));
  expect_golden(c, "y", logical(layer(x)), kGoldenUlps);
  if constexpr (requires { layer.running_stats(); }) {
    if (!c.flag("track")) return;
    expect_golden(c, "running_mean", logical(layer.running_mean()), kGoldenRunningUlps);
    expect_golden(c, "running_var", logical(layer.running_var()), kGoldenRunningUlps);
    EXPECT_EQ(layer.running_stats().num_batches(), 1);
    expect_golden(c, "y2", logical(layer(tensor_of<Tensor>(c.shape(), c.values<Scalar>("x2")))), kGoldenUlps);
    expect_golden(c, "running_mean2", logical(layer.running_mean()), kGoldenRunningUlps);
    expect_golden(c, "running_var2", logical(layer.running_var()), kGoldenRunningUlps);
    EXPECT_EQ(layer.running_stats().num_batches(), 2);
    expect_golden(c, "y_eval", logical(std::as_const(layer).infer(x)), kGoldenUlps);
    layer.eval();
    expect_golden(c, "y_eval", logical(layer(x)), kGoldenUlps);
    expect_golden(c, "running_mean2", logical(layer.running_mean()), kGoldenRunningUlps);
    EXPECT_EQ(layer.running_stats().num_batches(), 2);
  }
}

/// with_family is one of the functions above, in a lambda: (case, f).
template <class WithFamily>
void expect_golden_file(const std::string& file, WithFamily with_family) {
  for (const golden::Case& c : golden::load(file)) {
    SCOPED_TRACE(c.layer + " " + c.name);
    with_family(c, [&]<class Tensor>(auto layer) { expect_golden_forward<Tensor>(std::move(layer), c); });
  }
}

// ---- the worked cases: small inputs, layers as constructed ----

inline golden::Case worked_case(const std::string& name) {
  for (golden::Case& c : golden::load("worked_cases"))
    if (c.name == name) return c;
  throw std::out_of_range("no worked case " + name);
}

template <class Tensor>
Tensor worked_x(const golden::Case& c) {
  return tensor_of<Tensor>(c.shape(), c.values<float>("x"));
}

template <class Tensor>
void expect_worked(const golden::Case& c, const std::string& key, const Tensor& y) {
  expect_golden(c, key, logical(y), kGoldenUlps);
}

/// Saved statistics against PyTorch's mean and biased variance over these axes, in double; eps is the default 1e-5.
template <class Kind>
void expect_worked_statistics(const golden::Case& c, const std::string& axes, const tn::SavedStats<float>& saved) {
  const golden::Tensor& mean = c.tensor<double>("mean_" + axes);
  const golden::Tensor& variance = c.tensor<double>("variance_" + axes);
  ASSERT_EQ(Shape(saved.shape().begin(), saved.shape().end()), mean.shape);
  for (std::size_t s = 0; s < mean.values.size(); ++s) {
    const Index flat = storage_index<Kind::order>(coordinates(static_cast<Index>(s), mean.shape), mean.shape);
    const double rstd = 1 / std::sqrt(variance.values[s] + 1e-5);
    // Sums of floats: an ulp of float of the largest |x| (here below 4 deviations) for the mean, two for rstd.
    EXPECT_NEAR(saved.mean()(flat), mean.values[s], double(ulps<float>(1, 4 / rstd)));
    EXPECT_NEAR(saved.rstd()(flat), rstd, double(ulps<float>(2, rstd)));
  }
}

}  // namespace support
