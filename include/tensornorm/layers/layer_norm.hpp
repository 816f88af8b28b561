// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/layers/normalization.hpp>

namespace tensornorm {

/// Options of LayerNorm.
struct LayerNormOptions {
  double eps = 1e-5;               ///< finite and >= 0, in units of x^2 (of x where added to the deviation)
  bool elementwise_affine = true;  ///< has weight
  bool bias = true;                ///< and bias, if elementwise_affine
  VarianceEstimator variance = VarianceEstimator::biased;  ///< or unbiased, as textbook code often has it
  EpsAddedTo eps_added_to = EpsAddedTo::variance;          ///< or to the deviation, its root
};

/// The shape of the last kRank axes of x: one extent, or a list of exactly kRank.
template <int kRank>
class NormalizedShape {
 public:
  /// Extents >= 1, which the layer checks.
  template <std::integral... I>
    requires(sizeof...(I) > 0)
  NormalizedShape(I... extents) {  // NOLINT(google-explicit-constructor): LayerNorm<float>(768)
    static_assert(sizeof...(I) == kRank, "tensornorm: normalized_shape must have as many extents as the layer's normalized rank");
    int i = 0;
    ((extents_[i++] = Index(extents)), ...);
  }
  NormalizedShape(const Extents<kRank>& extents) : extents_(extents) {}  // NOLINT(google-explicit-constructor)

  const Extents<kRank>& extents() const { return extents_; }

 private:
  Extents<kRank> extents_;
};

/// y = (x - mean) * rstd * weight + bias, with one mean and one rstd = 1 / sqrt(variance + eps) per index of the leading axes.
///
/// Shapes   x, y: (..., normalized_shape), either storage order. weight, bias: normalized_shape, RowMajor. Statistics: the leading axes.
/// Units    variance biased (/ n) unless chosen otherwise; eps in units of x^2, or of x when added to the deviation.
/// Errors   std::invalid_argument: x's last axes differ from normalized_shape; see Normalization.
/// Source   Ba, Kiros & Hinton 2016, arXiv:1607.06450.
template <class Scalar, int kNormalizedRank = 1>
class LayerNorm : public Normalization<Scalar, LayerAxes<kNormalizedRank>, kNormalizedRank> {
  using Base = Normalization<Scalar, LayerAxes<kNormalizedRank>, kNormalizedRank>;

 public:
  /// Errors   std::invalid_argument: an extent < 1, eps not finite or negative; std::length_error: more elements than there can be.
  explicit LayerNorm(const NormalizedShape<kNormalizedRank>& normalized_shape, LayerNormOptions options = {})
      : Base("LayerNorm", normalized_shape.extents(), rule_of(options),
             options.elementwise_affine, options.elementwise_affine && options.bias, {}) {}

  /// LayerNorm<float>({768}), which a copy of a layer made of 768 would match as well.
  template <std::integral I>
  explicit LayerNorm(const I (&normalized_shape)[1]) : LayerNorm(NormalizedShape<kNormalizedRank>(normalized_shape[0])) {}

  const Extents<kNormalizedRank>& normalized_shape() const { return this->affine().shape(); }

  friend std::ostream& operator<<(std::ostream& out, const LayerNorm& layer) {
    out << "LayerNorm(" << ShapeText{layer.normalized_shape().data(), kNormalizedRank} << ", eps=" << layer.eps()
        << ", elementwise_affine=" << (layer.affine().has_weight() ? "true" : "false")
        << ", bias=" << (layer.affine().has_bias() ? "true" : "false");
    return layer.rule().print_rest(out);
  }
};

}  // namespace tensornorm
