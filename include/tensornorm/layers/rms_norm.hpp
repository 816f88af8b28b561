// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/layers/layer_norm.hpp>

namespace tensornorm {

/// Options of RMSNorm.
struct RMSNormOptions {
  std::optional<double> eps = std::nullopt;  ///< finite and >= 0; nullopt: the epsilon of the accumulator of the layer's type
  bool elementwise_affine = true;            ///< has weight
};

/// y = x / sqrt(mean of x^2 + eps) * weight, over the last kNormalizedRank axes.
///
/// Shapes   as LayerNorm; there is no bias.
/// Source   Zhang & Sennrich 2019, arXiv:1910.07467.
template <class Scalar, int kNormalizedRank = 1>
class RMSNorm : public Normalization<Scalar, LayerAxes<kNormalizedRank>, kNormalizedRank> {
  using Base = Normalization<Scalar, LayerAxes<kNormalizedRank>, kNormalizedRank>;

 public:
  explicit RMSNorm(const NormalizedShape<kNormalizedRank>& normalized_shape, RMSNormOptions options = {})
      : Base("RMSNorm", normalized_shape.extents(), rms_rule<Scalar>(options), options.elementwise_affine, false, {}) {}

  /// RMSNorm<float>({768}), which a copy of a layer made of 768 would match as well.
  template <std::integral I>
    requires(kNormalizedRank == 1)
  explicit RMSNorm(const I (&normalized_shape)[1]) : RMSNorm(normalized_shape[0]) {}

  /// What eps is when none is given, as in PyTorch.
  static double default_eps() { return rms_rule<Scalar>(RMSNormOptions{}).eps; }
  const Extents<kNormalizedRank>& normalized_shape() const { return this->affine().shape(); }

  friend std::ostream& operator<<(std::ostream& out, const RMSNorm& layer) {
    return out << "RMSNorm(" << ShapeText{layer.normalized_shape().data(), kNormalizedRank} << ", eps=" << layer.eps()
               << ", elementwise_affine=" << (layer.affine().has_weight() ? "true" : "false") << ')';
  }
};

}  // namespace tensornorm
