// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/kernels/backward.hpp>
#include <tensornorm/ops/forward_walks.hpp>

namespace tensornorm::kernels {

/// One backward call below the axes.
template <class T>
struct BackwardArguments {
  using Element = T;
  using A = accumulator_t<T>;
  using S = statistic_t<T>;

  const T* x = nullptr;
  const T* dy = nullptr;
  T* dx = nullptr;            ///< null: parameters only
  const A* weight = nullptr;  ///< null: 1, unless a parameter changes within a statistic
  StatisticsRule rule;
  Index samples = 1;
  StatisticsArrays<const S> statistics;
  bool constant = false;    ///< the statistics do not depend on x
  bool normalized = false;  ///< x holds the norm itself
  bool gradients = false;   ///< weight and bias gradients are wanted
};

/// Gradients of weight and bias as they are added up, one value per parameter; a vector of zeros may be added after the last.
template <class S>
struct ParameterSums {
  S *dweight, *dbias;
};

/// A statistic as gradients meet it: dx = dy * weight * rstd + (x - mean) * slope + offset.
template <class A, class S>
struct GradientCenter {
  A mean;
  S rest, rstd, unit;  ///< norm = (x - mean + rest) * unit
  A slope = A(0), offset = A(0);

  template <class Args>
  TENSORNORM_INLINE GradientCenter(const Args& args, Index k) {
    const Center<A, S> center(args.normalized ? S(0) : args.statistics.mean[k], args.normalized ? S(0) : args.statistics.mean_lo[k],
                              args.statistics.rstd[k]);
    mean = center.mean;
    rest = center.rest;
    rstd = center.rstd;
    unit = args.normalized ? S(1) : rstd;
  }
  TENSORNORM_INLINE A shift() const { return static_cast<A>(rest * unit); }
  /// sum of g * (x - mean), of g * norm in units of 1 / unit.
  TENSORNORM_INLINE S centered(const GradientSums<S>& sums) const { return fused<S>(rest, sums.plain, sums.centered); }
  /// With the sums of g = dy * weight over all samples.
  template <class Args>
  TENSORNORM_INLINE void finish(const Args& args, const GradientSums<S>& sums) {
    if (args.constant) return;
    const S to_x = args.normalized && !(rstd == S(0)) ? S(1) / rstd : S(1);  // from units of the norm to those of x
    const S factor = args.rule.slope(rstd, centered(sums) * to_x, args.samples) * to_x;
    const S shared = args.rule.centered ? S(0) - rstd * (sums.plain / S(args.samples)) : S(0);
    slope = static_cast<A>(factor);
    offset = static_cast<A>(fused<S>(factor, rest, shared));
  }
};

inline namespace TENSORNORM_ABI {

/// Row form: one statistic at a time, its sums, then its gradients while x and dy are in the cache, the last run first.
template <class Args>
struct RowBackward {
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const RowWalk& walk;
  Store store;
  Index first, last;  ///< statistics in the order of memory
  ParameterSums<S> totals;
  A *dweight, *dbias;  ///< where parameters lie beside the elements: a few rows' gradients before they are folded into the totals
  Index params;

  template <class I>
  TENSORNORM_INLINE void run() const {
    const bool beside = walk.run.param != 0;
    const Index runs = walk.runs.size();
    Odometer kept(walk.kept, first), forwards(walk.runs), backwards(walk.runs, runs - 1);
    Index pending = 0;
    for (Index k = first; k < last; ++k) {
      const Offsets at = kept.offsets();
      if (k + 1 < last) kept.next();
      GradientCenter<A, S> center(args, at.statistic);
      GradientSums<S> sums;
      if (args.gradients || !args.constant)
        for (Index i = runs; i > 0; --i, forwards.next()) add_run<I>(at + forwards.offsets(), center, sums);
      if (args.gradients && beside && (++pending == kTileRows || k + 1 == last)) {
        fold_tile<A, S, I>({dweight, dbias}, params, totals.dweight, totals.dbias);
        pending = 0;
      }
      if (args.dx == nullptr) continue;
      center.finish(args, sums);
      const Index ahead = kept.offsets().data[0] - at.data[0];
      for (Index i = runs; i > 0; --i, backwards.previous()) write_run<I>(at + backwards.offsets(), center, ahead);
    }
    if (store == Store::streaming) fence<Store::streaming>();
  }

 private:
  template <class I>
  TENSORNORM_INLINE void add_run(const Offsets& at, const GradientCenter<A, S>& center, GradientSums<S>& sums) const {
    const auto* x = args.x + at.data[0];
    const auto* dy = args.dy + at.data[1];
    const bool from_memory = store == Store::streaming;
    GradientSums<S> run;
    S weight = S(1);
    if (walk.run.param == 0) {
      run = row_gradient_sums<false, false, A, S, I>(x, dy, walk.run.extent, {center.mean, A(0), A(0), nullptr, nullptr, nullptr}, from_memory);
      if (args.weight != nullptr) weight = S(args.weight[at.param]);
      if (args.gradients) {
        totals.dweight[at.param] = fused<S>(center.unit, center.centered(run), totals.dweight[at.param]);
        totals.dbias[at.param] = totals.dbias[at.param] + run.plain;
      }
    } else {
      const RowGradients<A> row{center.mean, static_cast<A>(center.unit), center.shift(), args.weight + at.param, dweight, dbias};
      if (args.gradients) {
        RowGradients<A> beside = row;
        beside.dweight += at.param;
        beside.dbias += at.param;
        run = row_gradient_sums<true, true, A, S, I>(x, dy, walk.run.extent, beside, from_memory);
      } else {
        run = row_gradient_sums<true, false, A, S, I>(x, dy, walk.run.extent, row, from_memory);
      }
    }
    sums.plain = fused<S>(weight, run.plain, sums.plain);
    sums.centered = fused<S>(weight, run.centered, sums.centered);
  }

  template <class I>
  TENSORNORM_INLINE void write_run(const Offsets& at, const GradientCenter<A, S>& center, Index ahead) const {
    using T = typename Args::Element;
    using L = HardwareLanes<A, I>;
    using U = Uniform<L>;
    const auto* dy = args.dy + at.data[1];
    const auto* x = args.constant ? dy : args.x + at.data[0];  // constants: dx does not depend on x
    auto* dx = args.dx + at.data[2];
    const U mean = uniform<A, I>(center.mean), slope = uniform<A, I>(center.slope), offset = uniform<A, I>(center.offset);
    if (walk.run.param == 0) {
      const S weight = args.weight != nullptr ? S(args.weight[at.param]) : S(1);
      const GradientMap<L, T, U> map(dy, mean, uniform<A, I>(static_cast<A>(center.rstd * weight)), slope, offset);
      transform_run<A, I>(x, dx, walk.run.extent, map, ahead, store);
    } else {
      const WeightedGradientMap<L, T, U, PerElement<L, A>> map(dy, mean, uniform<A, I>(static_cast<A>(center.rstd)), slope, offset,
                                                              {args.weight + at.param});
      transform_run<A, I>(x, dx, walk.run.extent, map, ahead, store);
    }
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
