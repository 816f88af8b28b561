// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/layers/tracked_normalization.hpp>

namespace tensornorm {

/// Options of BatchNorm.
struct BatchNormOptions {
  double eps = 1e-5;                     ///< finite and >= 0, added to the variance
  std::optional<double> momentum = 0.1;  ///< weight of the new value, in [0, 1]; nullopt: cumulative average
  bool affine = true;                    ///< has weight
  bool track_running_stats = true;       ///< without, each batch is normalized by itself in eval mode too
  VarianceEstimator running_variance = VarianceEstimator::unbiased;  ///< or biased, as Keras, Flax and ONNX have it
  bool bias = true;                      ///< has bias as well, if affine
};

/// y = (x - mean) * rstd * weight + bias, with one mean and one rstd = 1 / sqrt(variance + eps) per channel.
///
/// In training mode mean and variance come from this batch and the running statistics move towards them.
/// In eval mode the running statistics are used and nothing changes; a layer that tracks none uses the batch's then, too.
///
/// Shapes   x, y: (N, C, spatial axes), either storage order, C == num_features(); 1d also (N, C); or the channels where Axes says, last by
///          BatchAxes<-1>. weight, bias, running statistics, saved.mean(), saved.rstd(): (C).
/// Units    mean, variance in units of x and x^2. Biased (/ n) here; running variance is unbiased unless the options say otherwise. n = N * spatial extents.
/// Aliasing y may be exactly x (then backward_from_output, not backward); any other overlap is an error.
/// Errors   std::invalid_argument before anything is written: C mismatch, y's shape, overlaps, n = 1 where the batch's statistics are used.
///          std::logic_error: see TrackedNormalization. An empty x is no error: nothing changes but saved (see SavedStats).
/// Accuracy see README; bitwise equal for any thread count.
/// Source   Ioffe & Szegedy 2015, arXiv:1502.03167; Welford 1962; Chan, Golub & LeVeque 1979.
template <class Scalar, int kSpatialRank, class Axes = BatchAxes<1>>
class BatchNorm : public TrackedNormalization<Scalar, Axes, Axes, kSpatialRank, false> {
  using Base = TrackedNormalization<Scalar, Axes, Axes, kSpatialRank, false>;

 public:
  static_assert(kSpatialRank >= 1 && kSpatialRank <= 3);

  /// Errors   std::invalid_argument: num_features < 1, eps not finite or negative, momentum outside [0, 1]; std::length_error: num_features
  ///          elements are more than there can be.
  explicit BatchNorm(Index num_features, BatchNormOptions options = {})
      : Base(kName, "Expected more than 1 value per channel when training", num_features,
             {options.eps, options.momentum, options.affine, options.track_running_stats, options.running_variance, options.bias}) {}

 private:
  static constexpr const char* kName = kSpatialRank == 1 ? "BatchNorm1d" : kSpatialRank == 2 ? "BatchNorm2d" : "BatchNorm3d";
};

/// x: (N, C) or (N, C, L).
template <class Scalar, class Axes = BatchAxes<1>>
using BatchNorm1d = BatchNorm<Scalar, 1, Axes>;
/// x: (N, C, H, W).
template <class Scalar, class Axes = BatchAxes<1>>
using BatchNorm2d = BatchNorm<Scalar, 2, Axes>;
/// x: (N, C, D, H, W).
template <class Scalar, class Axes = BatchAxes<1>>
using BatchNorm3d = BatchNorm<Scalar, 3, Axes>;

}  // namespace tensornorm
