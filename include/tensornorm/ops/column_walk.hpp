// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/forward_walks.hpp>

namespace tensornorm::kernels {

/// The arrays a strip of columns works in; `A` per column or statistic, `S` for sums.
template <class A, class S>
struct ColumnScratch {
  TileSums<A> tile;
  A *pivot, *column_pivot, *mean, *scale, *shift, *weight, *bias, *column_mean, *column_scale, *column_shift;
  S *sum, *squares, *column_sum, *column_squares;
  static constexpr Index kLine = 64 / Index(sizeof(A));

  /// The arrays beside columns, from element `elements` < kLine on: aligned where the rows of y are.
  ColumnScratch shifted(Index elements) const {
    ColumnScratch result = *this;
    for (A** array : {&result.column_mean, &result.column_scale, &result.column_shift, &result.weight, &result.bias}) *array += elements;
    return result;
  }

  /// Bytes for a strip of `columns` columns that belong to `statistics` statistics; binds the arrays where `memory` is given.
  std::size_t lay_out(Index columns, Index statistics, std::byte* memory) {
    columns += 2 * kLine;
    ScratchPlan plan;
    for (S** array : {&column_sum, &column_squares}) plan.place(*array, columns, memory);
    for (S** array : {&sum, &squares}) plan.place(*array, statistics, memory);
    for (A** array : {&tile.plain, &tile.centered, &column_pivot, &column_mean, &column_scale, &column_shift, &weight, &bias}) plan.place(*array, columns, memory);
    for (A** array : {&pivot, &mean, &scale, &shift}) plan.place(*array, statistics, memory);
    return plan.bytes();
  }
};

inline namespace TENSORNORM_ABI {

/// Folded columns, sliced into strips that stay in the cache, or in two passes over memory where one strip is all; or frozen.
template <class Args>
struct ColumnForward {
  const Args& args;
  const ColumnWalk& walk;
  Store store;
  bool frozen;        ///< args.statistics are given
  Index first, last;  ///< strips, counted through all problems
  using Scratch = ColumnScratch<typename Args::A, typename Args::S>;
  Scratch scratch;

  template <class I>
  TENSORNORM_INLINE void run() const {
    for (Index i = first; i < last; ++i) {
      const Strip strip(walk, i);
      if (!frozen) moments<I>(strip);
      if (args.y == nullptr) continue;
      if (frozen)
        for (Index k = 0; k < strip.statistics; ++k) keep(k, center_of<A, S>(args.statistics, strip.at.statistic + k));
      normalize<I>(strip);
    }
    if (store == Store::streaming) fence<Store::streaming>();
  }

 private:
  using A = typename Args::A;
  using S = typename Args::S;

  TENSORNORM_INLINE void keep(Index k, const Center<A, S>& center) const {
    scratch.mean[k] = center.mean;
    scratch.scale[k] = center.scale(S(1));
    scratch.shift[k] = center.shift(S(1), S(0));
  }

  /// A pivot that turned out bad is replaced and the columns from the first to the last such statistic are added up once more: good
  /// ones among them come out as they were, bit for bit.
  template <class I>
  TENSORNORM_INLINE void moments(const Strip& strip) const {
    const auto* x = args.x + strip.at.data[0];
    const Index tail_at = walk.moment_rows * walk.row_stride[0];
    if (args.rule.centered) sample_pivots(x, walk.moment_rows, walk.row_stride[0], strip.columns, scratch.pivot, strip.statistics);
    else std::fill_n(scratch.pivot, strip.statistics, A(0));
    expand<&Loop::statistic>(strip.columns, scratch.pivot, scratch.column_pivot);
    Index from = 0, to = strip.width;
    for (bool again = args.rule.centered;; again = false) {
      for (S* sums : {scratch.column_sum, scratch.column_squares}) std::fill_n(sums + from, to - from, S(0));
      for (A* sums : {scratch.tile.plain, scratch.tile.centered}) std::fill_n(sums, to - from + Scratch::kLine, A(0));
      for (const bool tail : {false, true}) {
        const Index end = tail ? std::min(to, walk.moment_tail) : to;
        if (from < end)
          column_moments<A, S, I>(x + from + (tail ? tail_at : 0), tail ? 1 : walk.moment_rows, walk.row_stride[0], end - from,
                                  scratch.column_pivot + from, scratch.tile, scratch.column_sum + from, scratch.column_squares + from);
      }
      std::fill_n(scratch.sum, strip.statistics, S(0));
      std::fill_n(scratch.squares, strip.statistics, S(0));
      fold<&Loop::statistic>(strip.columns, scratch.column_sum, scratch.sum);
      fold<&Loop::statistic>(strip.columns, scratch.column_squares, scratch.squares);
      if (!again || !repivot(strip, from, to)) break;
    }
    for (Index k = 0; k < strip.statistics; ++k) {
      Welford<S> state;
      if (args.rule.centered) state.merge_sums(args.samples, S(scratch.pivot[k]), scratch.sum[k], scratch.squares[k]);
      else state = Welford<S>(args.samples, S(0), S(0), scratch.squares[k]);
      keep(k, finish_statistic<A, S>(args.rule, args.samples, state, args.statistics, strip.at.statistic + k));
    }
  }

  /// Replaces bad pivots and narrows [from, to) to the columns of such statistics; false where there is none.
  bool repivot(const Strip& strip, Index& from, Index& to) const {
    bool bad = false;
    for (Index k = 0; k < strip.statistics; ++k) {
      if (!is_bad_pivot(args.samples, scratch.sum[k], scratch.squares[k])) continue;
      scratch.pivot[k] = static_cast<A>(S(scratch.pivot[k]) + scratch.sum[k] / S(args.samples));
      bad = true;
    }
    if (!bad) return false;
    expand<&Loop::statistic>(strip.columns, scratch.pivot, scratch.column_mean);
    while (from < to && scratch.column_mean[from] == scratch.column_pivot[from]) ++from;
    while (to > from && scratch.column_mean[to - 1] == scratch.column_pivot[to - 1]) --to;
    std::copy(scratch.column_mean + from, scratch.column_mean + to, scratch.column_pivot + from);
    return from < to;
  }

  /// Rows with the same coefficients, into which weight and bias go; or, where a parameter changes from row to row, with its own.
  template <class I>
  TENSORNORM_INLINE void normalize(const Strip& strip) const {
    using L = HardwareLanes<A, I>;
    constexpr Index line = Scratch::kLine;
    const Scratch arrays = scratch.shifted((line - elements_to_alignment(args.y + strip.at.data[1], line)) % line);
    expand<&Loop::statistic>(strip.columns, arrays.mean, arrays.column_mean);
    expand<&Loop::statistic>(strip.columns, arrays.scale, arrays.column_scale);
    expand<&Loop::statistic>(strip.columns, arrays.shift, arrays.column_shift);
    if (!walk.affine && (args.weight != nullptr || args.bias != nullptr)) {
      expand_parameters(arrays, strip, strip.at.param, strip.width);
      fold_parameters<I>(arrays, strip.width);
    }
    const ScaleMap<L, PerElement<L, A>> scaled{{arrays.column_mean}, {arrays.column_scale}, {arrays.column_shift}};
    const AffineMap<L, PerElement<L, A>, PerElement<L, A>> affine{
        {arrays.column_mean}, {arrays.column_scale}, {arrays.column_shift}, {arrays.weight}, {arrays.bias}};
    Odometer group(walk.groups);
    for (Index g = walk.groups.size(); g > 0; --g, group.next()) {
      const Offsets at = strip.at + group.offsets();
      for (Index r = 0; r < walk.rows_of_group(); ++r) {
        const auto* x = args.x + at.data[0] + r * walk.row_stride[0];
        auto* y = args.y + at.data[1] + r * walk.row_stride[1];
        const Index width = walk.width_of_row(r, strip.width);
        if (walk.affine) {
          if (r == 0 || walk.row_param != 0) expand_parameters(arrays, strip, at.param + r * walk.row_param, width);
          transform_run<A, I>(x, y, width, affine, 0, store);
        } else {
          transform_run<A, I>(x, y, width, scaled, 0, store);
        }
      }
    }
  }

  /// The parameters from `at` on beside the first `width` columns, which are whole rows: there are no more of them at the end.
  void expand_parameters(const Scratch& arrays, const Strip& strip, Index at, Index width) const {
    const LoopList columns = first_columns(strip, width);
    if (args.weight != nullptr) expand<&Loop::param>(columns, args.weight + at, arrays.weight);
    else std::fill_n(arrays.weight, width, A(1));
    if (args.bias != nullptr) expand<&Loop::param>(columns, args.bias + at, arrays.bias);
    else std::fill_n(arrays.bias, width, A(0));
  }

  /// scale *= weight; shift = shift * weight + bias. Whole vectors: the arrays are padded.
  template <class I>
  TENSORNORM_INLINE void fold_parameters(const Scratch& arrays, Index width) const {
    using L = HardwareLanes<A, I>;
    for (Index c = 0; c < width; c += L::width) {
      const L weight = L::load(arrays.weight + c);
      L shift = L::load(arrays.bias + c);
      shift.fma(L::load(arrays.column_shift + c), weight);
      shift.store(arrays.column_shift + c);
      (L::load(arrays.column_scale + c) * weight).store(arrays.column_scale + c);
    }
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
