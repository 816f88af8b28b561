// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/core/inlining.hpp>
#include <tensornorm/core/parallel.hpp>
#include <tensornorm/kernels/normalize.hpp>
#include <tensornorm/ops/schedule.hpp>
#include <utility>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

// How a column walk is gone through: its strips, their rows, and the runs of one weight in a row.

/// Rows [first, last) of a pass, the partial one counted with them.
struct RowRange {
  Index first, last;
  static RowRange cut(Index rows, Index i, Index cuts) { return {first_of_share(rows, i, cuts), first_of_share(rows, i + 1, cuts)}; }
};

/// One strip of one problem of a column walk.
struct Strip {
  Offsets at;
  LoopList columns;
  Index width, statistics;

  TENSORNORM_CALLED Strip(const ColumnWalk& walk, Index i)
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
  columns.loops[0].extent = first_of_share(columns.loops[0].extent, width, strip.width);
  return columns;
}

/// The strip as its statistics see it.
inline Strip strip_of_moments(const ColumnWalk& walk, const Strip& strip) {
  if (walk.moment_width == walk.width) return strip;
  Strip narrow = strip;
  narrow.columns = first_columns(strip, walk.moment_width);
  narrow.width = walk.moment_width;
  return narrow;
}

/// Calls f(at, first, last) for the stretches of rows of a strip (of its groups, those in `range`): the offsets of a group, numbers in it.
///
/// `backwards`: the last stretch of rows first, for the second of two passes, which finds in the cache what the first has read last.
template <class F>
TENSORNORM_NESTED void for_each_stretch(const ColumnWalk& walk, const Strip& strip, const RowRange& range, bool backwards, const F& f) {
  const Index groups = walk.groups.size(), stretch = backwards ? walk.stretch : range.last - range.first;
  Odometer group(walk.groups, backwards ? groups - 1 : 0);
  for (Index g = groups; g > 0; --g) {
    const Offsets at = strip.at + group.offsets();
    for (Index end = range.last; end > range.first; end -= stretch) f(at, std::max(range.first, end - stretch), end);
    if (backwards) group.previous();
    else group.next();
  }
}

/// Calls f(at, row, columns, fresh) for each row of them: the offsets of its group, its number in it, how many columns it has, and whether
/// the parameters beside them are others, or more, than those before.
template <class F>
TENSORNORM_NESTED void for_each_row(const ColumnWalk& walk, const Strip& strip, const RowRange& range, bool backwards, const F& f) {
  Index known = 0, known_param = 0;
  for_each_stretch(walk, strip, range, backwards, [&](const Offsets& at, Index first, Index last) TENSORNORM_NESTED_LAMBDA {
    for (Index row = first; row < last; ++row) {
      const Index width = walk.width_of_row(row, strip.width), param = at.param + row * walk.row_param;
      const bool fresh = width > known || param != known_param;
      if (fresh) {
        known = width;
        known_param = param;
      }
      f(at, row, width, fresh);
    }
  });
}

/// The same of rows that all meet the same coefficients: f(at, columns), with the offsets of the row itself.
template <class F>
TENSORNORM_NESTED void for_each_plain_row(const ColumnWalk& walk, const Strip& strip, const RowRange& range, bool backwards, const F& f) {
  for_each_stretch(walk, strip, range, backwards, [&](Offsets at, Index first, Index last) TENSORNORM_NESTED_LAMBDA {
    const auto advance = [&](Index rows) TENSORNORM_NESTED_LAMBDA {
      for (int k = 0; k < kMaxOperands; ++k) at.data[k] += rows * walk.row_stride[k];
    };
    advance(first);
    for (Index row = first; row < last; ++row, advance(1)) f(at, walk.width_of_row(row, strip.width));
  });
}

/// Columns, of whole vectors of w, kMost or fewer, after which the coefficients of rows that follow each other without a gap come again; 0
/// where there are none such. More than half of kMost: of fewer, twice as many come again as well.
///
/// A wide row is at least a vector wider: its columns may begin anywhere in it, for what is written to be aligned.
template <int kMost>
Index held_columns(const ColumnWalk& walk, Index w) {
  if (!walk.gapless || walk.affine) return 0;
  for (Index columns = kMost * w; 2 * columns > kMost * w; columns -= w)
    if (columns % walk.period == 0 && columns + w <= walk.width) return columns;
  return 0;
}

/// Takes the rows of a strip by held_columns(): calls rows(at, column, n) for n times so many, and run(at, column, n) for n columns before or
/// after them, the first of which meets the coefficients of `column`. `head`(at): columns before the first whole vector of what is written.
template <class Head, class F, class G>
TENSORNORM_NESTED void for_each_held(const ColumnWalk& walk, const Strip& strip, const RowRange& range, bool backwards, Index columns,
                                     const Head& head, const F& rows, const G& run) {
  for_each_stretch(walk, strip, range, backwards, [&](Offsets at, Index first, Index last) TENSORNORM_NESTED_LAMBDA {
    const auto advance = [&](Index n) TENSORNORM_NESTED_LAMBDA {
      for (Index& offset : at.data) offset += n;
    };
    advance(first * walk.width);
    Index left = (last - first) * walk.width - (last > walk.group_rows ? walk.width - walk.group_tail : 0), c = head(at);
    if (c + columns > left) c = 0;
    if (c > 0) {
      run(at, Index{0}, c);
      advance(c);
      left -= c;
    }
    rows(at, c, left / columns);
    advance(left / columns * columns);
    if (left % columns > 0) run(at, c, left % columns);
  });
}

/// Bytes, as numbers of the type computed in, of one operand of rows that are gone through together: three of them stay in the first-level cache.
inline constexpr Index kRowsBytes = Index{8} << 10;
/// Runs of one weight that are longer than a few vectors are gone through part by part where there are at least so many in a row.
inline constexpr Index kRunsInParts = 4;

/// Columns of one weight after which the coefficients of the statistics come again; 0 where each column has its own weight, or they come again
/// too seldom.
template <class A, class I>
Index weighted_run(const ColumnWalk& walk, Index width) {
  constexpr Index most = kernels::kFewVectors * kernels::HardwareLanes<A, I>::width;
  if (walk.weights == 0) return 0;
  Index run = walk.run_width(width);
  if (run > walk.period) run = walk.period > most ? walk.period : std::min(run, most) / walk.period * walk.period;
  return run >= kernels::kShortestFew<A, I> && (run <= most || width >= kRunsInParts * run) ? run : 0;
}

/// Writes the rows of a strip with the coefficients of weighted_run() in registers; false where there is none. x(at, row), y(at, row): where a
/// row of an operand lies; map(isa, at, row, column, param): the map from a column on; begin(isa, map, param): what it is given for each run.
template <class A, class I, class X, class Y, class MapAt, class Begin>
TENSORNORM_NESTED bool transform_weighted(const ColumnWalk& walk, const Strip& strip, const RowRange& range, bool backwards, const X& x, const Y& y,
                                          const MapAt& map, const Begin& begin) {
  const Index run = weighted_run<A, I>(walk, strip.width), step = walk.weight_step;
  if (run == 0) return false;
  // From row r on `count` weights, so far apart, each of `again` runs.
  const auto write_runs = [&](const Offsets& at, Index r, Index count, Index again, Index param_step) TENSORNORM_NESTED_LAMBDA {
    const auto* const from = x(at, r);
    auto* const to = y(at, r);
    const Index param = at.param + r * walk.row_param;
    kernels::with_parts_of_few_vectors<A, I>(run, [&]<class J>(auto vectors, J isa, Index c, Index n) TENSORNORM_NESTED_LAMBDA {
      kernels::transform_few_runs<decltype(vectors)::value, A, J>(
          from + c, to + c, n, run, count, again, map(isa, at, r, c, param),
          [&](auto& of_run, Index i) TENSORNORM_NESTED_LAMBDA { begin(isa, of_run, param + i * param_step); });
    });
  };
  // Of one weight: where a row has several, it is of whole runs.
  const auto write_rest = [&](const Offsets& at, Index r, Index width) TENSORNORM_NESTED_LAMBDA {
    const Index end = width / run * run;
    if (end == width) return;
    const auto rest = map(I(), at, r, end, at.param + r * walk.row_param);
    kernels::transform_run<A, I>(x(at, r) + end, y(at, r) + end, width - end, rest, {}, kernels::Store::ordinary);
  };
  if (walk.weights == 1 && walk.gapless && strip.width % run == 0) {
    // Rows that go on in the next one are gone through as one, as many as stay in the cache: what is done for each took as long as they did.
    const Index together = std::max<Index>(kRowsBytes / (strip.width * Index(sizeof(A))), 1);
    for_each_stretch(walk, strip, range, backwards, [&](const Offsets& at, Index first, Index last) TENSORNORM_NESTED_LAMBDA {
      const Index whole = std::min(last, walk.group_rows);
      for (Index r = first; r < whole; r += together) write_runs(at, r, std::min(together, whole - r), strip.width / run, walk.row_param);
      if (last == whole) return;
      write_runs(at, whole, 1, walk.group_tail / run, 0);
      write_rest(at, whole, walk.group_tail);
    });
    return true;
  }
  for_each_row(walk, strip, range, backwards, [&](const Offsets& at, Index r, Index width, bool) TENSORNORM_NESTED_LAMBDA {
    if (width >= run) write_runs(at, r, width / run, 1, step);
    write_rest(at, r, width);
  });
  return true;
}

/// Writes the rows of a strip with coefficients in registers, kCoefficients for each column; false where they do not come again soon enough.
/// x(at), y(at): where an operand lies; map(at, column): the map from there on.
template <int kCoefficients, class A, class I, class X, class Y, class MapAt>
TENSORNORM_NESTED bool transform_held(const ColumnWalk& walk, const Strip& strip, const RowRange& range, bool backwards, const X& x, const Y& y,
                                      const MapAt& map) {
  using L = kernels::HardwareLanes<A, I>;
  // Where each lane is fused by itself, as in x86's baseline, coefficients are the least of it.
  if constexpr (L::fuses) {
    constexpr int most = kernels::kHeldVectors<I, kCoefficients>;
    const Index columns = held_columns<most>(walk, L::width);
    if (columns == 0) return false;
    const auto head = [&](const Offsets& at) TENSORNORM_NESTED_LAMBDA { return kernels::elements_to_alignment(y(at), L::width); };
    const auto run = [&](const Offsets& at, Index c, Index n) TENSORNORM_NESTED_LAMBDA {
      kernels::transform_run<A, I>(x(at), y(at), n, map(at, c), {}, kernels::Store::ordinary);
    };
    const auto rows = [&](const Offsets& at, Index c, Index n) TENSORNORM_NESTED_LAMBDA {
      [&]<int... less>(std::integer_sequence<int, less...>) TENSORNORM_NESTED_LAMBDA {
        ((columns == (most - less) * L::width ? kernels::transform_rows<most - less, A, I>(x(at), y(at), n, map(at, c)) : void()), ...);
      }(std::make_integer_sequence<int, (most + 1) / 2>());
    };
    for_each_held(walk, strip, range, backwards, columns, head, rows, run);
    return true;
  } else {
    return false;
  }
}

/// Calls f(column, columns, param) for the runs of one weight in `width` columns of a row, each `run` wide or all there is, in parts of
/// at most `most`; `param`: the row's offset into the parameters.
template <class F>
TENSORNORM_NESTED void for_each_run(const ColumnWalk& walk, Index run, Index width, Index most, Index param, const F& f) {
  const Index length = std::min(run, width), step = std::min(most, length);
  for (Index end = length; end <= width; end += length, param += walk.weight_step)
    for (Index c = end - length; c < end; c += step) f(c, std::min(step, end - c), param);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
