// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/layers/normalization.hpp>

namespace tensornorm {

/// Options of GroupNorm.
struct GroupNormOptions {
  double eps = 1e-5;   ///< finite and >= 0, added to the variance
  bool affine = true;  ///< has weight
  bool bias = true;    ///< and bias, if affine
};

/// y = (x - mean) * rstd * weight + bias, with one mean and one rstd per image and group of channels; weight and bias per channel.
///
/// Shapes   x, y: (N, C, ...) of rank 2 to 8; or the channel axis where Axes says. weight, bias: (num_channels). Statistics: (N, G).
/// Units    mean, variance in units of x and x^2, the variance biased; rstd = 1 / sqrt(variance + eps).
/// Errors   std::invalid_argument: C mismatch; see Normalization. A group of one value gives y = bias.
/// Source   Wu & He 2018, arXiv:1803.08494.
template <class Scalar, class Axes = GroupAxes<1>>
class GroupNorm : public Normalization<Scalar, Axes> {
  using Base = Normalization<Scalar, Axes>;

 public:
  /// Errors   std::invalid_argument: num_groups or num_channels < 1, or not divisible, eps not finite or negative; std::length_error.
  GroupNorm(Index num_groups, Index num_channels, GroupNormOptions options = {})
      : Base("GroupNorm", {checked_channels(num_groups, num_channels)}, {options.eps}, options.affine,
             options.affine && options.bias, Axes{num_groups}) {}

  Index num_groups() const { return this->policy().groups; }
  Index num_channels() const { return this->affine().size(); }

  friend std::ostream& operator<<(std::ostream& out, const GroupNorm& layer) {
    return out << "GroupNorm(" << layer.num_groups() << ", " << layer.num_channels() << ", eps=" << layer.eps()
               << ", affine=" << (layer.affine().has_weight() ? "true" : "false") << (layer.affine().lacks_bias() ? ", bias=false" : "") << ')';
  }

 private:
  static Index checked_channels(Index groups, Index channels) {
    const Call call{"GroupNorm", "constructor"};
    if (groups < 1) fail(call, "num_groups must be >= 1, got ", groups);
    checked_features(call, "num_channels", channels);
    if (channels % groups != 0) fail(call, "num_channels (", channels, ") must be divisible by num_groups (", groups, ")");
    return channels;
  }
};

}  // namespace tensornorm
