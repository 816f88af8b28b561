// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <initializer_list>
#include <ostream>
#include <tensornorm/layers/affine.hpp>
#include <tensornorm/ops/backward.hpp>
#include <tensornorm/ops/normalize.hpp>
#include <tensornorm/ops/one_row.hpp>

namespace tensornorm {

/// Options of Normalization.
struct NormalizationOptions {
  double eps = 1e-5;   ///< finite and >= 0, in units of x^2 (of x where added to the deviation)
  bool affine = true;  ///< has weight
  bool bias = true;    ///< and bias, if affine
  VarianceEstimator variance = VarianceEstimator::biased;  ///< or unbiased, as textbook code often has it
  EpsAddedTo eps_added_to = EpsAddedTo::variance;          ///< or to the deviation, its root
};

/// y = (x - mean) * rstd * weight + bias, over the axes that Policy reduces, with weight and bias along those it calls affine.
///
/// The stateless layers are this class with a policy and a constructor of their own; it has no running statistics, so that
/// training and evaluation are the same and `infer` is `forward`.
///
/// Shapes   x, y: any rank the policy is meant for, at most 9 (8 where it splits an axis), either storage order; y is never resized.
/// Aliasing y may be exactly x (then backward_from_output, not backward); any other overlap with x, weight or bias is an error.
/// Errors   std::invalid_argument before anything is written: shapes, overlaps, a lone sample with an unbiased variance; an empty x is no
///          error. std::logic_error: a layer that was moved from. std::length_error: a new y that Eigen's index cannot count.
/// device   Eigen::DefaultDevice, or Eigen::ThreadPoolDevice, for which the caller waits: it must hold no lock that the pool's tasks want.
/// Accuracy see README; the same bits for any number of threads, in place or not, and on every instruction set with FMA.
/// Complexity O(size of x), one read of it where a statistic's data fits the cache; no allocation where the thread has made such a call before, see README.
///
/// kParameterRank: that of weight and bias; 1 for a policy of the user's own.
template <class Scalar, class Policy, int kParameterRank = 1>
class Normalization {
  static_assert(AxisPolicy<Policy>, "tensornorm: a policy needs a member `static constexpr AxisRole role(int axis, int rank)`");

 public:
  /// What forward(x, y, saved) keeps for backward.
  using Saved = SavedStats<Scalar>;

  /// A layer with a policy of the user's own; `affine_shape` is the shape of the policy's affine axes, or the number of its elements: {1}
  /// of a policy without any. x has to have it whether there are parameters or not. weight and bias are flat, RowMajor over these axes.
  ///
  /// Errors   std::invalid_argument: no extent, more than 10, one < 1, eps not finite or negative; std::length_error: more elements than
  ///          there can be.
  explicit Normalization(std::initializer_list<Index> affine_shape, NormalizationOptions options = {}, Policy policy = {})
    requires(kParameterRank == 1)
      : Normalization("Normalization",
                      {checked_size({"Normalization", "constructor"}, "affine_shape", affine_shape.begin(), int(affine_shape.size()))},
                      rule_of(options), options.affine, options.affine && options.bias, policy) {
    if (affine_shape.size() > kMaxLoops) fail({name(), "constructor"}, "expected affine_shape of at most ", kMaxLoops, " extents");
    named_ = int(affine_shape.size());
    std::copy(affine_shape.begin(), affine_shape.end(), extents_.begin());
  }

  /// For layers made of this one; `name` is kept, not copied. RMSNorm's rule is not centered.
  Normalization(const char* name, const Extents<kParameterRank>& shape, const StatisticsRule& rule, bool weight,
                bool bias, Policy policy)
      : affine_(name, checked(name, shape, rule), weight, bias), policy_(policy), rule_(rule) {}

  /// The normalized x in a new tensor.
  template <class X, DeviceArgument Device = Eigen::DefaultDevice>
  TENSORNORM_API auto operator()(const X& x, const Device& device = {}) const {
    auto y = make_like({name(), "forward"}, x);
    forward(x, y, device);
    return y;
  }
  /// y = the normalized x, into memory of x's shape; y may be x.
  template <class X, class Y, class Device = Eigen::DefaultDevice>
    requires DeviceArgument<Device>
  TENSORNORM_API void forward(const X& x, Y&& y, const Device& device = {}) const {
    run("forward", x, y, nullptr, device);
  }
  /// As forward(x, y), and keeps mean and rstd for backward.
  template <class X, class Y, class Device = Eigen::DefaultDevice>
  TENSORNORM_API void forward(const X& x, Y&& y, Saved& saved, const Device& device = {}) const {
    run("forward", x, y, &saved, device);
  }
  /// forward(x, y), as the layers with running statistics have it: all of these are safe from many threads at once.
  template <class X, class Y, class Device = Eigen::DefaultDevice>
    requires(DeviceArgument<Device> && !DeviceArgument<std::remove_cvref_t<Y>>)
  TENSORNORM_API void infer(const X& x, Y&& y, const Device& device = {}) const {
    run("infer", x, y, nullptr, device);
  }
  /// The same in a new tensor.
  template <class X, DeviceArgument Device = Eigen::DefaultDevice>
  TENSORNORM_API auto infer(const X& x, const Device& device = {}) const {
    auto y = make_like({name(), "infer"}, x);
    run("infer", x, y, nullptr, device);
    return y;
  }

  /// Gradients of weight and bias, added to by backward; see zero_gradients().
  using Gradients = ParameterGradients<Scalar, kParameterRank>;

  /// dx, dweight and dbias in new tensors, from the x and the statistics of a forward(x, y, saved).
  ///
  /// Formula  dx = rstd * (g - mean of g - norm * mean of g * norm) with g = dy * weight, the weight of now; RMSNorm has no mean of g.
  ///          Of an unbiased variance the last mean is the sum / (n - 1); with eps beside the deviation s it is divided by rstd * s, and
  ///          0 where s is 0. dweight += sum of dy * norm, dbias += sum of dy.
  /// Errors   std::invalid_argument: shapes. std::logic_error: saved is empty, of another shape, size or order, or another kind of layer's;
  ///          a layer moved from.
  template <class DY, class X, DeviceArgument Device = Eigen::DefaultDevice>
  TENSORNORM_API auto backward(const DY& dy, const X& x, const Saved& saved, const Device& device = {}) const {
    auto gradients = affine_.zero_gradients("backward");
    auto dx = make_like({name(), "backward"}, x);
    backward(dy, x, saved, dx, gradients, device);
    return LayerGradients<decltype(dx), Scalar, kParameterRank>{std::move(dx), std::move(gradients.weight), std::move(gradients.bias)};
  }
  /// dx is assigned, gradients are added to; either may be tn::none, and is then not paid for. An empty x adds nothing.
  ///
  /// Aliasing dx may be exactly dy or exactly x; any other overlap is an error: std::invalid_argument, before anything is written.
  template <class DY, class X, class DX, class G, class Device = Eigen::DefaultDevice>
  TENSORNORM_API void backward(const DY& dy, const X& x, const Saved& saved, DX&& dx, G&& gradients, const Device& device = {}) const {
    differentiate_layer<false>(dy, x, saved, dx, gradients, device);
  }
  /// backward() from the output y in the place of x, which may be gone: norm = (y - bias) / weight.
  ///
  /// Errors   also std::invalid_argument for a weight too close to 0 to divide by: |weight| <= sqrt(epsilon of y's type) * |bias|,
  ///          or 1e-30. A layer without parameters has no such.
  /// Accuracy norm carries the rounding of y divided by weight.
  /// Aliasing dx may be exactly dy or exactly y; any other overlap is an error.
  /// Memory   O(statistics + parameters) where dx is given and is not dy, else O(size of y); the thread keeps it for its next call.
  template <class DY, class Y, class DX, class G, class Device = Eigen::DefaultDevice>
  TENSORNORM_API void backward_from_output(const DY& dy, const Y& y, const Saved& saved, DX&& dx, G&& gradients,
                                           const Device& device = {}) const {
    differentiate_layer<true>(dy, y, saved, dx, gradients, device);
  }
  /// Gradients of the parameters' shapes, all 0. Errors: std::logic_error for a layer moved from.
  Gradients zero_gradients() const { return affine_.zero_gradients("zero_gradients"); }

  /// The mode, for symmetry with the layers that have running statistics: it changes nothing here.
  void train(bool mode = true) { training_ = mode; }
  void eval() { train(false); }
  bool is_training() const { return training_; }
  /// In units of x^2, or of x where it is added to the deviation.
  double eps() const { return rule_.eps; }
  /// The layer's name, as in its errors.
  const char* name() const { return affine_.layer(); }
  /// The role of each axis.
  const Policy& policy() const { return policy_; }
  /// How a statistic is made of its sums: estimator, eps and what it is added to.
  const StatisticsRule& rule() const { return rule_; }

  /// Tensors of the affine axes' shape, flat where the policy is the user's own; they may be written to. One of another shape assigned to
  /// them is refused by the next call (std::invalid_argument). Errors: std::logic_error where the layer has none, or was moved from.
  auto& weight() { return affine_.weight(); }
  const auto& weight() const { return affine_.weight(); }
  auto& bias() { return affine_.bias(); }
  const auto& bias() const { return affine_.bias(); }
  bool has_weight() const { return affine_.has_weight(); }
  bool has_bias() const { return affine_.has_bias(); }
  /// Both, and their shape.
  const Affine<Scalar, kParameterRank>& affine() const { return affine_; }

  /// What the ops need to know of a call of this layer.
  TENSORNORM_API NormalizeContext<Scalar> context(const char* function) const {
    return {{name(), function}, rule_, affine_.checked({name(), function})};
  }
  /// Errors: std::invalid_argument where the affine axes of x are not of the parameters' shape.
  template <class T, int kRank>
  TENSORNORM_API void check_shape(const Call& call, const TensorView<T, kRank>& x) const {
    if constexpr (axes_of_a_row<Policy, kRank>() == 0) check_shape_in_full(call, x);
    else if (!fits(affine_shape<Policy, kRank>(policy_, x.shape))) refuse(call, x.copy());
  }

  friend std::ostream& operator<<(std::ostream& out, const Normalization& layer) {
    out << layer.name() << '(' << layer.shape_text() << ", eps=" << layer.eps()
        << ", affine=" << (layer.affine_.has_weight() ? "true" : "false")
        << (layer.affine_.lacks_bias() ? ", bias=false" : "");
    return layer.rule_.print_rest(out);
  }

 private:
  /// LayerNorm and RMSNorm, whose parameters' shape PyTorch calls normalized_shape.
  static constexpr bool kLastAxes = std::is_same_v<Policy, LayerAxes<kParameterRank>>;

  /// The affine axes are of the parameters' shape.
  template <int kRank>
  TENSORNORM_API bool fits(const AxisExtents<kRank>& got) const {
    bool same = got.size() == affine_.size();
    for (int i = 0; i < kParameterRank && kParameterRank > 1; ++i) same &= i < got.rank && got.extents[i] == affine_.shape()[i];
    if (named_ > 1) same &= got.rank == named_ && std::equal(extents_.begin(), extents_.begin() + named_, got.extents.begin());
    return same;
  }
  /// What does not fit. By value, as fail().
  template <class T, int kRank>
  TENSORNORM_RARE void refuse(Call call, TensorView<T, kRank> x) const {
    check_shape_in_full(call, x);
  }
  template <class T, int kRank>
  void check_shape_in_full(const Call& call, const TensorView<T, kRank>& x) const {
    if constexpr (SplitsAnAxis<Policy>)
      if (policy_.groups < 1) fail(call, "expected the policy's groups >= 1, got ", policy_.groups);
    const auto got = affine_shape<Policy, kRank>(policy_, x.shape);
    if (!kLastAxes && kParameterRank == 1 && got.rank == 1 && got.extents[0] != affine_.size())
      fail(call, "expected C=", affine_.size(), " at dimension ", got.axes[0] - x.added, ", got ", got.extents[0], " (x: ", x.text(), ")");
    if constexpr (SplitsAnAxis<Policy>) {
      const Index channels = x.shape[policy_.split_axis(kRank)];
      if (channels % policy_.groups != 0) fail(call, "expected channels divisible by the policy's groups = ", policy_.groups, ", got ", channels);
    }
    if (fits(got)) return;
    const bool column = kLastAxes && kParameterRank == 1 && named_ <= 1 && kRank == 2 && x.shape[0] == affine_.size() && x.shape[1] == 1;
    fail(call, kLastAxes ? "expected normalized_shape " : "expected affine axes of shape ", shape_text(), ", got ",
         ShapeText{got.extents.data(), got.rank}, " (x: ", x.text(), ")", column ? "; one sample is a row, not a column" : "");
  }
  ShapeText shape_text() const {
    return named_ > 0 ? ShapeText{extents_.data(), named_} : ShapeText{affine_.shape().data(), kParameterRank};
  }
  static const auto& checked(const char* name, const Extents<kParameterRank>& shape, const StatisticsRule& rule) {
    const Call call{name, "constructor"};
    check_eps(call, rule.eps);
    checked_size(call, "normalized_shape", shape.data(), kParameterRank);
    return shape;
  }
  template <class X, class Y, class Device>
  TENSORNORM_API void run(const char* function, const X& x, Y&& y, Saved* saved, const Device& device) const {
    if constexpr (require_like<Scalar, X, Y>() && require_axes<Policy, X>() && require_host_device<Device>()) {
      const auto in = view_of(x);
      const auto out = view_of(y);
      const auto given = context(function);
      check_shape(given.call, in);
      normalize_by_batch<traits_of<X>::row_major>(given, policy_, in, out, nullptr, saved, nullptr, device);
    }
  }

  // Not decided at run time: kernels of a branch never taken are dropped only after a fifth of the time it takes to compile LayerNorm.
  template <bool kFromOutput, class DY, class X, class DX, class G, class Device>
  TENSORNORM_API void differentiate_layer(const DY& dy, const X& x, const Saved& saved, DX&& dx, G&& gradients, const Device& device) const {
    if constexpr (require_gradient_operands<Scalar, X, DY, DX>() && require_axes<Policy, X>() && require_host_device<Device>()) {
      const auto given = context(kFromOutput ? "backward_from_output" : "backward");
      const auto in = view_of(x);
      check_shape(given.call, in);
      const auto out = gradient_view(in, dx);
      const auto targets = affine_.checked_gradients(given.call, gradients);
      constexpr bool row_major = traits_of<X>::row_major;
      if constexpr (kFromOutput)
        differentiate_from_output<row_major>(given, policy_, view_of(dy), in, saved, out, targets.weight, targets.bias, device);
      else
        differentiate<row_major>(given, policy_, view_of(dy), in, saved, out, targets.weight, targets.bias, device);
    }
  }

  Affine<Scalar, kParameterRank> affine_;  // first: its assignment may fail, and then nothing has changed
  Extents<kMaxLoops> extents_{};  ///< those of affine_shape,
  int named_ = 0;                 ///< so many; 0 where the parameters' shape is known from the layer
  Policy policy_;
  StatisticsRule rule_;
  bool training_ = true;
};

}  // namespace tensornorm
