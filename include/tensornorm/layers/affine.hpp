// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/check.hpp>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/ops/parameter_order.hpp>
#include <utility>

namespace tensornorm {

/// Gradients of weight and bias; a tensor of size 0 where the layer has no such parameter.
template <class Scalar, int kRank = 1>
struct ParameterGradients {
  Eigen::Tensor<Scalar, kRank, Eigen::RowMajor> weight, bias;
};

/// What backward(dy, x, saved) returns.
template <class X, class Scalar, int kRank = 1>
struct LayerGradients {
  X dx;
  Eigen::Tensor<Scalar, kRank, Eigen::RowMajor> dweight, dbias;  ///< of size 0 where the layer has no such parameter
};

/// The weight (starts at 1) and bias (starts at 0) of a layer, dense RowMajor, of normalized_shape's rank or rank 1.
template <class Scalar, int kRank = 1>
class Affine {
 public:
  static_assert(RealScalar<Scalar>, "tensornorm: a layer's scalar must be a real floating-point type");
  using Tensor = Eigen::Tensor<Scalar, kRank, Eigen::RowMajor>;
  using Shape = Extents<kRank>;

  Affine(const char* layer, const Shape& shape, bool has_weight, bool has_bias)
      : layer_(layer), shape_(shape), has_weight_(has_weight), has_bias_(has_bias) {
    if (has_weight) weight_ = filled(Scalar(1));
    if (has_bias) bias_ = filled(Scalar(0));
  }
  Affine(const Affine&) = default;
  /// Leaves `other` without a shape: check_whole() refuses it.
  Affine(Affine&& other) noexcept
      : layer_(other.layer_), shape_(std::exchange(other.shape_, Shape{})), has_weight_(other.has_weight_), has_bias_(other.has_bias_),
        weight_(std::move(other.weight_)), bias_(std::move(other.bias_)) {}
  /// All of `other`, or, where memory runs out, nothing: Eigen's tensors free theirs before they ask for more.
  Affine& operator=(const Affine& other) { return *this = Affine(other); }
  Affine& operator=(Affine&& other) noexcept {
    Affine taken(std::move(other));
    layer_ = taken.layer_;
    shape_ = taken.shape_;
    has_weight_ = taken.has_weight_;
    has_bias_ = taken.has_bias_;
    std::swap(weight_, taken.weight_);
    std::swap(bias_, taken.bias_);
    return *this;
  }

  /// The layer's name, as in its errors.
  const char* layer() const { return layer_; }
  bool has_weight() const { return has_weight_; }
  bool has_bias() const { return has_bias_; }
  /// Of the two it has weight alone.
  bool lacks_bias() const { return has_weight_ && !has_bias_; }
  const Shape& shape() const { return shape_; }
  Index size() const {
    Index n = 1;
    for (Index extent : shape_) n *= extent;
    return n;
  }
  /// Errors: std::logic_error where the layer has none, or was moved from.
  Tensor& weight() { return existing(weight_, has_weight_, "weight"); }
  const Tensor& weight() const { return const_cast<Affine*>(this)->weight(); }
  Tensor& bias() { return existing(bias_, has_bias_, "bias"); }
  const Tensor& bias() const { return const_cast<Affine*>(this)->bias(); }

  /// The parameters for a call; a user may have assigned tensors of another shape, or have moved the layer away (std::logic_error).
  Parameters<Scalar> checked(const Call& call) const {
    check_whole(call);
    check(call, "weight", weight_, has_weight_);
    check(call, "bias", bias_, has_bias_);
    return {has_weight_ ? weight_.data() : nullptr, has_bias_ ? bias_.data() : nullptr};
  }
  /// For the layer's function of this name. Errors: std::logic_error where it was moved from.
  ParameterGradients<Scalar, kRank> zero_gradients(const char* function) const {
    check_whole({layer_, function});
    ParameterGradients<Scalar, kRank> zero;
    if (has_weight_) zero.weight = filled(Scalar(0));
    if (has_bias_) zero.bias = filled(Scalar(0));
    return zero;
  }
  /// The gradients a call adds to, checked; null for tn::none and for parameters the layer does not have.
  template <class Gradients>
  Parameters<Scalar, Scalar*> checked_gradients(const Call& call, Gradients& gradients) const {
    constexpr bool ours = std::is_same_v<Gradients, ParameterGradients<Scalar, kRank>>;
    static_assert(ours || is_none<Gradients>, "tensornorm: expected the gradients that zero_gradients() returns, or tn::none");
    if constexpr (ours) {
      check(call, "dweight", gradients.weight, has_weight_);
      check(call, "dbias", gradients.bias, has_bias_);
      return {has_weight_ ? gradients.weight.data() : nullptr, has_bias_ ? gradients.bias.data() : nullptr};
    } else {
      return {};
    }
  }
  /// Errors: std::invalid_argument where a tensor is not of the parameters' shape.
  void check(const Call& call, const char* name, const Tensor& tensor, bool exists) const {
    if (exists && shape_of(tensor) != shape_) refuse(call, name, tensor);
  }

 private:
  static Shape shape_of(const Tensor& tensor) {
    Shape shape;
    for (int i = 0; i < kRank; ++i) shape[i] = Index(tensor.dimensions()[std::size_t(i)]);
    return shape;
  }
  [[noreturn]] TENSORNORM_RARE void refuse(Call call, const char* name, const Tensor& tensor) const {
    const Shape got = shape_of(tensor);
    fail(call, name, ": expected ", ShapeText{shape_.data(), kRank}, ", got ", ShapeText{got.data(), kRank});
  }
  /// Errors: std::logic_error where the layer was moved from.
  void check_whole(const Call& call) const {
    if (shape_[0] == 0) fail<std::logic_error>(call, "expected a layer, got one that was moved from");
  }
  Tensor filled(Scalar value) const {
    typename Tensor::Dimensions extents;
    for (int i = 0; i < kRank; ++i) extents[std::size_t(i)] = Eigen::Index(shape_[i]);
    Tensor tensor(extents);
    tensor.setConstant(value);
    return tensor;
  }
  Tensor& existing(Tensor& tensor, bool exists, const char* name) {
    check_whole({layer_, name});
    if (!exists) fail<std::logic_error>({layer_, name}, "the layer was constructed without ", name);
    return tensor;
  }

  const char* layer_;
  Shape shape_;
  bool has_weight_, has_bias_;
  Tensor weight_, bias_;
};

}  // namespace tensornorm
