// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/backward_walks.hpp>
#include <tensornorm/ops/column_cuts.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// The arrays a strip of columns works in, backward.
template <class A, class S>
struct ColumnBackwardScratch {
  GradientCenterArrays<A, S> centers;  ///< per statistic
  A *column_mean, *column_factor, *column_rstd, *column_shift, *column_slope, *column_offset, *column_scale, *weight;
  A *weight_terms, *bias_terms;
  CutSums<A, S> column_sums;
  SumArray<A, S> plain, centered;  ///< per statistic

  /// The arrays that are read while dx is written, where that is no hindrance.
  template <class T>
  ColumnBackwardScratch beside(const T* dx) const {
    ColumnBackwardScratch at = *this;
    place_beside(dx, {&at.column_mean, &at.column_rstd, &at.column_slope, &at.column_offset, &at.column_scale, &at.column_factor});
    return at;
  }

  /// Bytes for a strip; binds the arrays where `memory` is given.
  template <class T>
  std::size_t lay_out(const ColumnWalk& walk, const T* x, std::byte* memory) {
    ScratchPlan plan;
    const Index columns = walk.strip_width() + 3 * kLine<A>, statistics = walk.strip_statistics(), past = past_line<A>(walk, x);
    column_sums.lay_out(plan, columns, walk.cuts, x, past, memory);
    for (SumArray<A, S>* array : {&plain, &centered}) array->place(plan, statistics, memory);
    for (S** array : {&centers.rest, &centers.unit}) plan.place(*array, statistics, memory);
    for (A** array : {&centers.mean, &centers.factor, &centers.rstd, &centers.shift, &centers.slope, &centers.offset})
      plan.place(*array, statistics, memory);
    for (A** array : {&column_mean, &column_factor, &column_rstd, &column_slope, &column_offset, &column_scale})
      plan.place(*array, columns + kPageElements<A>, memory);
    if (memory != nullptr) column_mean += past;
    for (A** array : {&column_shift, &weight, &weight_terms, &bias_terms}) plan.place(*array, columns, memory);
    return plan.bytes();
  }
};

/// The sums of dy * norm and of dy over runs of one weight each, whose lanes are gathered, added up together, and given to the parameters in
/// their order.
template <class A, class S>
class GatheredSums {
 public:
  explicit GatheredSums(const ParameterSums<A, S>& totals) : totals_(totals) {}
  template <class L>
  TENSORNORM_NESTED void add(Index param, const L& dweight, const L& dbias) {
    dweight.store(dweight_[count_]);
    dbias.store(dbias_[count_]);
    params_[count_] = param;
    if (++count_ == kTogether) flush();
  }
  /// Gives what there is. No template of an instruction set: it is compiled once for each of them, not wherever sums are added.
  TENSORNORM_CALLED void flush() {
    dispatch_as<A>([&]<class I>() TENSORNORM_NESTED_LAMBDA {
      A dweight[kTogether], dbias[kTogether];
      sums_of_rows<VirtualLanes<A, I>>(dweight_, count_, dweight);
      sums_of_rows<VirtualLanes<A, I>>(dbias_, count_, dbias);
      for (Index i = 0; i < count_; ++i) {
        totals_.dweight.add(params_[i], S(dweight[i]));
        totals_.dbias.add(params_[i], S(dbias[i]));
      }
    });
    count_ = 0;
  }

 private:
  alignas(64) A dweight_[kTogether][std::size_t(virtual_width<A>)];
  alignas(64) A dbias_[kTogether][std::size_t(virtual_width<A>)];
  Index params_[kTogether];
  Index count_ = 0;
  const ParameterSums<A, S>& totals_;
};

/// What the sums of a strip's columns, scratch.column_sums, give to its statistics, scratch.plain and scratch.centered, and, where
/// gradients are wanted, to those of its parameters.
template <class Args>
struct ColumnGradients {
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const ColumnBackwardScratch<A, S>& scratch;
  const ParameterSums<A, S>& totals;

  /// One weight for all of a statistic: its columns are folded first.
  template <class I>
  TENSORNORM_NESTED void of_statistics(const Strip& strip, Index in_lanes) const {
    set_folded(strip.columns, scratch.column_sums.plain, scratch.plain, strip.statistics);
    set_folded(strip.columns, scratch.column_sums.centered, scratch.centered, strip.statistics);
    LoopList kept;
    for (int i = 0; i < strip.columns.depth; ++i)
      if (!reduces(strip.columns.loops[i])) kept.push(strip.columns.loops[i]);
    Index i = 0;
    if constexpr (finishes_in_lanes<S, I>())
      if (kept.depth == 1 && kept.loops[0].statistic == 1 && kept.loops[0].param == 1)
        for (; i < in_lanes; i += HardwareLanes<S, I>::width) statistics_of<I>(strip, i);
    if (i == strip.statistics) return;
    Odometer at(kept, i);
    for (; i < strip.statistics; ++i, at.next()) {
      const Index k = at.offsets().statistic, p = strip.at.param + at.offsets().param;
      GradientSums<S> sums{scratch.plain[k], scratch.centered[k]};
      add_to_parameters(args, totals, p, scratch.centers.unit[k], scratch.centers.rest[k], sums.plain, sums.centered);
      if (args.weight == nullptr) continue;
      scratch.plain[k] = sums.plain * S(args.weight[p]);
      scratch.centered[k] = sums.centered * S(args.weight[p]);
    }
  }

  /// Each column its own weight.
  template <class I>
  TENSORNORM_NESTED void of_columns(const Strip& strip) const {
    scratch.plain.clear(strip.statistics);
    scratch.centered.clear(strip.statistics);
    const LoopList& columns = strip.columns;
    const auto goes_on = [](const Loop& loop) { return loop.statistic == 0 && loop.param == 1; };
    int around = columns.depth - 1;  // loops around the innermost
    Loop inner = columns.loops[around];
    Index apart = 1;  // statistics beside each other, which the next parameter meets again: each is gone through by itself
    if (inner.statistic == 1 && inner.param == 0 && around > 0 && goes_on(columns.loops[around - 1])) {
      apart = inner.extent;
      inner = columns.loops[--around];
    }
    Odometer at(columns, 0, around);
    for (Index c = 0; c < strip.width; c += inner.extent * apart, at.next()) {
      const Index param = strip.at.param + at.offsets().param;
      for (Index k = 0; k < apart; ++k) {
        const Index statistic = at.offsets().statistic + k;
        Index i = 0;
        if constexpr (finishes_in_lanes<S, I>())
          if (goes_on(inner)) i = columns_of<I>(c + k, apart, inner.extent, statistic, param);
        for (; i < inner.extent; ++i) column_of(c + k + i * apart, statistic + i * inner.statistic, param + i * inner.param);
      }
    }
  }

 private:
  /// of_statistics() for a vector of them from k on, beside each of which is the next parameter.
  template <class I>
  TENSORNORM_NESTED void statistics_of(const Strip& strip, Index k) const {
    using V = HardwareLanes<S, I>;
    const Index p = strip.at.param + k;
    const V plain = V::load(scratch.plain.sum + k), sum = V::load(scratch.centered.sum + k);
    add_to_parameters(args, totals, p, V::load(scratch.centers.unit + k), V::load(scratch.centers.rest + k), plain, sum);
    if (args.weight == nullptr) return;
    const V weight = V::load(args.weight + p);
    (plain * weight).store(scratch.plain.sum + k);
    (sum * weight).store(scratch.centered.sum + k);
  }

  /// Column c, of statistic k.
  TENSORNORM_NESTED void column_of(Index c, Index k, Index param) const {
    const GradientSums<S> sums{scratch.column_sums.plain[c], scratch.column_sums.centered[c]};
    add_to_parameters(args, totals, param, scratch.centers.unit[k], scratch.centers.rest[k], sums.plain, sums.centered);
    const S weight = args.weight != nullptr ? S(args.weight[param]) : S(1);
    scratch.plain.add(k, weight, sums.plain);
    scratch.centered.add(k, weight, sums.centered);
  }

  /// The same of n columns of one statistic, so far apart, as far as they are whole vectors; returns how many were added.
  template <class I>
  TENSORNORM_NESTED Index columns_of(Index c, Index apart, Index n, Index k, Index param) const {
    using V = VirtualLanes<S, I>;
    const auto load = [&](const S* sums) TENSORNORM_NESTED_LAMBDA {
      return apart == 1 ? V::load(sums) : V::of([&](int lane) TENSORNORM_NESTED_LAMBDA { return sums[lane * apart]; });
    };
    V unit(scratch.centers.unit[k]), rest(scratch.centers.rest[k]);
    V plain_sum, plain_rest, centered_sum, centered_rest;
    Index i = 0;
    for (; i + V::width <= n; i += V::width) {
      const V plain = load(scratch.column_sums.plain + c + i * apart), centered = load(scratch.column_sums.centered + c + i * apart);
      add_to_parameters(args, totals, param + i, unit, rest, plain, centered);
      const V weight = args.weight != nullptr ? V::load(args.weight + param + i) : V(S(1));
      accumulate<keeps_rest<A, S>>(plain_sum, plain_rest, weight, plain);
      accumulate<keeps_rest<A, S>>(centered_sum, centered_rest, weight, centered);
    }
    if (i == 0) return 0;
    add_lanes(scratch.plain.from(k), plain_sum, plain_rest, S(0));
    add_lanes(scratch.centered.from(k), centered_sum, centered_rest, S(0));
    return i;
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
