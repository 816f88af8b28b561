// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <limits>
#include <tensornorm/kernels/scale.hpp>
#include <tensornorm/stats/estimator.hpp>

namespace tensornorm::kernels {

// From the moments of a statistic to what is kept of it, and to what its elements meet.

/// mean and rstd of one statistic as elements meet them: those of x * factor, where factor is 1 but for x that A cannot square.
template <class A, class S>
struct Center {
  A mean;   ///< rounded
  S rest;   ///< what rounding took from it, times -1
  S rstd;
  A factor;

  Center() {}  // NOLINT(modernize-use-equals-default): leaves everything unset
  TENSORNORM_INLINE Center(S hi, S lo, S r, S scale = S(1))
      : mean(static_cast<A>(hi)), rest((S(mean) - hi) - lo), rstd(r), factor(static_cast<A>(scale)) {}
  /// (x * factor - mean) * scale + shift is the norm times weight plus bias, all rounded once. Where nothing rests, the sign of a bias of
  /// 0 is kept; one that is not there is -0.
  TENSORNORM_INLINE A scale(S weight) const { return static_cast<A>(rstd * weight); }
  TENSORNORM_INLINE A shift(S weight, S bias) const { return static_cast<A>(is_exact_zero(rest) ? bias : fused<S>(rest, rstd * weight, bias)); }
};

inline namespace TENSORNORM_ABI {

/// The center for an rstd that is 0 or far from 1, where S is wider than A, in which it, or x - mean, might be infinite.
///
/// Elements about a mean of 1 or more with so large an rstd are equal to it, or would give no number: any finite one does.
template <class A, class S>
TENSORNORM_RARE Center<A, S> far_center(S hi, S lo, S rstd) {
  using Safe = SafeScale<A>;
  if (rstd > S(Safe::coefficient) && !(magnitude(hi) < S(1))) return {hi, lo, S(Safe::coefficient)};
  const S factor = rstd > S(1) ? S(Safe::up) : rstd > S(0) ? S(Safe::down) : S(1);
  return {hi * factor, lo * factor, std::min(rstd / factor, S(Safe::coefficient)), factor};
}

/// Elements of type T may ask for a scale of what they meet: S is wider than A.
template <class A, class T, class S>
inline constexpr bool may_be_far = may_scale<A, T> && !std::is_same_v<A, S>;

/// An rstd that asks for no scale: it is neither 0 nor far from 1.
template <class A, class T, class S>
TENSORNORM_INLINE bool is_near(S rstd) {
  if constexpr (may_be_far<A, T, S>) return rstd >= S(1 / SafeScale<A>::coefficient) && rstd <= S(SafeScale<A>::coefficient);
  else return true;
}

/// The same of lanes, all of them.
template <class A, class T, class V>
TENSORNORM_INLINE bool all_near(const V& rstd) {
  using S = typename V::Number;
  if constexpr (may_be_far<A, T, S>) return rstd.is_within(V(S(1 / SafeScale<A>::coefficient)), V(S(SafeScale<A>::coefficient)));
  else return true;
}

template <class A, class T, class S>
TENSORNORM_INLINE Center<A, S> center_for(S hi, S lo, S rstd) {
  if constexpr (may_be_far<A, T, S>)
    if (!is_near<A, T>(rstd)) return far_center<A>(hi, lo, rstd);
  return {hi, lo, rstd};
}

template <class A, class T, class S>
TENSORNORM_INLINE Center<A, S> center_of(const StatisticsArrays<S>& statistics, Index k) {
  return center_for<A, T>(statistics.mean[k], statistics.mean_lo != nullptr ? statistics.mean_lo[k] : S(0), statistics.rstd[k]);
}

/// Writes the statistic of a state of x * scale where it is asked for, in units of x.
template <class S>
TENSORNORM_INLINE void write_statistic(const StatisticsArrays<S>& to, Index k, S mean, S mean_lo, S rstd, S variance) {
  if (to.mean != nullptr) to.mean[k] = mean;
  if (to.mean_lo != nullptr) to.mean_lo[k] = mean_lo;
  if (to.rstd != nullptr) to.rstd[k] = rstd;
  if (to.variance != nullptr) to.variance[k] = variance;
}

/// finish_statistic() for a state with a scale.
template <class A, class S>
TENSORNORM_RARE Center<A, S> finish_scaled(const StatisticsRule& rule, Index samples, ScaledWelford<A, S> m, const StatisticsArrays<S>& to, Index k) {
  // Of so small a variance nothing is left beside such an eps, and the two have no scale in common; nor have an eps, but for
  // denormal ones, and numbers as large as these that are equal.
  if constexpr (SafeScale<S>::needed) {
    using Limits = std::numeric_limits<S>;
    const bool eps_overflows = m.scale > S(1) && !(S(rule.eps) <= Limits::max() / m.scale / m.scale);
    const bool eps_vanishes = m.scale < S(1) && m.state.m2() == S(0) && S(rule.eps) >= Limits::min();
    if (eps_overflows || eps_vanishes) m.set_scale(S(1));
  }
  const Welford<S>& state = m.state;
  const S variance = rule.variance(state.m2(), samples), rstd = rule.rstd(variance, m.scale);
  write_statistic<S>(to, k, m.mean(), state.mean_lo() / m.scale, rstd * m.scale, variance / m.scale / m.scale);
  return {state.mean(), state.mean_lo(), rstd, m.scale};
}

/// The statistic made of a Welford state (or a sum of squares about 0), written where it is asked for.
template <class A, class T, class S>
TENSORNORM_INLINE Center<A, S> finish_statistic(const StatisticsRule& rule, Index samples, const ScaledWelford<A, S>& moments,
                                                const StatisticsArrays<S>& to, Index k) {
  if (moments.scale != S(1)) return finish_scaled(rule, samples, moments, to, k);
  const Welford<S>& state = moments.state;
  const S variance = rule.variance(state.m2(), samples), rstd = rule.rstd(variance);
  write_statistic<S>(to, k, state.mean(), state.mean_lo(), rstd, variance);
  return center_for<A, T>(state.mean(), state.mean_lo(), rstd);
}

/// A few statistics are finished at once: where there are vectors that fuse. Where each lane has to be fused by itself, many are needed.
template <class S, class I>
constexpr bool finishes_in_lanes() {
  if constexpr (virtual_width<S> > 1) return HardwareLanes<S, I>::fuses;
  else return false;
}

/// The parts of the centers of several statistics, in lanes V, which need no scale: stores the rounded mean, and returns the rest.
template <class V, class A>
TENSORNORM_INLINE V store_mean(const V& mean, const V& mean_lo, A* rounded) {
  mean.store(rounded);
  return (V::load(rounded) - mean) - mean_lo;
}
template <class V, class A, class S>
TENSORNORM_INLINE void store_centers(const V& mean, const V& mean_lo, const V& rstd, A* mean_of, S* rest_of, S* rstd_of) {
  store_mean(mean, mean_lo, mean_of).store(rest_of);
  rstd.store(rstd_of);
}

/// What finish_statistic() makes of ordinary sums, of one statistic or in lanes V of several: each the same bits as there.
template <class V>
struct FinishedStatistics {
  V mean = V(0), mean_lo = V(0), rstd, variance;

  /// About a pivot; where the rule is not centered, about 0.
  TENSORNORM_INLINE FinishedStatistics(const StatisticsRule& rule, Index samples, const V& pivot, const V& sum, const V& squares)
      : FinishedStatistics(rule, samples, squares, [&]() TENSORNORM_INLINE_LAMBDA { return CentralSums<V>(samples, pivot, sum, squares); }) {}
  /// Where sum + rest is known.
  TENSORNORM_INLINE FinishedStatistics(const StatisticsRule& rule, Index samples, const V& pivot, const V& sum, const V& rest, const V& squares)
      : FinishedStatistics(rule, samples, squares, [&]() TENSORNORM_INLINE_LAMBDA {
          CentralSums<V> sums(samples, pivot, sum, squares);
          sums.refine(samples, sum, rest);
          return sums;
        }) {}

  /// Lanes of them where they are asked for, from the k-th on.
  template <class S>
  TENSORNORM_INLINE void write(const StatisticsArrays<S>& to, Index k) const {
    if (to.mean != nullptr) mean.store(to.mean + k);
    if (to.mean_lo != nullptr) mean_lo.store(to.mean_lo + k);
    if (to.rstd != nullptr) rstd.store(to.rstd + k);
    if (to.variance != nullptr) variance.store(to.variance + k);
  }

 private:
  template <class Sums>
  TENSORNORM_INLINE FinishedStatistics(const StatisticsRule& rule, Index samples, const V& squares, const Sums& central_sums) {
    V m2(squares);
    if (rule.centered) {
      const CentralSums<V> sums = central_sums();
      mean = sums.mean;
      mean_lo = sums.mean_lo;
      m2 = sums.m2;
    }
    variance = rule.variance(m2, samples);
    rstd = rule.rstd(variance);
  }
};

/// A job: means and variances of a caller as kernels take them; the variances are multiplied with `correction`. `near`, if any, becomes whether
/// no element of type T asks for a scale.
template <class S, class Value, class T = S>
struct GivenStatistics {
  using A = S;

  const StatisticsRule& rule;
  const Value *mean, *variance;
  S correction;
  const StatisticsArrays<S>& to;
  Index count;
  bool* near = nullptr;

  template <class I>
  TENSORNORM_INLINE void operator()() const {
    using Met = accumulator_t<T>;
    bool all = true;
    const StatisticsArrays<S> arrays = to;  // stores might change the members
    const Value *const means = mean, *const variances = variance;
    const Index n = count;
    Index k = 0;
    if constexpr (has_lanes_of<S, Value>) {
      using V = HardwareLanes<S, I>;
      for (; k + V::width <= n; k += V::width) {
        V::load(means + k).store(arrays.mean + k);
        if (arrays.mean_lo != nullptr) V().store(arrays.mean_lo + k);
        const V each = rstd(V::load(variances + k));
        each.store(arrays.rstd + k);
        all &= all_near<Met, T>(each);
      }
    }
    for (; k < n; ++k) {
      arrays.mean[k] = S(means[k]);
      if (arrays.mean_lo != nullptr) arrays.mean_lo[k] = S(0);
      arrays.rstd[k] = rstd(S(variances[k]));
      all &= is_near<Met, T>(arrays.rstd[k]);
    }
    if (near != nullptr) *near = all;
  }

 private:
  template <class V>
  TENSORNORM_INLINE V rstd(const V& given) const {
    V corrected = given * V(correction);
    if constexpr (is_lanes<V> || std::is_floating_point_v<V>) reload(corrected);  // or compilers might fuse it with eps
    return rule.rstd(corrected);
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
