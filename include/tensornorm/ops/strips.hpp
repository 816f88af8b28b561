// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/core/inlining.hpp>
#include <tensornorm/ops/schedule.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

// How a column walk is gone through: its strips, their rows, and the runs of one weight in a row.

/// Wide rows [first, last), the partial one counted with them.
struct RowRange {
  Index first, last;
  static RowRange cut(Index rows, Index i, Index cuts) { return {rows * i / cuts, rows * (i + 1) / cuts}; }
};

/// One strip of one problem of a column walk.
struct Strip {
  Offsets at;
  LoopList columns;
  Index width, statistics;

  Strip(const ColumnWalk& walk, Index i)
      : at(Odometer(walk.problems, i / walk.strips).offsets()), columns(walk.columns), width(walk.width), statistics(walk.statistics) {
    if (walk.strips == 1) return;
    const Loop& outer = walk.columns.loops[0];
    const Index start = i % walk.strips * walk.strip_extent;
    at.advance(outer, start);
    columns.loops[0].extent = std::min(walk.strip_extent, outer.extent - start);
    width = walk.width / outer.extent * columns.loops[0].extent;
    statistics = walk.statistics / outer.extent * columns.loops[0].extent;
  }
};

/// The loops inside the first `width` columns of a strip, which are whole rows of it.
inline LoopList first_columns(const Strip& strip, Index width) {
  LoopList columns = strip.columns;
  columns.loops[0].extent = columns.loops[0].extent * width / strip.width;
  return columns;
}

/// Calls f(at, row, columns, fresh) for each row of a strip (of its group, those in `range`): the offsets of its group, its number in
/// it, how many columns it has, and whether the parameters beside them are others, or more, than those of the row before.
///
/// `backwards`: the last stretch of rows first, for the second of two passes, which finds in the cache what the first has read last.
template <class F>
TENSORNORM_INLINE void for_each_row(const ColumnWalk& walk, const Strip& strip, const RowRange& range, bool backwards, const F& f) {
  const Index groups = walk.groups.size(), stretch = backwards ? walk.stretch : range.last - range.first;
  Odometer group(walk.groups, backwards ? groups - 1 : 0);
  for (Index g = groups; g > 0; --g) {
    const Offsets at = strip.at + group.offsets();
    for (Index end = range.last, known = 0; end > range.first; end -= stretch) {
      for (Index row = std::max(range.first, end - stretch); row < end; ++row) {
        const Index width = walk.width_of_row(row, strip.width);
        f(at, row, width, width > known || walk.row_param != 0);
        known = width;
      }
    }
    if (backwards) group.previous();
    else group.next();
  }
}

/// Calls f(column, columns, param) for the runs of one weight in `width` columns of a row, each `run` wide or all there is, in parts of
/// at most `most`; `param`: the row's offset into the parameters.
template <class F>
TENSORNORM_INLINE void for_each_run(const ColumnWalk& walk, Index run, Index width, Index most, Index param, const F& f) {
  const Index length = std::min(run, width), step = std::min(most, length);
  for (Index end = length; end <= width; end += length, param += walk.weight_step)
    for (Index c = end - length; c < end; c += step) f(c, std::min(step, end - c), param);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
