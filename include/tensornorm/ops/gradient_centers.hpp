// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <limits>
#include <tensornorm/kernels/backward.hpp>
#include <tensornorm/ops/finished_statistics.hpp>

namespace tensornorm::kernels {

// From a statistic and the sums of its gradients to the coefficients of dx.

/// A statistic as gradients meet it: dx = dy * weight * rstd + (x - mean) * slope + offset.
template <class A, class S>
struct GradientCenter {
  A mean = A(0), factor = A(1);  ///< x is multiplied with factor, 1 but for an rstd far from it
  S rest = S(0), unit = S(0);    ///< norm = (x * factor - mean + rest) * unit
  S rstd = S(0);                 ///< of dx, where it is at most the largest number: 0 times it is 0
  S scale = S(1), near = S(0);   ///< rstd = scale * near: a power of two, and something about 1 where rstd is far from it
  A slope = A(0), offset = A(0);

  /// Of no statistic. Compilers compute with coefficients before they know whether these are needed: what was never set might trap.
  TENSORNORM_INLINE GradientCenter() {}
  template <class Args>
  TENSORNORM_INLINE GradientCenter(const Args& args, Index k) {
    const S hi = args.normalized ? S(0) : args.statistics.mean[k], lo = args.normalized ? S(0) : args.statistics.mean_lo[k];
    const auto at_most = [](S x) {
      if constexpr (may_scale<A, typename Args::Element>) return std::min(x, S(std::numeric_limits<A>::max()));
      else return x;
    };
    const S exact = args.statistics.rstd[k];
    rstd = at_most(exact);
    scale = S(gradient_scale<A, typename Args::Element>(hi, rstd));
    near = unit = rstd;
    if (scale != S(1)) {
      near = rstd / scale;
      unit = keeps_rest<A, S> ? near : at_most(S(exact / scale));
    }
    if (args.normalized) unit = S(1);
    factor = args.normalized ? A(1) : static_cast<A>(scale);
    mean = static_cast<A>(hi * scale);
    if constexpr (SafeScale<A>::needed)
      if (args.samples >= kChunk) mean = coarse(mean, static_cast<A>(args.rule.deviation(near, scale)));
    rest = (S(mean) - hi * scale) - lo * scale;
  }
  TENSORNORM_INLINE A shift() const { return static_cast<A>(rest * unit); }
  /// sum of g * (x - mean), of g * norm in units of 1 / unit.
  TENSORNORM_INLINE S centered(const GradientSums<S>& sums) const { return fused<S>(rest, sums.plain, sums.centered); }
  /// With the sums of g = dy * weight over all samples.
  template <class Args>
  TENSORNORM_INLINE void finish(const Args& args, const GradientSums<S>& sums) {
    if (args.constant) {
      mean = A(0);  // dy stands in for x, and its distance to the mean might overflow
      return;
    }
    const S to_x = args.normalized ? S(S(1) / or_one(near)) : S(1);  // from units of the norm to those of x * scale
    const S steep = scale * (args.rule.template slope<S>(near, centered(sums) * to_x, args.samples, scale) * to_x);
    slope = static_cast<A>(steep);
    offset = static_cast<A>(fused<S>(steep, rest, args.rule.offset(rstd, sums.plain, args.samples)));
  }
};

inline namespace TENSORNORM_ABI {

/// GradientCenter of as many statistics as V has lanes, where are_near(): each the same bits as there.
template <class A, class V>
struct GradientCenterLanes {
  using S = typename V::Number;
  V mean, rest, rstd;

  /// None of the statistics from k on asks for a scale. Asked before anything is computed of them, which might overflow.
  template <class Args>
  TENSORNORM_INLINE static bool are_near(const Args& args, Index k) {
    if constexpr (may_scale<A, typename Args::Element>) {
      return V::load(args.statistics.rstd + k).is_within(V(S(1 / SafeScale<A>::gradient)), V(S(SafeScale<A>::gradient)));
    } else {
      return true;
    }
  }
  template <class Args>
  TENSORNORM_INLINE GradientCenterLanes(const Args& args, Index k) : rstd(V::load(args.statistics.rstd + k)) {
    const V hi = V::load(args.statistics.mean + k), lo = V::load(args.statistics.mean_lo + k);
    A rounded[V::width];
    hi.store(rounded);
    if (args.samples >= kChunk) {
      A spread[V::width];
      args.rule.deviation(rstd).store(spread);
      for (int i = 0; i < V::width; ++i) rounded[i] = coarse(rounded[i], spread[i]);
    }
    mean = V::load(rounded);
    rest = (mean - hi) - lo;
  }
  template <class Args>
  TENSORNORM_INLINE void finish(const Args& args, const V& plain, const V& centered, A* slope, A* offset) const {
    const V steep = args.rule.slope(rstd, fused<V>(rest, plain, centered), args.samples);
    steep.store(slope);
    fused<V>(steep, rest, args.rule.offset(rstd, plain, args.samples)).store(offset);
  }
};

/// GradientCenters of several statistics, an array of each number.
template <class A, class S>
struct GradientCenterArrays {
  S *rest, *unit;
  A *mean, *factor, *rstd, *shift, *slope, *offset;  ///< rstd: that of the norm, and once finished that of dx; shift: that of the norm

  struct Made {
    Index in_lanes;  ///< so many, from the first on, which have a factor of 1
    bool scaled;     ///< one of the others has another factor
  };
  /// All but slope and offset for `count` statistics, the first of them the k-th, each `step` after the one before.
  template <class I, class Args>
  TENSORNORM_INLINE Made set(const Args& args, Index k, Index step, Index count) const {
    Made made{0, false};
    if constexpr (finishes_in_lanes<S, I>()) {
      using Centers = GradientCenterLanes<A, HardwareLanes<S, I>>;
      constexpr Index w = HardwareLanes<S, I>::width;
      const Index end = step == 1 && !args.normalized ? count / w * w : 0;
      for (Index& i = made.in_lanes; i < end && Centers::are_near(args, k + i); i += w) {
        const Centers centers(args, k + i);
        centers.rest.store(rest + i);
        centers.rstd.store(unit + i);
        centers.mean.store(mean + i);
        std::fill_n(factor + i, w, A(1));
        centers.rstd.store(rstd + i);
        (centers.rest * centers.rstd).store(shift + i);
      }
    }
    for (Index i = made.in_lanes; i < count; ++i) {
      const GradientCenter<A, S> center(args, k + i * step);
      made.scaled |= center.factor != A(1);
      rest[i] = center.rest;
      unit[i] = center.unit;
      mean[i] = center.mean;
      factor[i] = center.factor;
      rstd[i] = static_cast<A>(center.unit);
      shift[i] = center.shift();
    }
    return made;
  }
  /// rstd, slope and offset from the sums of g = dy * weight; the other arguments are those of set(), and what it made in lanes.
  template <class I, class Args>
  TENSORNORM_INLINE void finish(const Args& args, Index k, Index step, Index count, Index in_lanes, const S* plain, const S* centered) const {
    Index i = 0;
    if constexpr (finishes_in_lanes<S, I>()) {
      using V = HardwareLanes<S, I>;
      for (const Index end = args.constant ? 0 : in_lanes; i < end; i += V::width)
        GradientCenterLanes<A, V>(args, k + i).finish(args, V::load(plain + i), V::load(centered + i), slope + i, offset + i);
    }
    for (; i < count; ++i) {
      GradientCenter<A, S> center(args, k + i * step);
      if (args.constant) mean[i] = A(0);
      else center.finish(args, {plain[i], centered[i]});
      rstd[i] = static_cast<A>(center.rstd);
      slope[i] = center.slope;
      offset[i] = center.offset;
    }
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
