// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/layers/tracked_normalization.hpp>

namespace tensornorm {

/// Options of InstanceNorm.
struct InstanceNormOptions {
  double eps = 1e-5;                     ///< finite and >= 0, added to the variance
  std::optional<double> momentum = 0.1;  ///< weight of the new value, in [0, 1]; nullopt: cumulative average
  bool affine = false;                   ///< has weight
  bool track_running_stats = false;      ///< without, each image is normalized by itself in eval mode too
  VarianceEstimator running_variance = VarianceEstimator::unbiased;  ///< or biased, as Keras, Flax and ONNX have it
  bool bias = true;                      ///< has bias as well, if affine
};

/// y = (x - mean) * rstd * weight + bias, with one mean and one rstd = 1 / sqrt(variance + eps) per image and channel.
///
/// With running statistics, one mean and variance per channel move towards the average over the images; eval mode uses them.
///
/// Shapes   x, y: (N, C, spatial axes) or, unbatched, (C, spatial axes); or the channels where Axes says. C == num_features(). saved.mean(),
///          saved.rstd(): flat, of (N, C), N = 1 unbatched; of (C) where they are running statistics.
/// Units    as BatchNorm, n = the product of the spatial extents.
/// Aliasing y may be exactly x (then backward_from_output, not backward); any other overlap is an error.
/// Errors   std::invalid_argument before anything is written: C mismatch, y's shape, overlaps, one spatial element where x's statistics are
///          used. std::logic_error: see TrackedNormalization. An empty x as BatchNorm.
/// Source   Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.
template <class Scalar, int kSpatialRank, class Axes = InstanceAxes<1>>
class InstanceNorm : public TrackedNormalization<Scalar, Axes, BatchAxes<Axes::channel_axis>, kSpatialRank, true> {
  using Base = TrackedNormalization<Scalar, Axes, BatchAxes<Axes::channel_axis>, kSpatialRank, true>;

 public:
  static_assert(kSpatialRank >= 1 && kSpatialRank <= 3);

  /// Errors   std::invalid_argument: num_features < 1, eps not finite or negative, momentum outside [0, 1]; std::length_error: num_features
  ///          elements are more than there can be.
  explicit InstanceNorm(Index num_features, InstanceNormOptions options = {})
      : Base(kName, "Expected more than 1 spatial element when training", num_features,
             {options.eps, options.momentum, options.affine, options.track_running_stats, options.running_variance, options.bias}) {}

 private:
  static constexpr const char* kName = kSpatialRank == 1 ? "InstanceNorm1d" : kSpatialRank == 2 ? "InstanceNorm2d" : "InstanceNorm3d";
};

/// x: (N, C, L) or (C, L).
template <class Scalar, class Axes = InstanceAxes<1>>
using InstanceNorm1d = InstanceNorm<Scalar, 1, Axes>;
/// x: (N, C, H, W) or (C, H, W).
template <class Scalar, class Axes = InstanceAxes<1>>
using InstanceNorm2d = InstanceNorm<Scalar, 2, Axes>;
/// x: (N, C, D, H, W) or (C, D, H, W).
template <class Scalar, class Axes = InstanceAxes<1>>
using InstanceNorm3d = InstanceNorm<Scalar, 3, Axes>;

}  // namespace tensornorm
