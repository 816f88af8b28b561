// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/forward_walks.hpp>

namespace tensornorm::kernels {

/// The arrays a strip of columns works in; `A` per column or statistic, `S` for sums.
template <class A, class S>
struct ColumnScratch {
  A *pivot, *column_pivot, *mean, *scale, *shift, *weight, *bias, *column_mean, *column_scale, *column_shift;
  S *sum, *squares, *column_sum, *column_squares;

  /// Bytes for a strip of `columns` columns that belong to `statistics` statistics; binds the arrays where `memory` is given.
  std::size_t lay_out(Index columns, Index statistics, std::byte* memory) {
    ScratchPlan plan;
    const auto place = [&](auto*& array, Index count) {
      using Element = std::remove_reference_t<decltype(*array)>;
      const std::size_t offset = plan.template reserve<Element>(count);
      array = memory != nullptr ? reinterpret_cast<Element*>(memory + offset) : nullptr;
    };
    for (S** array : {&column_sum, &column_squares}) place(*array, columns);
    for (S** array : {&sum, &squares}) place(*array, statistics);
    for (A** array : {&column_pivot, &column_mean, &column_scale, &column_shift, &weight, &bias}) place(*array, columns);
    for (A** array : {&pivot, &mean, &scale, &shift}) place(*array, statistics);
    return plan.bytes();
  }
};

inline namespace TENSORNORM_ABI {

/// Folded columns, sliced into strips that stay in the cache, or in two passes over memory where one strip is all; or frozen.
template <class Args>
struct ColumnForward {
  const Args& args;
  const ColumnWalk& walk;
  StoreOptions stores;
  bool frozen;        ///< args.statistics are given
  Index first, last;  ///< strips, counted through all problems
  ColumnScratch<typename Args::A, typename Args::S> scratch;

  template <class I>
  TENSORNORM_INLINE void run() const {
    for (Index i = first; i < last; ++i) {
      const Loop& outer = walk.columns.loops[0];
      const Index start = i % walk.strips * walk.strip_extent;
      Strip strip{Odometer(walk.problems, i / walk.strips).offsets(), walk.columns, walk.width, walk.statistics};
      if (walk.strips > 1) {
        strip.at.advance(outer, start);
        strip.columns.loops[0].extent = std::min(walk.strip_extent, outer.extent - start);
        strip.width = walk.width / outer.extent * strip.columns.loops[0].extent;
        strip.statistics = walk.statistics / outer.extent * strip.columns.loops[0].extent;
      }
      if (!frozen) moments<I>(strip);
      if (args.y == nullptr) continue;
      if (frozen) load_centers(strip);
      if (walk.affine) affine_rows<I>(strip);
      else plain_rows<I>(strip);
    }
    if (stores.streaming) fence<Store::streaming>();
  }

 private:
  using A = typename Args::A;
  using S = typename Args::S;

  struct Strip {
    Offsets at;
    LoopList columns;
    Index width, statistics;
  };

  TENSORNORM_INLINE void keep(Index k, const Center<A, S>& center) const {
    scratch.mean[k] = center.mean;
    scratch.scale[k] = center.scale(S(1));
    scratch.shift[k] = center.shift(S(1), S(0));
  }

  TENSORNORM_INLINE void load_centers(const Strip& strip) const {
    for (Index k = 0; k < strip.statistics; ++k) keep(k, center_of<A, S>(args.statistics, strip.at.statistic + k));
  }

  template <class I>
  TENSORNORM_INLINE void add_columns(const Strip& strip, Index from, Index to) const {
    const auto* x = args.x + strip.at.data[0];
    for (S* sums : {scratch.column_sum, scratch.column_squares}) fill<S, I>(sums + from, S(0), to - from);
    column_moments<A, S, I>(x + from, walk.rows, walk.row_stride[0], to - from, scratch.column_pivot + from, scratch.column_sum + from,
                            scratch.column_squares + from);
    const Index tail = std::min(to, walk.tail);
    if (from < tail)
      column_moments<A, S, I>(x + walk.rows * walk.row_stride[0] + from, 1, 0, tail - from, scratch.column_pivot + from,
                              scratch.column_sum + from, scratch.column_squares + from);
  }

  template <class I>
  TENSORNORM_INLINE void fold_columns(const Strip& strip) const {
    for (S* sums : {scratch.sum, scratch.squares}) fill<S, I>(sums, S(0), strip.statistics);
    fold<S, I>(strip.columns, scratch.column_sum, scratch.sum);
    fold<S, I>(strip.columns, scratch.column_squares, scratch.squares);
  }

  /// A pivot that turned out bad is replaced and the columns from the first to the last such statistic are added up once more: good
  /// ones among them come out as they were, bit for bit.
  template <class I>
  TENSORNORM_INLINE void moments(const Strip& strip) const {
    const auto* x = args.x + strip.at.data[0];
    if (args.rule.centered) sample_pivots<A, I>(x, walk.rows, walk.row_stride[0], strip.columns, scratch.pivot, strip.statistics);
    else fill<A, I>(scratch.pivot, A(0), strip.statistics);
    expand<&Loop::statistic, A, I>(strip.columns, scratch.pivot, scratch.column_pivot);
    add_columns<I>(strip, 0, strip.width);
    fold_columns<I>(strip);
    bool bad = false;
    for (Index k = 0; args.rule.centered && k < strip.statistics; ++k) {
      if (!is_bad_pivot(args.samples, scratch.sum[k], scratch.squares[k])) continue;
      scratch.pivot[k] = static_cast<A>(S(scratch.pivot[k]) + scratch.sum[k] / S(args.samples));
      bad = true;
    }
    if (bad) {
      expand<&Loop::statistic, A, I>(strip.columns, scratch.pivot, scratch.column_mean);
      Index from = 0, to = strip.width;
      while (from < to && scratch.column_mean[from] == scratch.column_pivot[from]) ++from;
      while (to > from && scratch.column_mean[to - 1] == scratch.column_pivot[to - 1]) --to;
      expand<&Loop::statistic, A, I>(strip.columns, scratch.pivot, scratch.column_pivot);
      add_columns<I>(strip, from, to);
      fold_columns<I>(strip);
    }
    for (Index k = 0; k < strip.statistics; ++k) {
      Welford<S> state(args.samples, S(0), S(0), scratch.squares[k]);
      if (args.rule.centered) {
        state = Welford<S>();
        state.merge_sums(args.samples, S(scratch.pivot[k]), scratch.sum[k], scratch.squares[k]);
      }
      keep(k, finish_statistic<A, S>(args.rule, args.samples, state, args.statistics, strip.at.statistic + k));
    }
  }

  /// Every row with the same coefficients: weight and bias go into them.
  template <class I>
  TENSORNORM_INLINE void plain_rows(const Strip& strip) const {
    using L = HardwareLanes<A, I>;
    expand_centers<I>(strip);
    if (args.weight != nullptr || args.bias != nullptr) {
      if (args.weight != nullptr) expand<&Loop::param, A, I>(strip.columns, args.weight + strip.at.param, scratch.weight);
      else fill<A, I>(scratch.weight, A(1), strip.width);
      if (args.bias != nullptr) expand<&Loop::param, A, I>(strip.columns, args.bias + strip.at.param, scratch.bias);
      else fill<A, I>(scratch.bias, A(0), strip.width);
      fold_parameters<I>(strip.width);
    }
    const ScaleMap<L, PerElement<L, A>> map{{scratch.column_mean}, {scratch.column_scale}, {scratch.column_shift}};
    rows<I>(strip.at, walk.rows, strip.width, map);
    if (walk.tail > 0) {
      Offsets at = strip.at;
      for (int k = 0; k < kMaxOperands; ++k) at.data[k] += walk.rows * walk.row_stride[k];
      rows<I>(at, 1, walk.tail, map);
    }
  }

  template <class I>
  TENSORNORM_INLINE void expand_centers(const Strip& strip) const {
    expand<&Loop::statistic, A, I>(strip.columns, scratch.mean, scratch.column_mean);
    expand<&Loop::statistic, A, I>(strip.columns, scratch.scale, scratch.column_scale);
    expand<&Loop::statistic, A, I>(strip.columns, scratch.shift, scratch.column_shift);
  }

  /// scale *= weight; shift = shift * weight + bias. Whole vectors: the arrays are padded.
  template <class I>
  TENSORNORM_INLINE void fold_parameters(Index width) const {
    using L = HardwareLanes<A, I>;
    for (Index c = 0; c < width; c += L::width) {
      const L weight = L::load(scratch.weight + c);
      L shift = L::load(scratch.bias + c);
      shift.fma(L::load(scratch.column_shift + c), weight);
      shift.store(scratch.column_shift + c);
      (L::load(scratch.column_scale + c) * weight).store(scratch.column_scale + c);
    }
  }

  /// Weight and bias change from row to row: one value for the row, or, where they change along the columns too, one for each.
  template <class I>
  TENSORNORM_INLINE void affine_rows(const Strip& strip) const {
    using L = HardwareLanes<A, I>;
    expand_centers<I>(strip);
    bool along_columns = false;
    for (int i = 0; i < strip.columns.depth; ++i) along_columns |= strip.columns.loops[i].param != 0;
    Odometer row(walk.affine_rows);
    for (Index r = walk.affine_rows.size(); r > 0; --r, row.next()) {
      const Offsets at = strip.at + row.offsets();
      if (along_columns) {
        expand<&Loop::param, A, I>(strip.columns, args.weight + at.param, scratch.weight);
        expand<&Loop::param, A, I>(strip.columns, args.bias + at.param, scratch.bias);
      } else {
        fill<A, I>(scratch.weight, args.weight[at.param], strip.width);
        fill<A, I>(scratch.bias, args.bias[at.param], strip.width);
      }
      const AffineMap<L, PerElement<L, A>, PerElement<L, A>> map{
          {scratch.column_mean}, {scratch.column_scale}, {scratch.column_shift}, {scratch.weight}, {scratch.bias}};
      rows<I>(at, 1, strip.width, map);
    }
  }

  template <class I, class Map>
  TENSORNORM_INLINE void rows(const Offsets& at, Index count, Index width, const Map& map) const {
    for (Index r = 0; r < count; ++r)
      transform_run<A, I>(args.x + at.data[0] + r * walk.row_stride[0], args.y + at.data[1] + r * walk.row_stride[1], width, map,
                          walk.row_stride[0], stores);
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
