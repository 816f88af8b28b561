// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/layers/layer_norm.hpp>

namespace tensornorm {

/// Options of RMSNorm.
struct RMSNormOptions {
  std::optional<double> eps = std::nullopt;  ///< finite and >= 0, in units of x^2; nullopt: see default_eps()
  bool elementwise_affine = true;            ///< has weight
};

/// y = x / sqrt(mean of x^2 + eps) * weight, over the last kNormalizedRank axes.
///
/// Shapes   as LayerNorm; there is no bias. saved.mean: 0.
/// Errors   as LayerNorm.
/// Source   Zhang & Sennrich 2019, arXiv:1910.07467.
template <class Scalar, int kNormalizedRank = 1>
class RMSNorm : public Normalization<Scalar, LayerAxes<kNormalizedRank>, kNormalizedRank> {
  using Base = Normalization<Scalar, LayerAxes<kNormalizedRank>, kNormalizedRank>;

 public:
  /// Errors   std::invalid_argument: an extent < 1, eps not finite or negative; std::length_error: more elements than there can be.
  explicit RMSNorm(const NormalizedShape<kNormalizedRank>& normalized_shape, RMSNormOptions options = {})
      : Base("RMSNorm", normalized_shape.extents(), rms_rule<Scalar>(options), options.elementwise_affine, false, {}) {}

  /// RMSNorm<float>({768}), which a copy of a layer made of 768 would match as well.
  template <std::integral I>
  explicit RMSNorm(const I (&normalized_shape)[1]) : RMSNorm(NormalizedShape<kNormalizedRank>(normalized_shape[0])) {}

  /// What eps is when none is given, as in PyTorch: 1.2e-7 for float and the 16-bit types, 2.2e-16 for double; the layer's, not x's.
  static double default_eps() { return rms_rule<Scalar>(RMSNormOptions{}).eps; }
  const Extents<kNormalizedRank>& normalized_shape() const { return this->affine().shape(); }

  friend std::ostream& operator<<(std::ostream& out, const RMSNorm& layer) {
    return out << "RMSNorm(" << ShapeText{layer.normalized_shape().data(), kNormalizedRank} << ", eps=" << layer.eps()
               << ", elementwise_affine=" << (layer.affine().has_weight() ? "true" : "false") << ')';
  }
};

}  // namespace tensornorm
