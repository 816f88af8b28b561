// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/ops/forward_walks.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// Rows of one short run each that are taken together: what is done once per row takes longer than its elements, most of it waiting for
/// the result before, and the rows do not wait for each other.
inline constexpr Index kTogether = 8;

/// Calls f(k, count, at, row) for the statistics [first, last) of a walk: `count` of them from the k-th on, which stands at `at`, each a
/// step of `row` after the one before. No call reaches across a multiple of kTogether, counted from `first`.
template <class F>
TENSORNORM_INLINE void for_each_few(const RowWalk& walk, Index first, Index last, const F& f) {
  static_assert((kTogether & (kTogether - 1)) == 0);
  const int around = std::max(walk.kept.depth - 1, 0);
  const Loop row = walk.kept.depth > 0 ? walk.kept.loops[around] : Loop{1, {}, 0, 0};
  const Index begun = first > 0 ? first / row.extent : 0;
  Odometer group(walk.kept, begun, around);
  Index begin = first - begun * row.extent;
  for (Index k = first; k < last; begin = 0) {
    Offsets at = group.offsets();
    if (begin > 0) at.advance(row, begin);
    for (const Index end = k + std::min(row.extent - begin, last - k);;) {
      const Index count = std::min(kTogether - ((k - first) & (kTogether - 1)), end - k);
      f(k, count, at, row);
      k += count;
      if (k == end) break;
      at.advance(row, count);
    }
    if (k < last) group.next();
  }
}

/// RowForward where each statistic is of one short run: of a few rows first all sums, then all centers, then all elements. A row that is
/// not ordinary goes to RowForward. The same bits as of RowForward.
template <class Args>
struct ShortRowForward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const RowWalk& walk;
  Index first, last;  ///< statistics in the order of memory

  template <class I>
  TENSORNORM_INLINE void run() const {
    for_each_few(walk, first, last, [&](Index k, Index count, const Offsets& at, const Loop& row) TENSORNORM_INLINE_LAMBDA {
      normalize<I>(k, count, at, row);
    });
  }

 private:
  template <class I>
  TENSORNORM_INLINE void normalize(Index k, Index count, const Offsets& at, const Loop& row) const {
    const Index n = walk.length;
    A pivots[kTogether], means[kTogether];  // an array each: objects of several numbers, copied whole, wait for the stores of their parts
    S sums[kTogether], squares[kTogether], rests[kTogether], rstds[kTogether];
    bool ordinary[kTogether];
    for (Index i = 0; i < count; ++i) {
      ShortSlice<A, S> slice;
      slice.template add_up<I>(args.x + at.data[0] + i * row.data[0], n, args.rule.centered);
      pivots[i] = slice.pivot;
      sums[i] = slice.sum;
      squares[i] = slice.squares;
    }
    bool in_lanes = finishes_in_lanes<S, I>() && count == kTogether && row.statistic == 1;
    for (Index i = 0; i < count; ++i) {
      const ShortSlice<A, S> slice(pivots[i], sums[i], squares[i]);
      ordinary[i] = slice.template is_ordinary<T>(n, args.rule.centered);
      // As in chunk_sums(): zeros, say, are ordinary.
      if constexpr (!std::is_same_v<A, S>)
        if (!ordinary[i] && slice.squares == S(0)) ordinary[i] = all_equal<A, I>(args.x + at.data[0] + i * row.data[0], n, slice.pivot);
      in_lanes &= ordinary[i];
    }
    if constexpr (finishes_in_lanes<S, I>()) {
      using V = HardwareLanes<S, I>;
      static_assert(kTogether % V::width == 0);
      if (in_lanes) {
        for (Index i = 0; i < kTogether; i += V::width) {
          const FinishedStatistics<V> all(args.rule, n, V::load(pivots + i), V::load(sums + i), V::load(squares + i));
          all.write(args.statistics, at.statistic + i);
          store_centers(all.mean, all.mean_lo, all.rstd, means + i, rests + i, rstds + i);
        }
        for (Index i = 0; i < kTogether; ++i) ordinary[i] = is_near<A, T>(rstds[i]);
      }
    }
    for (Index i = in_lanes ? count : 0; i < count; ++i) {
      if (!ordinary[i]) continue;
      const ShortSlice<A, S> slice(pivots[i], sums[i], squares[i]);
      const Center<A, S> center =
          finish_statistic<A, T>(args.rule, n, {slice.state(n, args.rule.centered)}, args.statistics, at.statistic + i * row.statistic);
      means[i] = center.mean;
      rests[i] = center.rest;
      rstds[i] = center.rstd;
      ordinary[i] = center.factor == A(1);
    }
    for (Index i = 0; i < count; ++i) {
      const T* x = args.x + at.data[0] + i * row.data[0];
      T* y = args.y + at.data[1] + i * row.data[1];
      if (ordinary[i]) write<I>(x, y, means[i], rests[i], rstds[i], at.param + i * row.param);
      else alone(k + i);
    }
  }
  template <class I>
  TENSORNORM_INLINE void write(const T* x, T* y, A mean, S rest, S rstd, Index param) const {
    Center<A, S> center;
    center.mean = mean;
    center.rest = rest;
    center.rstd = rstd;
    normalize_elements<I>(args, center, x, y, walk.length, param, walk.run.param != 0, {}, Store::ordinary);
  }
  TENSORNORM_RARE void alone(Index k) const { dispatch(RowForward<Args>{args, walk, Store::ordinary, false, k, k + 1}); }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
