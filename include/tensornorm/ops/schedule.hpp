// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/core/parallel.hpp>
#include <tensornorm/kernels/normalize.hpp>
#include <tensornorm/ops/caches.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

// How a nest is walked so that memory is touched as seldom as possible. Chosen here and nowhere else, from the nest, the size of its
// elements and the caches.

/// Slices at least this long, or of so many elements for each slice that a statistic has, are taken one statistic at a time; others as
/// neighbouring columns, whose sums are folded: something is done once for each slice, or once for each column.
inline constexpr Index kLongSlice = 1024, kSliceElements = 12;
/// The same where slices are so few that their statistics are taken together.
inline constexpr Index kFewSliceElements = 3;
/// From so many bytes read and written, when columns are written past the caches, slices too short for that are taken so only if so
/// few make a statistic. A constant: the walk decides how sums are rounded, which is not to depend on the machine.
inline constexpr Index kFewSlices = 8, kFromMemoryBytes = Index{24} << 20;
/// Runs at least this long are normalized with one set of coefficients in registers; shorter ones with one per column.
inline constexpr Index kLongRun = 32;
/// Runs at most this long are normalized with coefficients made before, where those are met again; beside longer ones they cost nothing.
inline constexpr Index kFrozenRun = 1024;
/// Columns of one tile: enough to make the overhead of a row small, few enough for their sums to stay in the L1 cache.
inline constexpr Index kTileColumns = 1024;
/// Columns of the widest rows that are made of others for the parameters' sake, and how many such rows there are at least: something is done
/// once for each column.
inline constexpr Index kColumnsMetAgain = 8 * kTileColumns, kTimesMetAgain = 8;
/// Rows of more than kWholeVectors elements are as fast by themselves, unless there are no more columns than so many for each time they are met.
inline constexpr Index kColumnsEachTime = 16;
/// Something is done once for each column of a wide row: one of more than kFewColumns columns takes so few rows together that at least
/// kFewestRows wide rows are left. Half as many make LayerNorm of 16x512 ColMajor slower, twice as many no faster.
inline constexpr Index kFewestRows = 32;
/// Columns that are worth it in any case: two to eight vectors of floats.
inline constexpr Index kFewColumns = 64;
/// Rows at least this wide that have one weight each are taken one by one, where wide rows hold several, by a map that keeps it in a
/// register: a vector of floats with AVX2, half of one with AVX-512.
inline constexpr Index kUniformRow = 8;
/// Parameters that begin anew after fewer elements of a statistic are those of columns.
inline constexpr Index kWeightPeriod = 64;
/// Rows and strips of so many elements, or a multiple, begin and end with whole vectors of every type.
inline constexpr Index kWholeVectors = 16;
/// A strip of columns narrower than this is worse than passing twice over memory.
inline constexpr Index kNarrowestStrip = 384;
/// Runs of so many bytes are short wherever they come from.
inline constexpr Index kShortRunBytes = 256;
/// Parameters of 16 bits are converted beside the elements of so few rows; for more of them once before.
inline constexpr Index kRowsAsGiven = 4;
/// Bytes of adjoining rows of x (backward of x and dy together) that the second of two passes takes in memory's order, which the
/// processor fetches ahead of, and from the last such stretch to the first: more would be out of the cache again.
inline constexpr Index kStretchBytes = Index{256} << 10;
/// Rows of columns are cut into at most so many parts, each of at least so many rows and bytes.
inline constexpr Index kMostCuts = 16, kFewestCutRows = 64, kCutBytes = 2 * kBytesPerThread;

enum class Walk { row, column };

/// Every element at p lies within a cache line.
template <class T>
bool is_aligned(const T* p) {
  return reinterpret_cast<std::uintptr_t>(p) % sizeof(T) == 0;
}

/// Streaming stores where y will have left the cache before anybody reads it, by the time of the layer and a reader of y together:
/// past the size of the cache for rows, more than three quarters of it for columns.
///
/// `traffic`: bytes read and written; `unit`: of one statistic's data, walked at once; `streamed_run`: what is_streamed_run(),
/// is_streamed_row() or is_streamed_column() says of the runs written; `any_unit`: of fewer than kUnitBytes, too. Only out of place: a
/// streaming store throws the line it writes to out of the cache. And only where y is_aligned().
inline kernels::Store choose_store(Walk walk, Index traffic, Index unit, bool streamed_run, bool in_place, bool aligned, bool any_unit,
                                   Index cache = lasting_cache()) {
  const bool large = walk == Walk::column ? leaves_cache(traffic, cache)
                                          : (traffic >= cache && (any_unit || unit >= kUnitBytes)) || traffic >= 3 * cache;
  return !in_place && aligned && large && streamed_run ? kernels::Store::streaming : kernels::Store::ordinary;
}

/// Slices of a statistic that are added up as if they were one: by their shape alone, wherever they are, since it decides how sums are rounded.
struct FewSlices {
  Index vector = 1;  ///< elements that are added up side by side
  Index most = 0;    ///< of those in the vectors that all slices fill

  bool hold(Index slices, Index length) const {
    return slices > 1 && length >= kFewSliceElements * slices && slices * ((length + vector - 1) / vector) * vector <= most;
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

  /// Every statistic is of one short run, of at most so many elements; of at most kShortRunBytes where `traffic`, the bytes read and
  /// written, is more than a quarter of the last-level cache: rows taken together keep memory waiting.
  bool is_short(Index most, Index traffic, Index element) const {
    if (4 * traffic > last_level_cache()) most = std::min(most, kShortRunBytes / element);
    return runs.depth == 0 && slices.depth == 0 && run.extent <= most;
  }
  /// Every statistic is of a few short slices with one parameter.
  bool has_few_slices(const FewSlices& few) const { return !affine && few.hold(slices.size(), length); }
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
  Index moment_rows = 1;   ///< wide rows of all groups together, as the statistics see them
  Index moment_tail = 0;   ///< columns of the partial one after them
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
  /// Whether all rows of a strip are runs of that width, the partial one among them.
  bool has_whole_runs(Index strip_width) const { return weights > 0 && group_tail % run_width(strip_width) == 0; }
  /// Columns of the widest strip.
  Index strip_width() const { return width / columns.loops[0].extent * strip_extent; }
  /// Statistics of the widest strip.
  Index strip_statistics() const { return strips == 1 ? statistics : statistics / columns.loops[0].extent * strip_extent; }
  /// From a row of x to the one that the second of two passes fetches ahead; 0 where there is nothing to fetch.
  Index second_pass_stride() const { return cached ? 0 : stretch > 1 ? row_stride[0] : -row_stride[0]; }
  /// Rows of a group, the partial one included.
  Index rows_of_group() const { return group_rows + (group_tail > 0 ? 1 : 0); }
  /// Those of all groups together, as the statistics see them.
  Index rows_of_moments() const { return moment_rows + (moment_tail > 0 ? 1 : 0); }
  /// Columns of row r, in a strip of `strip_width`; only a walk of one strip has a partial row.
  Index width_of_row(Index r, Index strip_width) const { return r < group_rows ? strip_width : group_tail; }
};

/// Row walks have the innermost loop reduced, and long or with few reduced steps around it. `traffic`: bytes read and written. `forward`:
/// slices as short as is_streamed_row() takes them are as fast from memory. Not in place, but the bits there are to be the same.
inline Walk choose_walk(const LoopNest& merged, Index traffic, Index element, bool forward, const FewSlices& few = {}) {
  const Loop& slice = merged.innermost();
  // An example of one element as it would be among others, which are columns of one row.
  if (!reduces(slice) || merged.size() == 1) return Walk::column;
  Index slices = 1;
  for (int i = 0; i + 1 < merged.depth; ++i)
    if (reduces(merged.loops[i])) slices *= merged.loops[i].extent;
  if (slices == 1 || slice.extent >= kLongSlice || few.hold(slices, slice.extent)) return Walk::row;
  // Not of the examples around a statistic: their number is not to be seen in one's bits.
  for (int i = 0; !reduces(merged.loops[i]); ++i) traffic /= merged.loops[i].extent;
  const Index bytes = slice.extent * element;
  const bool streamed = forward ? is_streamed_row(bytes, element, true, false) : is_streamed_run(bytes, element);
  const bool as_fast_from_memory = slices <= kFewSlices || streamed || traffic < kFromMemoryBytes;
  return slice.extent >= std::max(kSliceElements * slices, kLongRun) && as_fast_from_memory ? Walk::row : Walk::column;
}

/// The walk as the statistics need it, without regard to parameters: fewer, longer loops. But where parameters begin anew every few elements,
/// as in GroupNorm of one group channels last, these are rows of columns, if that is how choose_walk() takes them.
inline LoopNest nest_of_statistics(const LoopNest& nest, Index traffic, Index element, bool forward) {
  const LoopNest merged = without_params(nest);
  const Loop& row = nest.innermost();
  if (!reduces(row) || row.param == 0 || row.extent >= kWeightPeriod || row.extent == merged.innermost().extent) return merged;
  LoopNest cut = merged;
  Loop& rows = cut.loops[cut.depth - 1];
  rows.extent /= row.extent;
  for (Index& stride : rows.data) stride = row.extent;
  cut.push({row.extent, row.data, 0, 0});
  return choose_walk(cut, traffic, element, forward) == Walk::column ? cut : merged;
}

inline RowWalk make_row_walk(const LoopNest& nest, const LoopNest& merged) {
  RowWalk walk;
  // Statistics of one element each are rows of one, inside all loops.
  const bool one = !reduces(merged.innermost());
  const int inside = one ? 0 : 1;
  for (int i = 0; i + inside < merged.depth; ++i)
    if (reduces(merged.loops[i])) walk.slices.push(merged.loops[i]);
  walk.length = one ? 1 : merged.innermost().extent;
  for (int i = 0; i + inside < nest.depth; ++i) {
    (reduces(nest.loops[i]) ? walk.runs : walk.kept).push(nest.loops[i]);
    walk.affine |= reduces(nest.loops[i]) && nest.loops[i].param != 0;
  }
  walk.run = one ? Loop{1, {1, 1, 1}, 0, 0} : nest.innermost();
  walk.affine |= walk.run.param != 0;
  if (!walk.affine) {
    walk.runs = walk.slices;
    walk.run.extent = walk.length;
  }
  return walk;
}

/// Given statistics leave the order free: memory is walked as it lies, and every loop but the innermost leads to another run.
inline RowWalk make_frozen_row_walk(const LoopNest& nest) {
  RowWalk walk;
  for (int i = 0; i + 1 < nest.depth; ++i) walk.kept.push(nest.loops[i]);
  walk.run = nest.innermost();
  return walk;
}

/// The first of the innermost loops that go through all operands without a gap.
inline int first_without_gaps(const LoopNest& nest) {
  int first = nest.depth - 1;
  for (Index size = nest.innermost().extent; first > 0; size *= nest.loops[--first].extent)
    for (Index stride : nest.loops[first - 1].data)
      if (stride != size) return first;
  return first;
}

/// `most`, or less, but more than half of it: so many times `width` elements that they are whole vectors, if there are as many.
inline Index whole_vectors(Index most, Index width) {
  const Index step = kWholeVectors / std::gcd(kWholeVectors, width);
  return most < step ? most : most / step * step;
}

/// How many adjoining rows of so many elements, each with a parameter of its own, the loops around them repeat often enough: columns of a wider
/// row, as GroupNorm's channels in a ColMajor tensor. 1 where there are none such. `first`: the first loop without gaps.
inline Index rows_met_again(const LoopNest& nest, Index elements, int first) {
  Index rows = 1, times = 1;
  for (int i = nest.depth - 1; i >= 0; --i) {
    const Loop& loop = nest.loops[i];
    if (!reduces(loop) || loop.data[0] < elements) continue;
    if (loop.param == 0) times *= loop.extent;
    else if (times > 1 || i < first) return 1;
    else rows *= loop.extent;
  }
  const Index columns = rows * elements, most = elements <= kWholeVectors ? kColumnsMetAgain : std::min(kColumnsMetAgain, kColumnsEachTime * times);
  return times >= kTimesMetAgain && columns <= most ? rows : 1;
}

/// once: the elements are read once, the statistics being given.
inline ColumnWalk make_column_walk(const LoopNest& nest, const LoopNest& merged, Index element, bool once = false) {
  ColumnWalk walk;
  int outermost = 0;
  while (outermost < merged.depth && !reduces(merged.loops[outermost])) ++outermost;
  // With nothing reduced the elements are columns of rows that are problems of their own. So are those that gaps part from others, as
  // the rows of a block of a matrix.
  const bool any_row = outermost < merged.depth - 1;
  const int first_column = any_row ? first_without_gaps(nest) : nest.depth - 1;
  const Index rows = any_row ? rows_met_again(nest, merged.loops[outermost].data[0], first_column) : 1;
  const Index row_elements = any_row ? rows * merged.loops[outermost].data[0] : 0;
  LoopList columns;
  for (int i = 0; i < nest.depth; ++i) {
    const Loop& loop = nest.loops[i];
    if (i == nest.depth - 1 || (i >= first_column && loop.data[0] < row_elements)) {
      columns.push(loop);
    } else {
      (any_row && reduces(loop) ? walk.groups : walk.problems).push(loop);
      walk.affine |= reduces(loop) && loop.param != 0;
    }
  }
  walk.width = walk.period = columns.size();
  walk.statistics = merged.statistics / walk.problems.size();
  // The innermost loop over rows is the group; without one a problem is a single row.
  const Loop row = any_row ? walk.groups.loops[--walk.groups.depth] : Loop{1, {}, 0, 0};
  bool contiguous = any_row;
  for (Index stride : row.data) contiguous &= stride == walk.width;
  const Index all_rows = any_row ? merged.loops[outermost].extent / rows : 1;
  const Index most = std::min(kTileColumns, std::max(kFewColumns, all_rows / kFewestRows * walk.width));
  const Index rows_that_fit = contiguous ? std::clamp<Index>(most / walk.width, 1, row.extent) : 1;
  // Not whole vectors where all rows are one wide row, of which no part is left over, or have weights of their own: that is worth more.
  const Index together = rows_that_fit == row.extent || walk.affine ? rows_that_fit : whole_vectors(rows_that_fit, walk.width);
  if (together > 1) walk.columns.push({together, row.data, 0, row.param});
  for (int i = 0; i < columns.depth; ++i) walk.columns.push(columns.loops[i]);
  walk.group_rows = row.extent / together;
  walk.group_tail = row.extent % together * walk.width;
  walk.moment_rows = all_rows / together;
  walk.moment_tail = all_rows % together * walk.width;
  for (int k = 0; k < kMaxOperands; ++k) walk.row_stride[k] = row.data[k] * together;
  walk.row_param = row.param * together;
  walk.width *= together;

  bool own_weights = false;
  for (int i = 0; i < columns.depth; ++i) own_weights |= columns.loops[i].param != 0;
  if (walk.affine && !own_weights) {
    if (together == 1 || row.param == 0) walk.weights = 1;
    else if (columns.size() >= kUniformRow) walk.weights = together;
  }
  walk.weight_step = row.param;

  const Loop& first = walk.columns.loops[0];
  walk.strip_extent = first.extent;
  const Index unit = walk.width / first.extent;
  if (!reduces(first) && !(once && leaves_cache(2 * nest.size() * element))) {
    // As wide as the cache holds; where it holds all, or strips that it holds would be too narrow, wide rows in strips whose coefficients
    // and sums stay in the L1 cache.
    const Index column = walk.moment_rows * element, fitting = std::min(kTileColumns, kCacheBytes / column);
    if (column * walk.width > kCacheBytes && fitting >= std::max(unit, kNarrowestStrip)) {
      const Index whole = whole_vectors(fitting / unit, unit);
      walk.strip_extent = std::min(first.extent, whole * unit < kNarrowestStrip ? fitting / unit : whole);
    } else if (walk.width >= 2 * kTileColumns && unit <= kTileColumns) {
      walk.strip_extent = kTileColumns / unit;
    }
    walk.strips = (first.extent + walk.strip_extent - 1) / walk.strip_extent;
  }
  walk.gapless = contiguous && walk.strips == 1;
  if (walk.gapless) walk.stretch = std::max<Index>(kStretchBytes / (walk.width * element), 1);
  const Index bytes = walk.moment_rows * walk.strip_width() * element;
  walk.cached = bytes <= kCacheBytes;
  if (walk.groups.depth == 0 && !walk.affine)
    walk.cuts = std::clamp<Index>(std::min(bytes / kCutBytes, walk.moment_rows / kFewestCutRows), 1, kMostCuts);
  return walk;
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
