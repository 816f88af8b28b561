// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <optional>
#include <tensornorm/layers/normalization.hpp>
#include <tensornorm/stats/running_stats.hpp>

namespace tensornorm {

/// Whether a call is moving a layer's statistics; a copy of the layer takes no part in that call.
class TrainingTurn {
 public:
  TrainingTurn() = default;
  TrainingTurn(const TrainingTurn&) noexcept {}
  TrainingTurn& operator=(const TrainingTurn&) noexcept { return *this; }

  /// Holds the turn, if there is one to hold. Errors: std::logic_error where another call holds it.
  class Hold {
   public:
    Hold(const Call& call, TrainingTurn* turn) : turn_(turn) {
      if (turn != nullptr && turn->taken_.test_and_set(std::memory_order_acquire))
        fail<std::logic_error>(call, "expected one thread at a time to train a layer, got a second one");
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() {
      if (turn_ != nullptr) turn_->taken_.clear(std::memory_order_release);
    }

   private:
    TrainingTurn* turn_;
  };

 private:
  std::atomic_flag taken_;
};

/// A normalization per channel that can keep running statistics: what BatchNorm and InstanceNorm share.
///
/// | call                        | train mode                            | eval mode, tracking | not tracking     |
/// | layer(x), forward(x, y)     | batch statistics; running ones move   | running statistics  | batch statistics |
/// | forward(x, y, saved)        | the same, and saved is filled         | saved: constants    | batch statistics |
/// | infer(x, y) const           | running statistics, nothing moves     | the same            | batch statistics |
///
/// A failed call leaves y, the running and the saved statistics as they were. infer is safe from many threads at once while nobody trains
/// or loads, which needs a lock of the caller's; of two calls that train at once the second is refused.
///
/// Errors   std::logic_error: that second call; a layer that was moved from; running statistics of another number of features assigned.
/// Complexity O(size of x); no allocation where the thread has made such a call before, see README.
/// device   Eigen::DefaultDevice, or Eigen::ThreadPoolDevice, for which the caller waits: it must hold no lock that the pool's tasks want.
template <class Scalar, AxisPolicy Policy, AxisPolicy ChannelPolicy, int kSpatialRank, bool kUnbatched>
class TrackedNormalization {
  static_assert(keeps_parameters_alone<ChannelPolicy, kSpatialRank + 2>(),
                "tensornorm: expected a policy of one statistic per channel, as BatchAxes<1> is for x of (N, C, ...)");

 public:
  /// What forward(x, y, saved) keeps for backward.
  using Saved = SavedStats<Scalar>;
  /// What training moves and eval uses.
  using Running = RunningStats<Scalar>;

  /// What BatchNormOptions and InstanceNormOptions, which have the defaults, come down to.
  struct Options {
    double eps;
    std::optional<double> momentum;
    bool affine;
    bool track_running_stats;
    VarianceEstimator running_variance;
    bool bias = true;
  };

  TrackedNormalization(const char* name, const char* lone_sample, Index num_features, const Options& options)
      : normalization_(name, {checked_features({name, "constructor"}, "num_features", num_features)}, {options.eps}, options.affine,
                       options.affine && options.bias, {}),
        lone_sample_(lone_sample),
        tracking_(options.track_running_stats),
        running_(num_features, options.momentum, options.running_variance, name) {}
  TrackedNormalization(const TrackedNormalization&) = default;
  TrackedNormalization(TrackedNormalization&&) = default;
  /// All of `other`, or, where memory runs out, nothing.
  TrackedNormalization& operator=(const TrackedNormalization& other) { return *this = TrackedNormalization(other); }
  TrackedNormalization& operator=(TrackedNormalization&&) = default;

  /// The normalized x in a new tensor.
  template <class X, DeviceArgument Device = Eigen::DefaultDevice>
  TENSORNORM_API auto operator()(const X& x, const Device& device = {}) {
    auto y = make_like({normalization_.name(), "forward"}, x);
    forward(x, y, device);
    return y;
  }
  /// y = the normalized x, into memory of x's shape; y may be x. The table above says by which statistics.
  template <class X, class Y, class Device = Eigen::DefaultDevice>
    requires DeviceArgument<Device>
  TENSORNORM_API void forward(const X& x, Y&& y, const Device& device = {}) {
    run("forward", x, y, nullptr, uses_running_stats(), training_ && tracking_ ? &running_ : nullptr, device);
  }
  /// As forward(x, y), and keeps mean and rstd for backward.
  template <class X, class Y, class Device = Eigen::DefaultDevice>
  TENSORNORM_API void forward(const X& x, Y&& y, Saved& saved, const Device& device = {}) {
    run("forward", x, y, &saved, uses_running_stats(), training_ && tracking_ ? &running_ : nullptr, device);
  }
  // Of a layer that is const: training would move its running statistics.
  template <class X, DeviceArgument Device = Eigen::DefaultDevice>
  void operator()(const X& x, const Device& device = {}) const = delete;  // a const layer has infer(x)
  template <class X, class Y, class Device = Eigen::DefaultDevice>
    requires DeviceArgument<Device>
  void forward(const X& x, Y&& y, const Device& device = {}) const = delete;  // a const layer has infer(x, y)
  template <class X, class Y, class Device = Eigen::DefaultDevice>
  void forward(const X& x, Y&& y, Saved& saved, const Device& device = {}) const = delete;  // a const layer has infer(x, y)

  /// By the running statistics in any mode, where they are tracked; nothing moves.
  template <class X, class Y, class Device = Eigen::DefaultDevice>
    requires(DeviceArgument<Device> && !DeviceArgument<std::remove_cvref_t<Y>>)
  TENSORNORM_API void infer(const X& x, Y&& y, const Device& device = {}) const {
    run("infer", x, y, nullptr, tracking_, nullptr, device);
  }
  /// The same in a new tensor.
  template <class X, DeviceArgument Device = Eigen::DefaultDevice>
  TENSORNORM_API auto infer(const X& x, const Device& device = {}) const {
    auto y = make_like({normalization_.name(), "infer"}, x);
    run("infer", x, y, nullptr, tracking_, nullptr, device);
    return y;
  }

  /// Gradients of weight and bias, added to by backward; see zero_gradients().
  using Gradients = ParameterGradients<Scalar>;

  /// dx, dweight and dbias in new tensors, from the x and the statistics of a forward(x, y, saved).
  ///
  /// Formula  dx = rstd * (g - mean of g - norm * mean of g * norm) with g = dy * weight, the weight of now; dx = g * rstd where saved
  ///          says that the statistics were running ones. dweight += sum of dy * norm, dbias += sum of dy.
  /// Errors   std::invalid_argument: shapes. std::logic_error: saved is empty, of another shape, size or order, or another kind of layer's;
  ///          a layer moved from.
  template <class DY, class X, DeviceArgument Device = Eigen::DefaultDevice>
  TENSORNORM_API auto backward(const DY& dy, const X& x, const Saved& saved, const Device& device = {}) const {
    auto gradients = normalization_.affine().zero_gradients("backward");
    auto dx = make_like({normalization_.name(), "backward"}, x);
    backward(dy, x, saved, dx, gradients, device);
    return LayerGradients<decltype(dx), Scalar>{std::move(dx), std::move(gradients.weight), std::move(gradients.bias)};
  }
  /// dx is assigned, gradients are added to; either may be tn::none, and is then not paid for. An empty x adds nothing.
  ///
  /// Aliasing dx may be exactly dy or exactly x; any other overlap is an error: std::invalid_argument, before anything is written.
  template <class DY, class X, class DX, class G, class Device = Eigen::DefaultDevice>
  TENSORNORM_API void backward(const DY& dy, const X& x, const Saved& saved, DX&& dx, G&& gradients, const Device& device = {}) const {
    differentiate_layer<false>(dy, x, saved, dx, gradients, device);
  }
  /// backward() from the output y in the place of x, which may be gone: norm = (y - bias) / weight. See Normalization.
  template <class DY, class Y, class DX, class G, class Device = Eigen::DefaultDevice>
  TENSORNORM_API void backward_from_output(const DY& dy, const Y& y, const Saved& saved, DX&& dx, G&& gradients,
                                           const Device& device = {}) const {
    differentiate_layer<true>(dy, y, saved, dx, gradients, device);
  }
  /// Gradients of the parameters' shapes, all 0. Errors: std::logic_error for a layer moved from.
  Gradients zero_gradients() const { return normalization_.zero_gradients(); }

  /// The mode a layer begins in: statistics are the batch's, and the running ones move.
  void train(bool mode = true) { training_ = mode; }
  /// Running statistics, where they are tracked, are used and do not move.
  void eval() { train(false); }
  bool is_training() const { return training_; }

  /// Tensors of shape (C), which may be written to. Errors: std::logic_error where the layer has none, or was moved from.
  auto& weight() { return normalization_.weight(); }
  const auto& weight() const { return normalization_.weight(); }
  auto& bias() { return normalization_.bias(); }
  const auto& bias() const { return normalization_.bias(); }

  /// C; 0 where the running statistics were moved from.
  Index num_features() const { return running_.num_features(); }
  /// In units of x^2.
  double eps() const { return normalization_.eps(); }
  /// In [0, 1]; nullopt: the cumulative average.
  std::optional<double> momentum() const { return running_.momentum(); }
  bool affine() const { return has_weight(); }
  bool has_weight() const { return normalization_.has_weight(); }
  bool has_bias() const { return normalization_.has_bias(); }
  bool track_running_stats() const { return tracking_; }

  /// Mean, variance and number of batches of what training has seen. Where they are not tracked nothing moves or uses them, loaded or not.
  /// Assigned, they bring all of theirs along, momentum and estimator too; load() does not.
  Running& running_stats() { return running_; }
  const Running& running_stats() const { return running_; }
  /// (C); 0 and 1 before the first batch. The variance is unbiased unless the options say otherwise.
  const auto& running_mean() const { return running_.mean(); }
  const auto& running_var() const { return running_.variance(); }

  friend std::ostream& operator<<(std::ostream& out, const TrackedNormalization& layer) {
    out << layer.normalization_.name() << '(' << layer.num_features() << ", eps=" << layer.eps() << ", momentum=";
    if (layer.momentum()) out << *layer.momentum();
    else out << "nullopt";
    return out << ", affine=" << (layer.affine() ? "true" : "false") << (layer.normalization_.affine().lacks_bias() ? ", bias=false" : "")
               << ", track_running_stats=" << (layer.track_running_stats() ? "true" : "false")
               << (layer.running_.estimator() == VarianceEstimator::biased ? ", running_variance=biased" : "") << ')';
  }

 private:
  /// Errors: std::logic_error where running statistics of another layer were assigned, or these were moved from.
  void check_running_stats(const Call& call) const {
    const Index expected = normalization_.affine().size();
    if (num_features() != expected)
      fail<std::logic_error>(call, "expected running statistics of ", expected, " features, got ", num_features());
  }
  bool uses_running_stats() const { return tracking_ && !training_; }

  template <class X>
  static constexpr bool require_rank() {
    if constexpr (traits_of<X>::readable) {
      constexpr int rank = rank_of<X>;
      constexpr bool expected =
          rank == kSpatialRank + 2 || (kUnbatched && rank == kSpatialRank + 1) || (!kUnbatched && kSpatialRank == 1 && rank == 2);
      static_assert(expected,
                    "tensornorm: x has the wrong rank: BatchNorm1d takes (N, C) and (N, C, L), 2d (N, C, H, W), 3d (N, C, D, H, W); "
                    "InstanceNorm also takes each without N");
      constexpr bool has_channels = (kUnbatched && rank == kSpatialRank + 1 ? rank + 1 : rank) >= least_rank<Policy>;
      static_assert(!expected || has_channels, "tensornorm: x has no axis of channels where the policy says");
      return expected && has_channels;
    } else {
      return false;
    }
  }
  /// (C, ...) as (1, C, ...).
  template <class T, int kRank>
  static auto batched(const TensorView<T, kRank>& view) {
    if constexpr (kUnbatched && kRank == kSpatialRank + 1) {
      TensorView<T, kRank + 1> one{view.data, {}, {}, 1};
      one.shape[0] = 1;
      one.stride[0] = view.size();
      for (int i = 0; i < kRank; ++i) {
        one.shape[i + 1] = view.shape[i];
        one.stride[i + 1] = view.stride[i];
      }
      return one;
    } else {
      return view.copy();
    }
  }

  template <class X, class Y, class Device>
  TENSORNORM_API void run(const char* function, const X& x, Y&& y, Saved* saved, bool given, Running* moving,
                          const Device& device) const {
    if constexpr (require_like<Scalar, X, Y>() && require_rank<X>() && require_host_device<Device>()) {
      const auto context = normalization_.context(function);
      check_running_stats(context.call);
      const auto in = batched(view_of(x));
      const auto out = batched(view_of(y));
      normalization_.check_shape(context.call, in);
      constexpr bool row_major = traits_of<X>::row_major;
      const Index span = out.span();
      for (const auto* values : {running_.mean().data(), running_.variance().data()})
        check_apart(context.call, "y", out.data, span, "the running statistics", values, num_features());
      const TrainingTurn::Hold hold(context.call, moving != nullptr ? &turn_ : nullptr);
      if (given)
        normalize_by_given<row_major>(context, ChannelPolicy{}, in, out, running_.mean().data(), running_.variance().data(), saved, device);
      else
        normalize_by_batch<row_major>(context, Policy{}, in, out, lone_sample_, saved, moving, device);
    }
  }

  // Not decided at run time: kernels of a branch never taken are dropped only after a fifth of the time it takes to compile LayerNorm.
  template <bool kFromOutput, class DY, class X, class DX, class G, class Device>
  TENSORNORM_API void differentiate_layer(const DY& dy, const X& x, const Saved& saved, DX&& dx, G&& gradients, const Device& device) const {
    if constexpr (require_gradient_operands<Scalar, X, DY, DX>() && require_rank<X>() && require_host_device<Device>()) {
      const auto context = normalization_.context(kFromOutput ? "backward_from_output" : "backward");
      check_running_stats(context.call);
      const auto in = batched(view_of(x)), grad = batched(view_of(dy));
      normalization_.check_shape(context.call, in);
      const auto out = batched(gradient_view(view_of(x), dx));
      if (out.data != nullptr) {
        const Index span = out.span();
        for (const auto* values : {running_.mean().data(), running_.variance().data()})
          check_apart(context.call, "dx", out.data, span, "the running statistics", values, num_features());
      }
      const auto targets = normalization_.affine().checked_gradients(context.call, gradients);
      constexpr bool row_major = traits_of<X>::row_major;
      const auto with = [&](const auto& policy) TENSORNORM_INLINE_LAMBDA {
        if constexpr (kFromOutput)
          differentiate_from_output<row_major>(context, policy, grad, in, saved, out, targets.weight, targets.bias, device);
        else
          differentiate<row_major>(context, policy, grad, in, saved, out, targets.weight, targets.bias, device);
      };
      if (saved.constant()) with(ChannelPolicy{});
      else with(Policy{});
    }
  }

  Normalization<Scalar, Policy> normalization_;
  const char* lone_sample_;
  bool tracking_;
  bool training_ = true;
  Running running_;
  mutable TrainingTurn turn_;
};

}  // namespace tensornorm
