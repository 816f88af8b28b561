// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/ops/forward_walks.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// No more than a block, whose lanes are added up in A.
template <class A>
inline constexpr FewSlices few_slices{virtual_width<A>, kBlock<A>};

/// Where the slices of a statistic that are taken together lie, counted from the first of them.
struct SliceOffsets {
  Index count;
  Index data[kMaxOperands][std::size_t(kBlock<float> / virtual_width<float>)];  // FewSlices::hold() no more

  TENSORNORM_INLINE explicit SliceOffsets(const LoopList& slices) : count(slices.size()) {
    Odometer slice(slices);
    for (Index j = 0; j < count; ++j, slice.next())
      for (int k = 0; k < kMaxOperands; ++k) data[k][j] = slice.offsets().data[k];
  }
};

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

/// RowForward where each statistic is of one short run, or of a few: of kTogether statistics first all sums, then all centers, then all elements.
/// One that is not ordinary goes to RowForward. Of one run the same bits as of RowForward.
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
    const SliceOffsets slices(walk.slices);
    for_each_few(walk, first, last, [&](Index k, Index count, const Offsets& at, const Loop& row) TENSORNORM_INLINE_LAMBDA {
      normalize<I>(k, count, at, row, slices);
    });
  }

 private:
  /// What the elements of a few statistics meet; where one is not ordinary, nothing.
  struct FewCoefficients {
    A mean[kTogether], scale[kTogether], shift[kTogether];
    bool ordinary[kTogether];
    TENSORNORM_INLINE Coefficients<A> operator[](Index i) const { return {mean[i], scale[i], shift[i]}; }
  };

  template <class I>
  TENSORNORM_INLINE void normalize(Index k, Index count, const Offsets& at, const Loop& row, const SliceOffsets& slices) const {
    const Index n = walk.length;
    FewCoefficients all;
    bool ordinary = false;
    const auto x_of = [x = args.x + at.data[0], &slices, &row](Index j, Index i) TENSORNORM_INLINE_LAMBDA {
      return x + slices.data[0][j] + i * row.data[0];
    };
    const ShortSums<A, S, I> sums(count, slices.count, n, args.rule.centered, x_of);
    if constexpr (finishes_in_lanes<S, I>()) ordinary = count == kTogether && row.statistic == 1 && finish_in_lanes<I>(sums, at, row, all);
    if (!ordinary) ordinary = finish<I>(sums, count, at, row, all);
    with_map<I>(args, walk.run.param != 0, [&](const auto& map) TENSORNORM_INLINE_LAMBDA {
      for (Index j = 0; j < slices.count; ++j) {
        T* y = args.y + at.data[1] + slices.data[1][j];
        Index param = at.param;
        for (Index i = 0; i < count; ++i, y += row.data[1], param += row.param)
          if (ordinary || all.ordinary[i]) transform_run<A, I>(x_of(j, i), y, n, map(all[i], param), {}, Store::ordinary);
      }
    });
    if (ordinary) return;
    for (Index i = 0; i < count; ++i)
      if (!all.ordinary[i]) alone(k + i);
  }

  /// All kTogether, unless one of them might not be ordinary; then what it has written is to be written again.
  template <class I>
  TENSORNORM_INLINE bool finish_in_lanes(const ShortSums<A, S, I>& sums, const Offsets& at, const Loop& row, FewCoefficients& to) const {
    using V = HardwareLanes<S, I>;
    static_assert(kTogether % V::width == 0);
    const bool beside = lies_beside(args, walk.run.param != 0);
    bool all = true;
    for (Index i = 0; i < kTogether; i += V::width) {
      const V pivot = V::load(sums.pivots + i), sum = V::load(sums.sums + i), squares = V::load(sums.squares + i);
      all &= all_ordinary<A, T>(args.samples, args.rule.centered, pivot, sum, squares);
      const FinishedStatistics<V> finished(args.rule, args.samples, pivot, sum, squares);
      all &= all_near<A, T>(finished.rstd);
      finished.write(args.statistics, at.statistic + i);
      const auto of_rows = [&](const A* values, V none) TENSORNORM_INLINE_LAMBDA {
        if (values == nullptr || beside) return none;
        const A* const from = values + at.param + i * row.param;
        return row.param == 1 ? V::load(from) : V::of([&](int lane) TENSORNORM_INLINE_LAMBDA { return S(from[lane * row.param]); });
      };
      finished.mean.store(to.mean + i);
      const V weight = of_rows(args.weight, V(S(1))), bias = of_rows(args.bias, V(S(-0.0)));
      const V rest = (V::load(to.mean + i) - finished.mean) - finished.mean_lo, scale = finished.rstd * weight;
      scale.store(to.scale + i);
      fused(rest, scale, bias).or_where_zero(rest, bias).store(to.shift + i);
    }
    return all;
  }
  template <class I>
  TENSORNORM_INLINE bool finish(const ShortSums<A, S, I>& sums, Index count, const Offsets& at, const Loop& row, FewCoefficients& to) const {
    const bool centered = args.rule.centered;
    bool all = true;
    for (Index i = 0; i < count; ++i) {
      const ShortSlice<A, S> slice = sums[i];
      bool ordinary = slice.template is_ordinary<T>(args.samples, centered);
      // As in chunk_sums(): zeros, say, are ordinary.
      if constexpr (!std::is_same_v<A, S>)
        if (!ordinary && slice.squares == S(0) && walk.slices.depth == 0)
          ordinary = all_equal<A, I>(args.x + at.data[0] + i * row.data[0], walk.length, slice.pivot);
      if (ordinary) {
        const Center<A, S> center = finish_statistic<A, T>(args.rule, args.samples, {slice.state(args.samples, centered)}, args.statistics,
                                                           at.statistic + i * row.statistic);
        const Coefficients<A> k = coefficients(args, center, at.param + i * row.param, walk.run.param != 0);
        to.mean[i] = k.mean;
        to.scale[i] = k.scale;
        to.shift[i] = k.shift;
        ordinary = center.factor == A(1);
      }
      to.ordinary[i] = ordinary;
      all &= ordinary;
    }
    return all;
  }
  TENSORNORM_RARE void alone(Index k) const { dispatch(RowForward<Args>{args, walk, Store::ordinary, false, k, k + 1}); }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
