// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/scratch.hpp>
#include <tensornorm/kernels/fold.hpp>
#include <tensornorm/kernels/moments.hpp>
#include <tensornorm/kernels/normalize.hpp>
#include <tensornorm/ops/schedule.hpp>
#include <tensornorm/stats/estimator.hpp>

namespace tensornorm::kernels {

// The schedules as they run inside an instruction set: the loops around the row and the column kernels.

/// One forward call below the axes: pointers, a rule, and what is wanted of it.
template <class T>
struct ForwardArguments {
  using Element = T;
  using A = accumulator_t<T>;
  using S = statistic_t<T>;

  const T* x = nullptr;
  T* y = nullptr;             ///< null: moments only
  const A* weight = nullptr;  ///< null: 1. Both null or neither where a parameter changes within a statistic.
  const A* bias = nullptr;    ///< null: 0
  StatisticsRule rule;
  Index samples = 1;
  StatisticsArrays<S> statistics;  ///< written; or, by the frozen walks, read
};

/// mean and rstd of one statistic as elements meet them.
template <class A, class S>
struct Center {
  A mean;   ///< rounded
  S rest;   ///< what rounding took from it, times -1
  S rstd;

  TENSORNORM_INLINE Center(S hi, S lo, S r) : mean(static_cast<A>(hi)), rest((S(mean) - hi) - lo), rstd(r) {}
  /// (x - mean) * scale + shift is the norm times weight plus bias, all rounded once.
  TENSORNORM_INLINE A scale(S weight) const { return static_cast<A>(rstd * weight); }
  TENSORNORM_INLINE A shift(S weight, S bias) const { return static_cast<A>(fused<S>(rest, rstd * weight, bias)); }
};

inline namespace TENSORNORM_ABI {

template <class A, class S>
TENSORNORM_INLINE Center<A, S> center_of(const StatisticsArrays<S>& statistics, Index k) {
  return {statistics.mean[k], statistics.mean_lo != nullptr ? statistics.mean_lo[k] : S(0), statistics.rstd[k]};
}

/// The statistic made of a Welford state (or a sum of squares about 0), written where it is asked for.
template <class A, class S>
TENSORNORM_INLINE Center<A, S> finish_statistic(const StatisticsRule& rule, Index samples, const Welford<S>& state,
                                                const StatisticsArrays<S>& to, Index k) {
  const S variance = rule.variance(state.m2(), samples), rstd = rule.rstd(variance);
  if (to.mean != nullptr) to.mean[k] = state.mean();
  if (to.mean_lo != nullptr) to.mean_lo[k] = state.mean_lo();
  if (to.rstd != nullptr) to.rstd[k] = rstd;
  if (to.variance != nullptr) to.variance[k] = variance;
  return {state.mean(), state.mean_lo(), rstd};
}

template <class A, class I>
TENSORNORM_INLINE auto uniform(A value) {
  using L = HardwareLanes<A, I>;
  return Uniform<L>{L(value)};
}

/// One run with one statistic; weight and bias one value each, or beside the elements.
template <class I, class Args, class C>
TENSORNORM_INLINE void normalize_run(const Args& args, const C& center, const Offsets& at, const Loop& run, Index ahead, Store store) {
  using A = typename Args::A;
  using S = typename Args::S;
  using L = HardwareLanes<A, I>;
  const auto* x = args.x + at.data[0];
  auto* y = args.y + at.data[1];
  if (run.param == 0 || args.weight == nullptr) {
    const S w = args.weight != nullptr ? S(args.weight[at.param]) : S(1), b = args.bias != nullptr ? S(args.bias[at.param]) : S(0);
    const ScaleMap<L, Uniform<L>> map{uniform<A, I>(center.mean), uniform<A, I>(center.scale(w)), uniform<A, I>(center.shift(w, b))};
    transform_run<A, I>(x, y, run.extent, map, ahead, store);
  } else {
    const AffineMap<L, Uniform<L>, PerElement<L, A>> map{uniform<A, I>(center.mean),
                                                         uniform<A, I>(center.scale(S(1))),
                                                         uniform<A, I>(center.shift(S(1), S(0))),
                                                         {args.weight + at.param},
                                                         {args.bias + at.param}};
    transform_run<A, I>(x, y, run.extent, map, ahead, store);
  }
}

/// Sliced: one statistic at a time, its moments, then its elements while they are in the cache, the last slice first.
/// Frozen: the statistics are read, and the runs taken as they lie in memory.
template <class Args>
struct RowForward {
  const Args& args;
  const RowWalk& walk;
  Store store;
  bool frozen;
  Index first, last;  ///< statistics (frozen: runs) in the order of memory

  template <class I>
  TENSORNORM_INLINE void run() const {
    const Index runs = walk.runs.size();
    // An odometer that has been through all positions stands where it began.
    Odometer kept(walk.kept, first), slice(walk.slices), run(walk.runs, runs - 1);
    for (Index k = first; k < last; ++k) {
      const Offsets at = kept.offsets();
      if (k + 1 < last) kept.next();
      const Center<A, S> center = frozen ? center_of<A, S>(args.statistics, at.statistic) : moments<I>(at, slice);
      if (args.y == nullptr) continue;
      const Index ahead = kept.offsets().data[0] - at.data[0];
      for (Index i = runs; i > 0; --i, run.previous()) normalize_run<I>(args, center, at + run.offsets(), walk.run, ahead, store);
    }
    if (store == Store::streaming) fence<Store::streaming>();
  }

 private:
  using A = typename Args::A;
  using S = typename Args::S;

  template <class I>
  TENSORNORM_INLINE Center<A, S> moments(const Offsets& at, Odometer& slice) const {
    Welford<S> state;
    for (Index i = walk.slices.size(); i > 0; --i, slice.next())
      row_moments<A, S, I>(args.x + at.data[0] + slice.offsets().data[0], walk.length, args.rule.centered, state);
    return finish_statistic<A, S>(args.rule, args.samples, state, args.statistics, at.statistic);
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
