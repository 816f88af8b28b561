// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/ops/forward_walks.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// No more than a block, whose lanes are added up in A. None of doubles, whose statistics are no wider: the squares of an outlier's channel were
/// 4.5 ulp off.
template <class A>
inline constexpr JoinedSlices joined_slices{virtual_width<A>, keeps_rest<A, statistic_t<A>> ? 0 : kBlock<A>};
/// Elements of a row that is taken together with others, at most. Where statistics are no wider than elements, which fold blocks with rests, a
/// block.
template <class A, class S>
inline constexpr Index kLongestTogether = keeps_rest<A, S> ? kBlock<A> : 1024;
/// Slices of a statistic at most: of a vector each they fill a block.
inline constexpr Index kMostJoined = 32;

/// Where the slices of a statistic that are taken together lie, counted from the first of them.
struct SliceOffsets {
  Index count;
  Index data[kMaxOperands][kMostJoined];

  TENSORNORM_NESTED explicit SliceOffsets(const LoopList& slices) : count(1) {
    for (auto& first : data) first[0] = 0;
    if (slices.depth > 0) set(slices);
  }

 private:
  TENSORNORM_RARE void set(const LoopList& slices) {
    Odometer slice(slices);
    for (count = 0; count < slices.size(); ++count, slice.next())
      for (int k = 0; k < kMaxOperands; ++k) data[k][count] = slice.offsets().data[k];
  }
};

/// Statistics that are taken together: `count` of them from the k-th on, which stands at `at`, each a step of `row` after the one before.
struct FewStatistics {
  Index k, count;
  const Offsets& at;
  const Loop& row;
  const SliceOffsets& slices;

  /// Slice j of the i-th in an operand.
  template <class T>
  TENSORNORM_NESTED T* run(T* data, int operand, Index j, Index i) const {
    return data + at.data[operand] + slices.data[operand][j] + i * row.data[operand];
  }
  /// From a run to that of as many statistics further on.
  TENSORNORM_NESTED Index to_next(int operand) const { return count * row.data[operand]; }
  TENSORNORM_NESTED Index statistic(Index i) const { return at.statistic + i * row.statistic; }
  TENSORNORM_NESTED Index param(Index i) const { return at.param + i * row.param; }
  /// Parameters of those from the i-th on in lanes: `none` where there are none.
  template <class V, class A>
  TENSORNORM_NESTED V parameters(const A* values, Index i, V none) const {
    if (values == nullptr) return none;
    const A* const from = values + param(i);
    return row.param == 1 ? V::load(from) : V::of([&](int lane) TENSORNORM_NESTED_LAMBDA { return typename V::Number(from[lane * row.param]); });
  }
};

/// Rows no longer than that are taken kTogether at once; of longer ones, or of joined slices, half as many: what is done for each of them
/// takes as long as waiting.
inline constexpr Index kRowWorthWaiting = 128;

/// Calls f(FewStatistics) for the statistics [first, last) of a walk, at most kTogether of them. No call reaches across a multiple of as many
/// as are taken together, counted from `first`.
template <class F>
TENSORNORM_NESTED void for_each_few(const RowWalk& walk, Index first, Index last, const F& f) {
  const SliceOffsets slices(walk.slices);
  const Index together = slices.count == 1 && walk.length <= kRowWorthWaiting ? kTogether : kRowsInLanes;
  const int around = std::max(walk.kept.depth - 1, 0);
  const Loop row = walk.kept.depth > 0 ? walk.kept.loops[around] : Loop{1, {}, 0, 0};
  const Index begun = first > 0 ? first / row.extent : 0;
  Odometer group(walk.kept, begun, around);
  Index begin = first - begun * row.extent;
  for (Index k = first; k < last; begin = 0) {
    Offsets at = group.offsets();
    if (begin > 0) at.advance(row, begin);
    for (const Index end = k + std::min(row.extent - begin, last - k);;) {
      const Index count = std::min(together - ((k - first) & (together - 1)), end - k);
      f(FewStatistics{k, count, at, row, slices});
      k += count;
      if (k == end) break;
      at.advance(row, count);
    }
    if (k < last) group.next();
  }
}

/// RowForward where each statistic is of one short run, or of joined slices, which are not streamed: of a few statistics first all sums, then
/// all centers, then all elements. One that is not ordinary goes to RowForward. Of one run the same bits as of RowForward.
template <class Args>
struct ShortRowForward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;
  static_assert(kBlock<A> / virtual_width<A> <= kMostJoined);

  const Args& args;
  const RowWalk& walk;
  Store store;
  bool fetches;       ///< the runs of the next few statistics are asked for while these are written
  Index first, last;  ///< statistics in the order of memory

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    for_each_few(walk, first, last, [&](const FewStatistics& few) TENSORNORM_NESTED_LAMBDA { normalize<I>(few); });
    if (store == Store::streaming) fence();
  }

 private:
  /// What the elements of a few statistics meet; where one is not ordinary, nothing.
  struct FewCoefficients {
    A mean[kTogether], scale[kTogether], shift[kTogether];
    bool ordinary[kTogether];
    TENSORNORM_NESTED Coefficients<A> operator[](Index i) const { return {mean[i], scale[i], shift[i]}; }
  };

  template <class I>
  TENSORNORM_NESTED void normalize(const FewStatistics& few) const {
    const Index n = walk.length;
    const ShortSums<A, S, I> sums(few.count, few.slices.count, n, args.rule.centered,
                                  [&](Index j, Index i) TENSORNORM_NESTED_LAMBDA { return few.run(args.x, 0, j, i); });
    FewCoefficients all;
    bool ordinary = false;
    if constexpr (finishes_in_lanes<S, I>())
      ordinary = few.count % kRowsInLanes == 0 && few.row.statistic == 1 && finish_in_lanes<I>(sums, few, all);
    if (!ordinary) ordinary = finish<I>(sums, few, all);
    if (args.y != nullptr)
      with_map<I>(args, walk.run.param != 0, [&](const auto& map) TENSORNORM_NESTED_LAMBDA {
        const auto map_of = [&](Index i) TENSORNORM_NESTED_LAMBDA { return map(all[i], few.param(i)); };
        const auto is_taken = [&](Index i) TENSORNORM_NESTED_LAMBDA { return ordinary || all.ordinary[i]; };
        if (store == Store::ordinary) write<Store::ordinary, I>(few, map_of, is_taken);
        else write<Store::streaming, I>(few, map_of, is_taken);
      });
    if (ordinary) return;
    for (Index i = 0; i < few.count; ++i)
      if (!all.ordinary[i]) alone(few.k + i);
  }

  /// The elements of those that are taken, by map_of(i); where it `fetches`, those of the next few statistics are asked for.
  template <Store kStore, class I, class MapOf, class IsTaken>
  TENSORNORM_NESTED void write(const FewStatistics& few, const MapOf& map_of, const IsTaken& is_taken) const {
    const Index n = walk.length, left = fetches ? last - few.k - few.count : 0;
    for (Index j = 0; j < few.slices.count; ++j)
      for (Index i = 0; i < few.count; ++i) {
        const T* const x = few.run(args.x, 0, j, i);
        const Index next = i < left ? few.to_next(0) : 0;
        if (kStore == Store::ordinary && next != 0) fetch_run(x + next, n, false);
        if (is_taken(i)) transform_run<A, I>(x, few.run(args.y, 1, j, i), n, map_of(i), {next}, kStore);
      }
  }

  /// All of them; where one might not be ordinary, those before it at most. Nothing is computed of one that is not: it might overflow.
  template <class I>
  TENSORNORM_NESTED bool finish_in_lanes(const ShortSums<A, S, I>& sums, const FewStatistics& few, FewCoefficients& to) const {
    using V = HardwareLanes<S, I>;
    static_assert(kRowsInLanes % V::width == 0);
    const bool beside = lies_beside(args, walk.run.param != 0);
    const A *const weights = beside ? nullptr : args.weight, *const biases = beside ? nullptr : args.bias;
    for (Index i = 0; i < few.count; ++i)
      if (sums.squares[i] == S(0) && !is_constant<I>(few, i, sums.pivots[i])) return false;
    for (Index i = 0; i < few.count; i += V::width) {
      const V pivot = V::load(sums.pivots + i), sum = sums.template sums<V>(i), squares = V::load(sums.squares + i);
      if (!all_ordinary<A, T, true>(args.samples, args.rule.centered, row_pivot_share<A, S>(args.samples), pivot, sum, squares)) return false;
      const FinishedStatistics<V> finished(args.rule, args.samples, pivot, sum, squares);
      finished.write(args.statistics, few.statistic(i));
      if (!all_near<A, T>(finished.rstd)) return false;
      const V weight = few.parameters(weights, i, V(S(1))), bias = few.parameters(biases, i, V(S(-0.0)));
      store_coefficients(finished.rstd, store_mean(finished.mean, finished.mean_lo, to.mean + i), weight, bias, to.scale + i, to.shift + i);
    }
    return true;
  }
  /// All elements are the pivot, given that the squares of their differences are 0: as in chunk_sums(), zeros, say, are ordinary.
  template <class I>
  TENSORNORM_NESTED bool is_constant(const FewStatistics& few, Index i, A pivot) const {
    if constexpr (std::is_same_v<A, S>) return false;
    bool all = true;
    for (Index j = 0; j < few.slices.count; ++j) all &= all_equal<A, I>(few.run(args.x, 0, j, i), walk.length, pivot);
    return all;
  }
  template <class I>
  TENSORNORM_NESTED bool finish(const ShortSums<A, S, I>& sums, const FewStatistics& few, FewCoefficients& to) const {
    const bool centered = args.rule.centered;
    bool all = true;
    for (Index i = 0; i < few.count; ++i) {
      const ShortSlice<A, S> slice = sums[i];
      bool ordinary = slice.template is_ordinary<T>(args.samples, centered);
      if (!ordinary && slice.squares == S(0)) ordinary = is_constant<I>(few, i, slice.pivot);
      if (ordinary) {
        const Center<A, S> center =
            finish_statistic<A, T>(args.rule, args.samples, {slice.state(args.samples, centered)}, args.statistics, few.statistic(i));
        const Coefficients<A> k = coefficients(args, center, few.param(i), walk.run.param != 0);
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

/// RowForward of a single statistic of one short run, without its loops. One that is not ordinary goes to RowForward.
template <class Args>
struct OneRowForward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  Index n;      ///< at most a block
  bool beside;  ///< parameters change within the row

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    const T* const x = args.x;
    const bool centered = args.rule.centered;
    const A pivot = centered ? first_pivot<A, I>(x, n) : A(0);
    const BlockTotals<A, S, I> block(x, n, pivot, centered, true);
    const S squares = block.squares.sum();
    if (!ShortSlice<A, S>(pivot, block.sum, squares).template is_ordinary<T>(n, centered)) return in_full();
    const FinishedStatistics<S> finished(args.rule, n, S(pivot), block.sum, squares);
    if (!is_near<A, T>(finished.rstd)) return in_full();
    write_statistic<S>(args.statistics, 0, finished.mean, finished.mean_lo, finished.rstd, finished.variance);
    if (args.y == nullptr) return;
    const Center<A, S> center(finished.mean, finished.mean_lo, finished.rstd);
    with_map<I>(args, beside, [&](const auto& map) TENSORNORM_NESTED_LAMBDA {
      auto of_row = map(coefficients(args, center, 0, beside), 0);  // not const: see Lanes
      transform_alone<A, I>(x, args.y, n, of_row);
    });
  }

 private:
  TENSORNORM_RARE void in_full() const {
    dispatch(RowForward<Args>{args, RowWalk::of_one_row(n, beside), Store::ordinary, false, 0, 1});
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
