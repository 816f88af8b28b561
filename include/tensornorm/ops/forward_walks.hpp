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
TENSORNORM_INLINE void normalize_run(const Args& args, const C& center, const Offsets& at, Index length, Index param_stride, Index ahead,
                                     StoreOptions stores) {
  using A = typename Args::A;
  using S = typename Args::S;
  using L = HardwareLanes<A, I>;
  const auto* x = args.x + at.data[0];
  auto* y = args.y + at.data[1];
  if (param_stride == 0 || args.weight == nullptr) {
    const S w = args.weight != nullptr ? S(args.weight[at.param]) : S(1), b = args.bias != nullptr ? S(args.bias[at.param]) : S(0);
    const ScaleMap<L, Uniform<L>> map{uniform<A, I>(center.mean), uniform<A, I>(center.scale(w)), uniform<A, I>(center.shift(w, b))};
    transform_run<A, I>(x, y, length, map, ahead, stores);
  } else {
    const AffineMap<L, Uniform<L>, PerElement<L, A>> map{uniform<A, I>(center.mean),
                                                         uniform<A, I>(center.scale(S(1))),
                                                         uniform<A, I>(center.shift(S(1), S(0))),
                                                         {args.weight + at.param},
                                                         {args.bias + at.param}};
    transform_run<A, I>(x, y, length, map, ahead, stores);
  }
}

/// Sliced: one statistic at a time, its moments, then its elements while they are in the cache, the last slice first.
template <class Args>
struct RowForward {
  const Args& args;
  const RowWalk& walk;
  StoreOptions stores;
  Index first, last;  ///< statistics, in the order of memory

  template <class I>
  TENSORNORM_INLINE void run() const {
    Odometer kept(walk.kept, first);
    for (Index k = first; k < last; ++k) {
      const Offsets at = kept.offsets();
      kept.next();
      const Index ahead = k + 1 < last ? kept.offsets().data[0] - at.data[0] : 0;
      const auto center = moments<I>(at);
      if (args.y == nullptr) continue;
      if (walk.affine) normalize(at, center, walk.runs, walk.run.extent, walk.run.param, ahead, static_cast<I*>(nullptr));
      else normalize(at, center, walk.slices, walk.length, 0, ahead, static_cast<I*>(nullptr));
    }
    if (stores.streaming) fence<Store::streaming>();
  }

 private:
  using A = typename Args::A;
  using S = typename Args::S;

  template <class I>
  TENSORNORM_INLINE Center<A, S> moments(const Offsets& at) const {
    const Index slices = walk.slices.size();
    const auto* x = args.x + at.data[0];
    Welford<S> state;
    S squares = S(0);
    Odometer slice(walk.slices);
    for (Index i = 0; i < slices; ++i) {
      const auto* elements = x + slice.offsets().data[0];
      if (args.rule.centered) row_moments<A, S, I>(elements, walk.length, state);
      else row_square_sum<A, S, I>(elements, walk.length, squares);
      if (slices > 1) slice.next();
    }
    if (!args.rule.centered) state = Welford<S>(args.samples, S(0), S(0), squares);
    return finish_statistic<A, S>(args.rule, args.samples, state, args.statistics, at.statistic);
  }

  template <class I>
  TENSORNORM_INLINE void normalize(const Offsets& at, const Center<A, S>& center, const LoopList& around, Index length, Index param_stride,
                                   Index ahead, I*) const {
    const Index runs = around.size();
    Odometer run(around, runs - 1);
    for (Index i = 0; i < runs; ++i) {
      normalize_run<I>(args, center, at + run.offsets(), length, param_stride, ahead, stores);
      if (runs > 1) run.previous();
    }
  }
};

/// Frozen, long runs: memory in its own order, each run with the statistic it belongs to.
template <class Args>
struct FrozenRows {
  const Args& args;
  const LoopList& runs;  ///< all loops but the innermost
  const Loop& run_loop;
  StoreOptions stores;
  Index first, last;

  template <class I>
  TENSORNORM_INLINE void run() const {
    using A = typename Args::A;
    using S = typename Args::S;
    Odometer at(runs, first);
    for (Index i = first; i < last; ++i, at.next()) {
      const Center<A, S> center = center_of<A, S>(args.statistics, at.offsets().statistic);
      normalize_run<I>(args, center, at.offsets(), run_loop.extent, run_loop.param, run_loop.extent, stores);
    }
    if (stores.streaming) fence<Store::streaming>();
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
