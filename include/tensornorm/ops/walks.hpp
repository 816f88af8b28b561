// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/ops/caches.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

// How a nest may be walked: by rows or by columns. Which it is, and with what extents, the schedule chooses.

/// Slices so few that their statistics are taken together have at least so many elements for each that a statistic has.
inline constexpr Index kJoinedSliceElements = 3;
/// Runs at most this long are normalized with coefficients made before, where those are met again; beside longer ones they cost nothing.
inline constexpr Index kFrozenRun = 1024;

enum class Walk { row, column };

/// Slices of a statistic that are added up as if they were one: by their shape alone, wherever they are, since it decides how sums are rounded.
struct JoinedSlices {
  Index vector = 1;  ///< elements that are added up side by side
  Index most = 0;    ///< of those in the vectors that all slices fill

  bool hold(Index slices, Index length) const {
    return slices > 1 && length >= kJoinedSliceElements * slices && slices * ((length + vector - 1) / vector) * vector <= most;
  }
};

/// One statistic at a time, each over slices of contiguous elements.
struct RowWalk {
  LoopList kept;        ///< enumerates the statistics
  LoopList slices;      ///< reduced loops around a slice
  Index length = 1;     ///< elements of a slice
  LoopList runs;        ///< reduced loops around a run
  Loop run{};           ///< a slice, or, where the parameter changes within a statistic, what it is cut into
  bool affine = false;  ///< a parameter changes within a statistic

  /// Of a single statistic, a run of n elements; beside: parameters change within it.
  static RowWalk of_one_row(Index n, bool beside) {
    RowWalk walk;
    walk.length = n;
    walk.run = {n, {1, 1, 1}, 0, beside ? 1 : 0};
    walk.affine = beside;
    return walk;
  }

  /// Statistics are of one run each, of at most so many elements.
  bool is_one_run(Index most) const { return runs.depth == 0 && slices.depth == 0 && run.extent <= most; }
  /// There are several statistics, each of one short run, of at most so many elements.
  bool is_short(Index most) const { return kept.size() > 1 && is_one_run(most); }
  /// Every statistic is of slices that are added up as one, with one parameter.
  bool has_joined_slices(const JoinedSlices& joined) const { return !affine && joined.hold(slices.size(), length); }
  /// Given statistics: short runs of one statistic and one parameter each, which only the innermost of `kept` leads on to others: the same
  /// ones are met every time it begins anew.
  bool meets_again() const {
    if (kept.depth < 2 || run.extent > kFrozenRun || run.param != 0) return false;
    for (int i = 0; i < kept.depth - 1; ++i)
      if (kept.loops[i].statistic != 0 || kept.loops[i].param != 0) return false;
    return true;
  }
  /// Elements of an operand that the innermost of `kept` leads through from run to run without a gap; 0 where there are gaps.
  Index gapless(int operand) const {
    const Loop& inner = kept.loops[kept.depth - 1];
    return inner.data[operand] == run.extent ? inner.extent * run.extent : 0;
  }
  /// Every run of an operand begins at the first one's place, counted within n elements.
  bool is_in_step(int operand, Index n) const {
    const auto holds = [&](const LoopList& list) {
      for (int i = 0; i < list.depth; ++i)
        if (list.loops[i].data[operand] % n != 0) return false;
      return true;
    };
    return holds(kept) && holds(runs);
  }
  /// Runs one after the other that lie beside other parameters each, before a parameter is met again.
  Index runs_apart() const {
    Index result = 1;
    for (int i = runs.depth; i > 0 && runs.loops[i - 1].param != 0; --i) result *= runs.loops[i - 1].extent;
    return result;
  }
};

/// Rows of neighbouring columns: `problems` independent ones, cut into strips of columns.
///
/// Rows are grouped: weight and bias are the same functions of the column throughout a group. Several short rows that follow each
/// other without a gap are taken as one wide row, whose columns begin with a loop over them; a group may end with a part of one.
struct ColumnWalk {
  LoopList problems;       ///< kept loops around all reduced ones
  LoopList groups;         ///< reduced loops around a group of rows
  LoopList columns;        ///< loops inside a wide row
  Index group_rows = 1;    ///< wide rows of a group
  Index group_tail = 0;    ///< columns of the partial one after them
  Index moment_rows = 1;   ///< rows of all groups together, as the statistics see them (gradients beside weights of rows see wide ones)
  Index moment_tail = 0;   ///< columns of the partial one after them
  Index moment_width = 1;  ///< columns of one of those: of a wide row, or of as many rows in it as have their sums in registers
  Strides row_stride{};    ///< from wide row to wide row, per operand
  Index row_param = 0;     ///< from wide row to wide row, in the parameters
  Index width = 1;         ///< columns of a wide row
  Index period = 1;        ///< columns of one of the rows in it
  Index statistics = 1;    ///< statistics of a problem
  Index strips = 1;        ///< pieces a problem is cut into, along the first of `columns`
  Index strip_extent = 1;  ///< extent of that loop in a strip
  Index cuts = 1;          ///< parts the rows of a strip are taken in, each with sums of its own
  Index stretch = 1;       ///< adjoining wide rows that the second of two passes takes in memory's order
  bool gapless = false;    ///< a wide row goes on in the next one
  bool cached = false;     ///< a strip is still in the cache when the second pass reads it
  bool affine = false;     ///< a parameter changes from row to row
  Index weights = 0;       ///< where `affine`: 1 for all of a wide row, or one for each row in it; 0 where columns have their own, or short
                           ///< rows in a wide one theirs
  Index weight_step = 0;   ///< from one of them to the next, in the parameters

  /// Columns of one weight in a strip, or all where they have none or their own.
  Index run_width(Index strip_width) const { return weights > 0 ? strip_width / weights : strip_width; }
  /// Whether what is written of a strip's rows streams.
  bool is_streamed(Index element) const { return is_streamed_column(run_width(strip_width()) * element, element, gapless); }
  /// Columns of the widest strip.
  Index strip_width() const { return width / columns.loops[0].extent * strip_extent; }
  /// Statistics of the widest strip.
  Index strip_statistics() const { return strips == 1 ? statistics : statistics / columns.loops[0].extent * strip_extent; }
  /// From a row of x to the one that the second of two passes fetches ahead; 0 where there is nothing to fetch.
  Index second_pass_stride() const { return cached ? 0 : stretch > 1 ? row_stride[0] : -row_stride[0]; }
  /// Rows of a group, the partial one included.
  Index rows_of_group() const { return group_rows + (group_tail > 0 ? 1 : 0); }
  /// From one of the rows that the statistics see to the next, in an operand.
  Index moment_stride(int operand) const { return moment_width == width ? row_stride[operand] : moment_width; }
  /// Those of all groups together.
  Index rows_of_moments() const { return moment_rows + (moment_tail > 0 ? 1 : 0); }
  /// Columns of row r, in a strip of `strip_width`; only a walk of one strip has a partial row.
  Index width_of_row(Index r, Index strip_width) const { return r < group_rows ? strip_width : group_tail; }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
