// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <tensornorm/core/parallel.hpp>
#include <tensornorm/kernels/held_columns.hpp>
#include <tensornorm/kernels/lane_sums.hpp>
#include <tensornorm/kernels/normalize.hpp>
#include <tensornorm/ops/walks.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

// How a nest is walked so that memory is touched as seldom as possible. Chosen here and nowhere else, from the nest, the size of its
// elements and the caches.

/// Slices at least this long, or of so many elements for each slice that a statistic has, are taken one statistic at a time; others as
/// neighbouring columns, whose sums are folded: something is done once for each slice, or once for each column. More of 16 bits backward.
inline constexpr Index kLongSlice = 1024, kSliceElements = 5, kNarrowSliceElements = 12;
/// From so many bytes read and written, when columns are written past the caches, slices too short for that are taken so only if so
/// few make a statistic; and a tile of columns from which so many are read is in no cache when it is read again. A constant: the walk decides
/// how sums are rounded, which is not to depend on the machine.
inline constexpr Index kFewSlices = 8, kFromMemoryBytes = Index{24} << 20;
/// Runs at least this long are normalized with one set of coefficients in registers; shorter ones with one per column.
inline constexpr Index kLongRun = 32;
/// Columns of one tile, of numbers of type A: enough to make the overhead of a row small, few enough for their sums, or their coefficients,
/// and the rows beside them to stay in the L1 cache.
template <class A>
inline constexpr Index kTileColumns = 4096 / Index(std::clamp<std::size_t>(std::bit_ceil(sizeof(A)), 4, 64));
/// Tiles in the widest rows that are made of others for the parameters' sake, and how many such rows there are at least: something is done
/// once for each column.
inline constexpr Index kTilesMetAgain = 8, kTimesMetAgain = 8;
/// Rows of more than kWholeVectors elements are as fast by themselves, unless there are no more columns than so many for each time they are met.
inline constexpr Index kColumnsEachTime = 16;
/// Something is done once for each column of a wide row: one of more than kFewColumns columns takes so few rows together that at least
/// kFewestRows wide rows are left. Half as many make LayerNorm of 32x512 ColMajor slower, twice as many BatchNorm1d of 1024x10 backward.
inline constexpr Index kFewestRows = 64;
/// Columns that are worth it in any case: two to eight vectors of floats.
inline constexpr Index kFewColumns = 64;
/// Rows at least this wide that have one weight each are taken one by one, where wide rows hold several, by a map that keeps it in a
/// register: a vector of floats with AVX2, half of one with AVX-512.
inline constexpr Index kUniformRow = 8;
/// Parameters that begin anew after fewer elements of a statistic are those of columns.
inline constexpr Index kWeightPeriod = 64;
/// But not where they begin anew so few times: that takes less than what is done once for each column.
inline constexpr Index kFewPeriods = 64, kFewPeriodsBackward = 9;
/// Rows and strips of so many elements, or a multiple, begin and end with whole vectors of every type.
inline constexpr Index kWholeVectors = 16;
/// A strip of columns narrower than this is worse than passing twice over memory.
inline constexpr Index kNarrowestStrip = 384;
/// Parameters of 16 bits are converted beside the elements of so few rows; for more of them once before.
inline constexpr Index kRowsAsGiven = 4;
/// Bytes of adjoining rows of x (backward of x and dy together) that the second of two passes takes in memory's order, which the
/// processor fetches ahead of, and from the last such stretch to the first: more would be out of the cache again.
inline constexpr Index kStretchBytes = Index{256} << 10;
/// Rows of columns are cut into at most so many parts, each of at least so many rows and bytes.
inline constexpr Index kMostCuts = 16, kFewestCutRows = 64, kCutBytes = 2 * kBytesPerThread;

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

/// Bytes of the longest rows that are taken together (short_rows.hpp): the further away what is read and written lies, the shorter. Past the
/// caches, where the last level is near, while the first level keeps kRowsInLanes of them (of shorter ones more) and as many that are
/// fetched; of much more, with room to spare. Of more than the last level only shorter ones, unless they are `narrow`, of 16 bits: memory
/// stands still while several rows are added up. (Where x alone is still there that was faster; but who knows what was read since.)
inline Index longest_row_together(Index traffic, bool streams, bool narrow, bool far = last_level_is_far(), Index first = first_level_cache(),
                                  Index second = second_level_cache(), Index last = last_level_cache()) {
  if (streams) {
    const Index fitting = far ? 0 : first / (2 * kernels::kRowsInLanes) * (traffic <= 2 * last ? 8 : 7) / 8;
    return narrow || traffic <= last ? fitting : std::min(fitting, kRowTogetherStreamed);
  }
  if (traffic <= second) return std::numeric_limits<Index>::max();
  if (traffic <= last / 4) return far ? kRowTogetherFar : kRowTogether;
  return far ? kShortRowTogetherFar : kShortRowTogether;
}
/// Whether these ask for the next ones. Where the last level is far, not tried.
inline bool fetches_rows_together(Index traffic, bool far = last_level_is_far(), Index cache = lasting_cache()) {
  return !far && leaves_cache(traffic, cache);
}

/// Row walks have the innermost loop reduced, and long or with few reduced steps around it. `traffic`: bytes read and written. Slices as
/// short as is_streamed_row() takes them where the last level is near are as fast from memory; `forward`, as it takes several. Not in place,
/// but the bits there are to be the same. `joined`: what is taken so.
inline Walk choose_walk(const LoopNest& merged, Index traffic, Index element, bool forward, const JoinedSlices& joined = {}) {
  const Loop& slice = merged.innermost();
  // An example of one element as it would be among others, which are columns of one row.
  if (!reduces(slice) || merged.size() == 1) return Walk::column;
  Index slices = 1;
  for (int i = 0; i + 1 < merged.depth; ++i)
    if (reduces(merged.loops[i])) slices *= merged.loops[i].extent;
  if (slices == 1 || slice.extent >= kLongSlice || joined.hold(slices, slice.extent)) return Walk::row;
  // Not of the examples around a statistic: their number is not to be seen in one's bits.
  for (int i = 0; !reduces(merged.loops[i]); ++i) traffic /= merged.loops[i].extent;
  const Index bytes = slice.extent * element;
  const bool streamed = is_streamed_row(bytes, element, forward, false);
  const bool as_fast_from_memory = slices <= kFewSlices || streamed || traffic < kFromMemoryBytes;
  const Index fewest = (!forward && element < 4 ? kNarrowSliceElements : kSliceElements) * slices;
  return slice.extent >= std::max(fewest, kLongRun) && as_fast_from_memory ? Walk::row : Walk::column;
}

/// The walk as the statistics need it, without regard to parameters: fewer, longer loops. But where parameters begin anew every few elements,
/// as in GroupNorm of one group channels last, and more than a few times, these are rows of columns, if that is how choose_walk() takes them.
inline LoopNest nest_of_statistics(const LoopNest& nest, Index traffic, Index element, bool forward) {
  const LoopNest merged = without_params(nest);
  const Loop& row = nest.innermost();
  if (!reduces(row) || row.param == 0 || row.extent >= kWeightPeriod || row.extent == merged.innermost().extent) return merged;
  if (merged.innermost().extent / row.extent <= (forward ? kFewPeriods : kFewPeriodsBackward)) return merged;
  LoopNest cut = merged;
  Loop& rows = cut.loops[cut.depth - 1];
  rows.extent /= row.extent;
  for (Index& stride : rows.data) stride = row.extent;
  cut.push({row.extent, row.data, 0, 0});
  return choose_walk(cut, traffic, element, forward) == Walk::column ? cut : merged;
}

/// Whether `params` parameters, as A, are copied where they do not lie in step with the rows of the operand that is written.
template <class A>
bool keeps_in_step(const RowWalk& row, int written, Index params) {
  constexpr Index line = kernels::kLine<A>;
  if (kernels::virtual_width<A> == 1 || row.run.param != 1 || row.run.extent < 4 * line || params > kMostInStep / Index(sizeof(A))) return false;
  return row.kept.size() * row.runs.size() * row.run.extent >= kFewestInStep * params && row.is_in_step(written, line);
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

/// Lines of rows whose columns have their sums held in registers: the elements of one, and how many at most. By default none are held.
struct HeldLines {
  Index elements = 1, most = 0;

  /// Of numbers of type A, whose statistics are S: see kernels::holds_columns.
  template <class A, class S>
  static constexpr HeldLines of(Index most) {
    return kernels::keeps_rest<A, S> ? HeldLines() : HeldLines{kernels::virtual_width<A>, most};
  }

  /// Columns of rows of `period` that follow each other without a gap, which are so many lines: up to four, or else as few as can be; 0 where
  /// kernels::is_held() does not take so many.
  Index columns(Index period) const {
    const Index step = std::lcm(elements, period), few = kernels::kHeldMomentLines * elements, columns = step > few ? step : few / step * step;
    return elements > 1 && kernels::is_held(columns / elements, most) ? columns : 0;
  }
};

/// How many adjoining rows of so many elements, each with a parameter of its own, the loops around them repeat often enough: columns of a wider
/// row, as GroupNorm's channels in a ColMajor tensor. 1 where there are none such. `first`: the first loop without gaps.
inline Index rows_met_again(const LoopNest& nest, Index elements, int first, Index tile) {
  Index rows = 1, times = 1;
  for (int i = nest.depth - 1; i >= 0; --i) {
    const Loop& loop = nest.loops[i];
    if (!reduces(loop) || loop.data[0] < elements) continue;
    if (loop.param == 0) times *= loop.extent;
    else if (times > 1 || i < first) return 1;
    else rows *= loop.extent;
  }
  const Index columns = rows * elements, widest = kTilesMetAgain * tile;
  const Index most = elements <= kWholeVectors ? widest : std::min(widest, kColumnsEachTime * times);
  return times >= kTimesMetAgain && columns <= most ? rows : 1;
}

/// What a walk of columns depends on beside the nest.
struct ColumnElements {
  Index bytes;                       ///< of an element of x
  Index operands = 1;                ///< that the sums are of: x, or x and dy
  Index tile = kTileColumns<float>;  ///< of the numbers that the sums are of
  HeldLines held = {};
  bool once = false;  ///< read once, the statistics being given
};

inline ColumnWalk make_column_walk(const LoopNest& nest, const LoopNest& merged, const ColumnElements& of) {
  const Index element = of.bytes * of.operands, tile = of.tile;
  ColumnWalk walk;
  int outermost = 0;
  while (outermost < merged.depth && !reduces(merged.loops[outermost])) ++outermost;
  // With nothing reduced the elements are columns of rows that are problems of their own. So are those that gaps part from others, as
  // the rows of a block of a matrix.
  const bool any_row = outermost < merged.depth - 1;
  const int first_column = any_row ? first_without_gaps(nest) : nest.depth - 1;
  const Index rows = any_row ? rows_met_again(nest, merged.loops[outermost].data[0], first_column, tile) : 1;
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
  const Index most = std::min(tile, std::max(kFewColumns, all_rows / kFewestRows * walk.width));
  const Index fit = contiguous ? std::clamp<Index>(most / walk.width, 1, row.extent) : 1;
  // A group after which the next one follows, mostly of other weights, is not cut in two: it is one wide row, and the groups are the rows.
  const bool may_be_uncut = walk.affine && contiguous && row.extent <= 2 * fit && row.extent * walk.width <= tile;
  const bool uncut = may_be_uncut && walk.groups.depth > 0 && adjoins(walk.groups.loops[walk.groups.depth - 1], row);
  const Index rows_that_fit = uncut ? row.extent : fit;
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
  if (uncut) {
    const Loop& groups = walk.groups.loops[--walk.groups.depth];
    walk.group_rows = groups.extent;
    walk.row_param = groups.param;
  }

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
  if (!reduces(first) && !(of.once && leaves_cache(traffic_of(2, nest.size() * element)))) {
    // As wide as the cache holds; where it holds all, or strips that it holds would be too narrow, wide rows in strips whose coefficients
    // and sums stay in the L1 cache. Forward, rows of less than three tiles are better taken in memory's order where not even a tile of them
    // is in a cache when it is read again. A strip is at least one round of all loops but the first, up to a tile of floats.
    const Index widest = std::max(tile, std::min(unit, kTileColumns<float>)), narrowest = std::min(kNarrowestStrip, tile);
    const Index column = walk.moment_rows * element, fitting = std::min(widest, kCacheBytes / column);
    const bool in_order = of.operands == 1 && !walk.affine && walk.groups.depth == 0 && traffic_of(tile, column) > kFromMemoryBytes;
    if (traffic_of(walk.width, column) > kCacheBytes && fitting >= std::max(unit, narrowest)) {
      const Index whole = whole_vectors(fitting / unit, unit);
      walk.strip_extent = std::min(first.extent, whole * unit < narrowest ? fitting / unit : whole);
    } else if (walk.width >= (in_order ? 3 : 2) * widest && unit <= widest) {
      walk.strip_extent = widest / unit;
    }
    walk.strips = (first.extent + walk.strip_extent - 1) / walk.strip_extent;
  }
  walk.gapless = contiguous && walk.strips == 1;
  if (walk.gapless) walk.stretch = std::max<Index>(kStretchBytes / (walk.width * element), 1);
  const Index bytes = traffic_of(element, walk.moment_rows * walk.strip_width());
  walk.cached = bytes <= kCacheBytes;
  walk.moment_width = walk.width;
  if (walk.groups.depth == 0 && !walk.affine)
    walk.cuts = std::clamp<Index>(std::min(bytes / kCutBytes, walk.moment_rows / kFewestCutRows), 1, kMostCuts);
  const Index narrow = together > 1 && walk.gapless ? of.held.columns(walk.period) : 0;
  if (narrow > 0 && narrow < walk.width) {
    walk.moment_width = narrow;
    const Index elements = all_rows * walk.period;
    walk.moment_rows = elements / narrow;
    walk.moment_tail = elements % narrow;
  }
  return walk;
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
