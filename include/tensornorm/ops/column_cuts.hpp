// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <type_traits>
#include <tensornorm/core/scratch.hpp>
#include <tensornorm/kernels/beside.hpp>
#include <tensornorm/kernels/column_sums.hpp>
#include <tensornorm/kernels/fold.hpp>
#include <tensornorm/kernels/normalize.hpp>
#include <tensornorm/kernels/scale.hpp>
#include <tensornorm/ops/strips.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// Elements after a line of memory at which arrays begin that are read beside columns of x, so that their vectors are aligned where those
/// of x are: at 0 where rows are not whole vectors, have weights of their own, or are a few lines: parts of vectors are no small part of those.
template <class A, class T>
Index past_line(const ColumnWalk& walk, const T* x) {
  return walk.affine || walk.moment_width != walk.width || walk.row_stride[0] % kWholeVectors != 0 ? 0 : elements_past_line(x) % kLine<A>;
}

/// Columns of a strip: all of its `width`, or the lines of them in which one is marked.
template <class A>
struct ColumnChoice {
  Index width;
  const A* marks = nullptr;  ///< beside the columns, 0 for none; a line of zeros follows

  /// The lines with a mark; or all columns where these are most of them, and memory's order is faster.
  static ColumnChoice by_marks(const A* marks, Index width) {
    const ColumnChoice lines{width, marks};
    Index count = 0;
    lines.for_each_run([&](Index from, Index to) { count += to - from; });
    return 2 * count > width ? ColumnChoice{width} : lines;
  }
  /// Calls f(from, to) for each run of them.
  template <class F>
  void for_each_run(const F& f) const {
    if (marks == nullptr) return f(Index(0), width);
    const auto marked = [&](Index c) {
      return std::any_of(marks + c, marks + c + kLine<A>, [](const A& mark) { return !(mark == A(0)); });
    };
    for (Index from = 0, to = 0; from < width; from = to) {
      to = from + kLine<A>;
      if (!marked(from)) continue;
      while (to < width && marked(to)) to += kLine<A>;
      f(from, std::min(to, width));
    }
  }
};

/// Two sums of each column: those of all rows, and where the rows are cut into parts, of each part, to be added up in their order. The
/// same bits come out whoever takes which part.
template <class A, class S>
struct CutSums {
  TileSums<A> tile;
  S *plain = nullptr, *centered = nullptr;
  Index stride = 0;  ///< from the arrays of one part to those of the next

  /// `past`: see past_line().
  void lay_out(ScratchPlan& plan, Index columns, Index cuts, const void* x, Index past, std::byte* memory) {
    stride = (columns + kPageElements<A> - 1) / kPageElements<A> * kPageElements<A>;
    const Index all = columns + (cuts - 1) * stride;
    for (S** array : {&plain, &centered}) plan.place(*array, all, memory);
    plan.place_apart(tile.plain, all, x, 1, memory);
    plan.place_apart(tile.centered, all, x, 2, memory);
    if (memory != nullptr) tile = tile.from(past);
  }
  CutSums of(Index cut) const { return {tile.from(cut * stride), plain + cut * stride, centered + cut * stride, stride}; }

  /// Sets the columns [from, to) of `width` to 0, and what vectors read after the last.
  void clear(Index from, Index to, Index width) const {
    for (S* sums : {plain, centered}) {
      fill(sums + from, to - from, S(0));
      fill(sums + width, kLine<A>, S(0));
    }
    for (A* sums : {tile.plain, tile.centered}) fill(sums + from, to - from + kLine<A>, A(0));
  }
  /// The sums of the chosen columns: add<kFromMemory, I>(rows, sums, from, to) adds some rows of the columns [from, to) to their sums.
  /// Whoever takes a part dispatches it anew; not from a template of I, or there is a copy of all this for each instruction set.
  ///
  /// Single lines of columns are gone through a few tiles at a time: rows, and the pages that they lie in, are often far apart.
  template <class Add>
  void set(const Crew& crew, const ColumnWalk& walk, const ColumnChoice<A>& columns, bool from_memory, const Add& add) const {
    crew.for_each(walk.cuts, [&](Index cut) noexcept {
      const CutSums sums = of(cut);
      columns.for_each_run([&](Index from, Index to) { sums.clear(from, to, columns.width); });
      const RowRange rows = RowRange::cut(walk.rows_of_moments(), cut, walk.cuts);
      const Index most = columns.marks == nullptr ? rows.last - rows.first : 8 * kTileRows;
      const auto dispatched = [&](auto fetches, const RowRange& some, Index from, Index to) {
        dispatch_as<A>([&]<class I>() TENSORNORM_NESTED_LAMBDA { add.template operator()<decltype(fetches)::value, I>(some, sums, from, to); });
      };
      for (RowRange some = rows; some.first < rows.last; some.first = some.last) {
        some.last = std::min(some.first + most, rows.last);
        columns.for_each_run([&](Index from, Index to) {
          if (from_memory) dispatched(std::true_type(), some, from, to);
          else dispatched(std::false_type(), some, from, to);
        });
      }
    });
    columns.for_each_run([&](Index from, Index to) { gather(walk.cuts, from, to); });
  }

 private:
  /// Adds the columns [from, to) of the other parts to those of the first.
  void gather(Index cuts, Index from, Index to) const {
    for (Index i = 1; i < cuts; ++i) {
      const CutSums part = of(i);
      add_to(with_rests(plain, tile.plain).from(from), part.plain + from, to - from);
      add_to(with_rests(centered, tile.centered).from(from), part.centered + from, to - from);
    }
  }
  /// A tile keeps what rounding took from its sums.
  static SumArray<A, S> with_rests(S* sums, [[maybe_unused]] A* tile) {
    if constexpr (keeps_rest<A, S>) return {sums, tile};
    else return {sums, sums};
  }
};

/// Calls f(row, rows, column, columns) for the columns [from, to) of the rows in `range`, the partial one apart; in blocks that fit a
/// ScaledBlock where they are `scaled`.
template <class A, class T, class F>
TENSORNORM_NESTED void for_each_block(const ColumnWalk& walk, const RowRange& range, Index from, Index to, bool scaled, const F& f) {
  constexpr Index copied = std::max<Index>(ScaledBlock<A, T>::size / kTileRows, 1);
  const Index whole = std::min(range.last, walk.moment_rows);
  for (const bool tail : {false, true}) {
    const Index first = tail ? whole : range.first, last = tail ? range.last : whole, end = tail ? std::min(to, walk.moment_tail) : to;
    const Index most_rows = scaled ? kTileRows : last - first, most_columns = scaled ? copied : end - from;
    for (Index row = first; row < last; row += most_rows)
      for (Index c = from; c < end; c += most_columns) f(row, std::min(most_rows, last - row), c, std::min(most_columns, end - c));
  }
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
