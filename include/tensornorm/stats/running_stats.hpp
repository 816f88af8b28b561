// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/kernels/dispatch.hpp>
#include <tensornorm/kernels/sums.hpp>
#include <tensornorm/stats/estimator.hpp>
#include <utility>
#include <vector>

namespace tensornorm {

namespace kernels {

inline namespace TENSORNORM_ABI {

/// A job: to[k] = (1 - f) * to[k] + (f * correction) * from[k], of which correction * from[k] might overflow; exact where f is 1, whatever
/// was there.
template <class Value, class S>
struct MoveRunning {
  using A = S;

  Value* to;
  const S* from;
  S correction, f;
  Index count;

  template <class I>
  TENSORNORM_INLINE void operator()() const {
    Value* const running = to;  // stores might change the members
    const S* const batch = from;
    const S part = f * correction, kept = S(1) - f;
    const Index n = count;
    Index k = 0;
    if constexpr (has_lanes_of<S, Value>) {
      using V = HardwareLanes<S, I>;
      if (kept != S(0))
        for (; k + V::width <= n; k += V::width)
          moved<I>(V::load(running + k), V::load(batch + k), V(kept), V(part)).store(running + k);
    }
    for (; k < n; ++k) running[k] = static_cast<Value>(kept == S(0) ? S(batch[k] * part) : moved<I>(S(running[k]), batch[k], kept, part));
  }

 private:
  /// Of one, or of lanes: fused where lanes are.
  template <class I, class V>
  TENSORNORM_INLINE static V moved(const V& running, const V& batch, const V& kept, const V& part) {
    if constexpr (has_lanes_of<S, Value>)
      if constexpr (HardwareLanes<S, I>::fuses) return fused<V>(running, kept, batch * part);
    return V(running * kept + batch * part);
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace kernels

/// running = (1 - f) * running + f * batch, for mean and variance, with f = momentum, or 1 / num_batches when momentum is nullopt.
///
/// Shapes   mean(), variance(): (num_features). They start at 0 and 1.
/// Units    stored in at least float. The batch variance given is the biased one; what enters is unbiased unless chosen otherwise.
/// Errors   at construction std::invalid_argument: num_features < 1, a momentum outside [0, 1]; std::length_error: more than there can be.
/// Source   PyTorch's BatchNorm; Ioffe & Szegedy 2015.
template <class Scalar>
class RunningStats {
 public:
  using Value = accumulator_t<Scalar>;
  using Vector = Eigen::Tensor<Value, 1>;

  /// `layer`: the name in its errors; kept, not copied.
  explicit RunningStats(Index num_features, std::optional<double> momentum = 0.1,
                        VarianceEstimator estimator = VarianceEstimator::unbiased, const char* layer = "RunningStats")
      : momentum_(momentum), estimator_(estimator), layer_(layer) {
    const Call call{layer, "constructor"};
    if (momentum && !is_from_zero_to(1, *momentum)) fail(call, "expected momentum in [0, 1] or nullopt, got ", *momentum);
    checked_features(call, "num_features", num_features);
    mean_.resize(Eigen::Index(num_features));
    variance_.resize(Eigen::Index(num_features));
    reset();
  }
  RunningStats(const RunningStats&) = default;
  /// Leaves `other` without features.
  RunningStats(RunningStats&&) noexcept = default;
  /// All of `other`, or, where memory runs out, nothing.
  RunningStats& operator=(const RunningStats& other) { return *this = RunningStats(other); }
  RunningStats& operator=(RunningStats&& other) noexcept {
    RunningStats taken(std::move(other));
    std::swap(mean_, taken.mean_);
    std::swap(variance_, taken.variance_);
    num_batches_ = taken.num_batches_;
    momentum_ = taken.momentum_;
    estimator_ = taken.estimator_;
    layer_ = taken.layer_;
    return *this;
  }

  /// One value per feature; 0 and 1 before the first batch.
  const Vector& mean() const { return mean_; }
  const Vector& variance() const { return variance_; }
  /// Batches taken in, also by a momentum of 0; stays at the largest number.
  std::int64_t num_batches() const { return num_batches_; }
  /// In [0, 1]; nullopt: the cumulative average.
  std::optional<double> momentum() const { return momentum_; }
  /// Of the variance that enters.
  VarianceEstimator estimator() const { return estimator_; }
  Index num_features() const { return Index(mean_.size()); }

  /// Mean 0, variance 1, no batches.
  void reset() {
    mean_.setZero();
    variance_.setConstant(Value(1));
    num_batches_ = 0;
  }

  /// Takes in one batch: `samples` elements behind each statistic, `repeats` statistics per feature (InstanceNorm's images), averaged.
  ///
  /// batch_mean[i * num_features + c] and batch_variance, biased, belong to feature c; [c * repeats + i] without feature_fastest. No
  /// samples: nothing changes. Nothing is checked: samples are not negative, and more than 1 where the estimator is unbiased.
  template <class S>
  TENSORNORM_API void update(const S* batch_mean, const S* batch_variance, Index samples, Index repeats = 1,
                             bool feature_fastest = true) noexcept {
    if (samples == 0 || repeats == 0) return;
    if (num_batches_ < std::numeric_limits<std::int64_t>::max()) ++num_batches_;
    const S f = momentum_ ? S(*momentum_) : S(S(1) / S(double(num_batches_)));
    const S correction = estimator_ == VarianceEstimator::unbiased ? S(S(samples) / S(samples - 1)) : S(1);
    const Index features = num_features();
    if (f == S(0)) return;  // every bit stays
    const auto move = [&](Vector& running, const S* batch, S factor) {
      if (repeats == 1) return kernels::dispatch(kernels::MoveRunning<Value, S>{running.data(), batch, factor, f, features});
      constexpr Index at_once = std::max<Index>(1, 512 / Index(sizeof(S)));
      S averages[std::size_t(at_once)];
      for (Index first = 0; first < features; first += at_once) {
        const Index count = std::min(at_once, features - first);
        for (Index k = 0; k < count; ++k)
          averages[k] = average(batch + (first + k) * (feature_fastest ? 1 : repeats), feature_fastest ? features : 1, repeats);
        kernels::dispatch(kernels::MoveRunning<Value, S>{running.data() + first, averages, factor, f, count});
      }
    };
    move(mean_, batch_mean, S(1));
    move(variance_, batch_variance, correction);
  }

  /// update() with the statistics as vectors of num_features elements: of `samples` elements each, the variance biased.
  ///
  /// Errors   std::invalid_argument, and nothing changes: wrong sizes, gaps; a negative variance (NaN is data);
  ///          samples < 0, or 1 where the estimator is unbiased. std::bad_alloc: they are copied, into the type that layers give.
  ///          std::logic_error: these were moved from.
  template <class Mean, class Variance>
    requires requires(const Mean& m, const Variance& v) { m.data(), m.size(), v.data(), v.size(); }
  void update(const Mean& batch_mean, const Variance& batch_variance, Index samples) {
    const Call call{layer_, "update"};
    check_values(call, "mean", batch_mean);
    check_values(call, "variance", batch_variance);
    for (Index c = 0; c < num_features(); ++c)
      if (is_negative(batch_variance.data()[c])) fail(call, "expected variance >= 0, got ", batch_variance.data()[c], " at index ", c);
    if (samples < 0) fail(call, "expected samples >= 0, got ", samples);
    if (samples == 1 && estimator_ == VarianceEstimator::unbiased) fail(call, "expected more than 1 sample per feature, got 1");
    const Index features = num_features();
    std::vector<statistic_t<Scalar>> values(std::size_t(2 * features));
    for (Index c = 0; c < features; ++c) {
      values[std::size_t(c)] = statistic_t<Scalar>(batch_mean.data()[c]);
      values[std::size_t(features + c)] = statistic_t<Scalar>(batch_variance.data()[c]);
    }
    update(values.data(), values.data() + features, samples);
  }

  /// Replaces mean, variance and num_batches, or, where anything is wrong, nothing.
  ///
  /// Shapes   mean, variance: num_features elements without gaps, an Eigen type or a standard container; a pointer as a std::span.
  /// Errors   std::invalid_argument: wrong sizes, gaps; a variance that is negative or NaN, with its index and value; num_batches < 0.
  ///          std::logic_error: these were moved from. std::bad_alloc: they are copied first.
  template <class Mean, class Variance>
    requires requires(const Mean& m, const Variance& v) { m.data(), m.size(), v.data(), v.size(); }
  void load(const Mean& mean, const Variance& variance, std::int64_t num_batches) {
    const Call call{layer_, "load"};
    check_values(call, "running_mean", mean);
    check_values(call, "running_var", variance);
    for (Index c = 0; c < num_features(); ++c)
      if (!is_a_variance(variance.data()[c])) fail(call, "expected running_var >= 0, got ", variance.data()[c], " at index ", c);
    if (num_batches < 0) fail(call, "expected num_batches >= 0, got ", num_batches);
    Vector new_mean(mean_.size()), new_variance(mean_.size());  // what is loaded may be these themselves
    for (Index c = 0; c < num_features(); ++c) {
      new_mean.data()[c] = static_cast<Value>(mean.data()[c]);
      new_variance.data()[c] = static_cast<Value>(variance.data()[c]);
    }
    std::copy_n(new_mean.data(), num_features(), mean_.data());  // in place: somebody may map this memory
    std::copy_n(new_variance.data(), num_features(), variance_.data());
    num_batches_ = num_batches;
  }

 private:
  /// Not negative, and no NaN.
  template <class Number>
  static bool is_a_variance(const Number& x) {
    // A NaN is known by its bits, a number too small for a double by comparing it.
    if constexpr (std::is_convertible_v<Number, double> || requires { static_cast<double>(x); })
      return is_from_zero_to(kInfinity, static_cast<double>(x)) && !(x < Number(0));
    else
      return x >= Number(0);
  }
  template <class Number>
  static bool is_negative(const Number& x) {
    return is_a_variance(Number(Number(0) - x)) && !is_a_variance(x);
  }
  /// num_features elements without gaps: an Eigen type whose inner stride is 1, or a standard container.
  template <class Values>
  void check_values(const Call& call, const char* name, const Values& values) const {
    if (num_features() == 0) fail<std::logic_error>(call, "expected running statistics, got some that were moved from");
    if (Index(values.size()) != num_features()) fail(call, name, ": expected ", num_features(), " elements, got ", Index(values.size()));
    if constexpr (EigenMatrix<Values> || traits_of<Values>::readable) {
      const auto view = view_of(values);
      if (view.span() != view.size()) fail(call, name, ": expected elements without gaps");
    }
  }
  /// As exact as its type; the sum may be beyond the largest number.
  template <class S>
  TENSORNORM_API static S average(const S* values, Index step, Index count) {
    const S mean = sum_of(values, step, count, S(1)) / S(count);
    return kernels::is_finite<S>(mean) ? mean : sum_of(values, step, count, S(count));
  }
  template <class S>
  TENSORNORM_API static S sum_of(const S* values, Index step, Index count, S divisor) {
    S sum = S(0), rest = S(0);
    for (Index i = 0; i < count; ++i) kernels::accumulate<kernels::keeps_rest<Value, S>>(sum, rest, S(values[i * step] / divisor));
    return sum;
  }

  Vector mean_, variance_;
  std::int64_t num_batches_ = 0;
  std::optional<double> momentum_;
  VarianceEstimator estimator_;
  const char* layer_;
};

}  // namespace tensornorm
