// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/kernels/column_moment_sums.hpp>
#include <tensornorm/kernels/sample_pivots.hpp>
#include <tensornorm/ops/column_cuts.hpp>
#include <tensornorm/ops/forward_walks.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// The arrays a strip of columns works in; `A` per column or statistic, `S` for sums.
template <class A, class S>
struct ColumnScratch {
  A *pivot, *factor, *mean;
  A *column_pivot, *column_factor, *column_mean, *column_scale, *column_shift, *weight, *bias;
  SumArray<A, S> sum, squares;  ///< of the moments; then rstd and Center::rest
  CutSums<A, S> column_sums;  ///< of the moments; then the columns' rstd and rest
  /// The arrays that are read while y is written, where that is no hindrance.
  template <class T>
  ColumnScratch beside(const T* y) const {
    ColumnScratch at = *this;
    place_beside(y, {&at.column_mean, &at.column_scale, &at.column_shift, &at.weight, &at.bias, &at.column_factor});
    return at;
  }

  /// Bytes for a strip; binds the arrays where `memory` is given.
  template <class T>
  std::size_t lay_out(const ColumnWalk& walk, const T* x, std::byte* memory) {
    const Index columns = walk.strip_width() + 2 * kLine<A>, statistics = walk.strip_statistics(), past = past_line<A>(walk, x);
    ScratchPlan plan;
    column_sums.lay_out(plan, columns, walk.cuts, x, past, memory);
    for (SumArray<A, S>* array : {&sum, &squares}) array->place(plan, statistics, memory);
    plan.place(column_pivot, columns, memory);
    if (memory != nullptr) column_pivot += past;
    for (A** array : {&column_factor, &column_mean, &column_scale, &column_shift, &weight, &bias})
      plan.place(*array, columns + kPageElements<A>, memory);
    for (A** array : {&pivot, &factor, &mean}) plan.place(*array, statistics, memory);
    return plan.bytes();
  }
};

/// The first of the two passes over a strip of columns: the sums of its statistics, in scratch.sum and scratch.squares, about scratch.pivot.
template <class Args>
struct ColumnMoments {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const ColumnWalk& walk;
  bool from_memory;
  const ColumnScratch<A, S>& scratch;
  const Crew& crew;

  /// A pivot that turned out bad is replaced, or a scale found for elements that cannot be squared, and the columns of such statistics are
  /// added up once more, and others beside them: these come out as they were, bit for bit.
  ///
  /// Returns whether the sums are of x times scratch.factor.
  template <class I>
  TENSORNORM_NESTED bool set(const Strip& strip) const {
    const T* x = args.x + strip.at.data[0];
    if (args.rule.centered) sample_pivots(x, walk.moment_rows, walk.moment_stride(0), strip.columns, scratch.pivot);
    else std::fill_n(scratch.pivot, strip.statistics, A(0));
    expand<&Loop::statistic>(strip.columns, scratch.pivot, scratch.column_pivot);
    ColumnChoice<A> columns{strip.width};
    bool scaled = false;
    for (int attempt = 0;; ++attempt) {
      sum_columns(strip, columns, scaled);
      set_folded(strip.columns, scratch.column_sums.plain, scratch.sum, strip.statistics);
      set_folded(strip.columns, scratch.column_sums.centered, scratch.squares, strip.statistics);
      if (attempt == 3 || all_ordinary<I>(strip) || !improve(strip, attempt, columns, scaled)) break;
    }
    return scaled;
  }

 private:
  /// No template of I: see CutSums::set().
  TENSORNORM_CALLED void sum_columns(const Strip& strip, const ColumnChoice<A>& columns, bool scaled) const {
    const auto add = [&]<bool kFromMemory, class I>(const RowRange& rows, const CutSums<A, S>& sums, Index from, Index to) TENSORNORM_NESTED_LAMBDA {
      add_up<kFromMemory, I>(strip, rows, sums, from, to, scaled);
    };
    scratch.column_sums.set(crew, walk, columns, from_memory, add);
  }
  /// Adds up the columns [from, to) of some rows; scaled: of copies of x times column_factor.
  template <bool kFromMemory, class I>
  TENSORNORM_NESTED void add_up(const Strip& strip, const RowRange& range, const CutSums<A, S>& sums, Index from, Index to, bool scaled) const {
    ScaledBlock<A, T> copy;
    for_each_block<A, T>(walk, range, from, to, scaled, [&](Index row, Index rows, Index c, Index width) TENSORNORM_NESTED_LAMBDA {
      Index stride = walk.moment_stride(0);
      const T* x = args.x + strip.at.data[0] + row * stride + c;
      if (scaled) {
        x = copy.fill(x, rows, stride, width, scratch.column_factor + c);
        stride = width;
      }
      column_moments<kFromMemory, A, S, I>(x, rows, stride, width, scratch.column_pivot + c, sums.tile.from(c), sums.plain + c,
                                           sums.centered + c);
    });
  }

  /// No statistic needs another pivot or a scale; not where one of them might.
  template <class I>
  TENSORNORM_NESTED bool all_ordinary(const Strip& strip) const {
    const bool centered = args.rule.centered;
    Index k = 0;
    if constexpr (virtual_width<S> > 1) {
      using V = HardwareLanes<S, I>;
      for (; k + V::width <= strip.statistics; k += V::width) {
        const V pivot = V::load(scratch.pivot + k), sum = V::load(scratch.sum.sum + k), squares = V::load(scratch.squares.sum + k);
        if (!kernels::all_ordinary<A, T, false>(args.samples, centered, kPivotShare, pivot, sum, squares)) return false;
      }
    }
    for (; k < strip.statistics; ++k)
      if (scale_for<A, T>(args.samples, A(0), scratch.squares[k]) != A(1) ||
          (centered && is_bad_pivot(args.samples, scratch.sum[k], scratch.squares[k])))
        return false;
    return true;
  }

  /// Replaces bad pivots, finds scales, and chooses the columns to add up again; false where there is none.
  TENSORNORM_CALLED bool improve(const Strip& strip, int attempt, ColumnChoice<A>& columns, bool& scaled) const {
    if (!scaled) std::fill_n(scratch.factor, strip.statistics, A(1));
    A* const marks = scratch.mean;
    if constexpr (may_scale<A, T>) mark_constant(strip, marks);
    else fill(marks, strip.statistics, A(0));
    bool any = false;
    for (Index k = 0; k < strip.statistics; ++k) {
      A &pivot = scratch.pivot[k], &factor = scratch.factor[k], &mark = marks[k];
      const bool may_need_scale = factor == A(1) && mark == A(0);
      const A before = pivot, wanted = may_need_scale ? scale_for<A, T>(args.samples, pivot, scratch.squares[k]) : A(1);
      if (wanted != A(1)) {
        factor = wanted;
        pivot = pivot * wanted;
        scaled = true;
      } else if (args.rule.centered && (attempt == 0 || factor != A(1)) && is_bad_pivot(args.samples, scratch.sum[k], scratch.squares[k])) {
        const S shift = scratch.sum[k] / S(args.samples);
        pivot = static_cast<A>(S(pivot) + shift);
        if (args.samples >= kChunk) pivot = coarse(pivot, static_cast<A>(shift));
      }
      const bool again = wanted != A(1) || !(pivot == before);
      mark = again ? A(1) : A(0);
      any |= again;
    }
    if (!any) return false;
    expand<&Loop::statistic>(strip.columns, marks, scratch.column_scale);
    expand<&Loop::statistic>(strip.columns, scratch.pivot, scratch.column_pivot);
    if (scaled) expand<&Loop::statistic>(strip.columns, scratch.factor, scratch.column_factor);
    columns = ColumnChoice<A>::by_marks(scratch.column_scale, strip.width);
    return true;
  }

  /// Marks the statistics that need no scale though their squares are 0: all of their elements are the pivot, as those of zeros are.
  void mark_constant(const Strip& strip, A* marks) const {
    bool any = false;
    for (Index k = 0; k < strip.statistics; ++k) {
      const A pivot = scratch.pivot[k];
      const bool might_be = scratch.squares[k] == S(0) && scratch.factor[k] == A(1) && scale_for<A, T>(args.samples, pivot, S(0)) != A(1) &&
                            tells_apart(pivot);
      marks[k] = might_be ? A(1) : A(0);
      any |= might_be;
    }
    if (!any) return;
    A* const of_columns = scratch.column_scale;
    expand<&Loop::statistic>(strip.columns, marks, of_columns);
    const ColumnChoice<A> columns{strip.width, of_columns};
    crew.for_each(walk.cuts, [&](Index cut) noexcept {
      const RowRange rows = RowRange::cut(walk.rows_of_moments(), cut, walk.cuts);
      columns.for_each_run([&](Index from, Index to) {
        A* const differing = differing_of(cut);
        fill(differing + from, to - from, A(0));
        dispatch_as<A>([&]<class I>() TENSORNORM_NESTED_LAMBDA { find_differing<I>(strip, rows, from, to, differing); });
      });
    });
    Odometer at(strip.columns);
    for (Index c = 0; c < strip.width; ++c, at.next())
      for (Index cut = 0; cut < walk.cuts && of_columns[c] != A(0); ++cut)
        if (differing_of(cut)[c] != A(0)) marks[at.offsets().statistic] = A(0);
  }
  /// Beside the columns, what find_differing() finds in the rows of a cut: in memory that CutSums::set() leaves free.
  A* differing_of(Index cut) const { return scratch.column_sums.of(cut).tile.plain; }
  /// differing[c] becomes other than 0 where an element of a column in [from, to) is not the pivot.
  template <class I>
  TENSORNORM_NESTED void find_differing(const Strip& strip, const RowRange& range, Index from, Index to, A* differing) const {
    using L = HardwareLanes<A, I>;
    const Index stride = walk.moment_stride(0);
    for_each_block<A, T>(walk, range, from, to, false, [&](Index row, Index rows, Index begin, Index width) TENSORNORM_NESTED_LAMBDA {
      const T* x = args.x + strip.at.data[0] + row * stride;
      for (Index r = 0; r < rows; ++r, x += stride)
        for (Index c = begin, end = begin + width; c < end; c += L::width) {
          const bool whole = end - c >= L::width;
          const auto at = [&](const auto* p) TENSORNORM_NESTED_LAMBDA { return whole ? L::load(p + c) : load_few<L, A>(p + c, end - c); };
          const L distance = at(x) - at(scratch.column_pivot);
          distance.or_where_zero(distance, L::load(differing + c)).store(differing + c);
        }
    });
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
