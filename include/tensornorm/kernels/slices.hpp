// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>
#include <tensornorm/kernels/lane_sums.hpp>
#include <tensornorm/kernels/moments.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

// Short slices of contiguous elements: what row_moments() makes of them, without waiting for one before the next is begun.

/// What row_moments() makes of less than a chunk, before it looks at the sums: see is_ordinary().
template <class A, class S>
struct ShortSlice {
  A pivot;
  S sum, squares;  ///< as in PivotSums

  TENSORNORM_INLINE ShortSlice(A about, S sum_about, S squares_about) : pivot(about), sum(sum_about), squares(squares_about) {}
  /// Neither another pivot nor a scale is needed.
  template <class T>
  TENSORNORM_INLINE bool is_ordinary(Index n, bool centered) const {
    const bool good_pivot = is_finite(pivot) && !(centered && is_bad_pivot(n, sum, squares, row_pivot_share<A, S>(n)));
    return good_pivot && scale_for<A, T>(n, pivot, squares) == A(1);
  }
  TENSORNORM_INLINE Welford<S> state(Index n, bool centered) const {
    return centered ? Welford<S>::of_sums(n, S(pivot), sum, squares) : Welford<S>(n, S(0), S(0), squares);
  }
};

/// The sums of `count` statistics of one slice of several blocks each, `apart` elements from one to the next, folded as in chunk_sums().
///
/// A job of its own: within the code for one block that would take 1.1 times as long.
template <class Accumulator, class S, class T>
struct BlockedSums {
  using A = Accumulator;
  const T* x;
  Index apart, count, n;
  bool centered;
  const A* pivots;
  S *sums, *squares;

  template <class I>
  TENSORNORM_INLINE void operator()() const {
    using L = VirtualLanes<A, I>;
    using Folded = FoldLanes<A, S, I>;
    constexpr std::size_t w = L::width;
    alignas(64) A lanes[kTogether][w];
    alignas(64) S square_lanes[kTogether][w];
    A of_block[kTogether];
    std::fill_n(sums, count, S(0));
    for (Index first = 0; first < n; first += kBlock<A>) {
      for (Index i = 0; i < count; ++i) {
        L sum, square_sum;
        block_sums<A, I>(x + i * apart + first, std::min(kBlock<A>, n - first), pivots[i], centered, sum, square_sum);
        sum.store(lanes[i]);
        Folded folded = folded_lanes<A, S, I>(square_sum);
        if (first > 0) folded = Folded::load(square_lanes[i]) + folded;
        folded.store(square_lanes[i]);
      }
      sums_of_rows<L>(lanes, count, of_block);
      for (Index i = 0; i < count; ++i) sums[i] = sums[i] + S(of_block[i]);
    }
    sums_of_rows<Folded>(square_lanes, count, squares);
  }
};

/// The sums of `count` statistics, at most kTogether, of one slice of n elements each, less than a chunk, or of joined ones, no more than a
/// block: about a pivot of each, or about 0.
///
/// Of one slice the same bits as of row_moments(). Of joined ones lanes are added up before a sum is taken.
template <class A, class S, class I>
struct ShortSums {
  using L = VirtualLanes<A, I>;

  A pivots[kTogether];  // an array each: objects of several numbers, copied whole, wait for the stores of their parts
  S squares[kTogether];

  /// x(j, i): slice j of the i-th.
  template <class F>
  TENSORNORM_INLINE ShortSums(Index count, Index slices, Index n, bool centered, const F& x) {
    alignas(64) A lanes[kTogether][w];
    if (centered) {
      const Index begun = Index(std::bit_floor(std::size_t(slices)));
      const Beginning<A, I> beginning(n, begun);
      for (Index j = 0; j < begun; ++j)
        for (Index i = 0; i < count; ++i) {
          L first;
          if (j > 0) first = L::load(lanes[i]);
          beginning.add(x(j, i), first);
          first.store(lanes[i]);
        }
      sums_of_rows<L>(lanes, count, pivots);
    } else {
      for (A& pivot : pivots) pivot = A(0);
    }
    if constexpr (!keeps_rest<A, S>)
      if (n > kBlock<A>) {
        const auto* const first = x(0, 0);
        using T = std::remove_cvref_t<decltype(*first)>;
        dispatch(BlockedSums<A, S, T>{first, count > 1 ? x(0, 1) - first : 0, count, n, centered, pivots, folded_, squares});
        folds_ = true;
        return;
      }
    alignas(64) A square_lanes[kTogether][w];
    for (Index j = 0; j < slices; ++j)
      for (Index i = 0; i < count; ++i) {
        L sum, square_sum;
        block_sums<A, I>(x(j, i), n, pivots[i], centered, sum, square_sum);
        if (j > 0) {
          sum = sum + L::load(lanes[i]);
          square_sum = square_sum + L::load(square_lanes[i]);
        }
        sum.store(lanes[i]);
        square_sum.store(square_lanes[i]);
      }
    sums_of_rows<L>(lanes, count, of_block_);
    sums_of_rows<FoldLanes<A, S, I>>(square_lanes, count, squares);
  }
  TENSORNORM_INLINE ShortSlice<A, S> operator[](Index i) const { return {pivots[i], folds_ ? folded_[i] : S(of_block_[i]), squares[i]}; }
  /// The sums from the i-th on, in lanes of S.
  template <class V>
  TENSORNORM_INLINE V sums(Index i) const {
    return folds_ ? V::load(folded_ + i) : V::load(of_block_ + i);
  }

 private:
  static constexpr std::size_t w = L::width;
  A of_block_[kTogether];
  S folded_[kTogether];  ///< those of several blocks
  bool folds_ = false;
};

/// All are as ShortSlice::is_ordinary() asks, whose pivots may make this `share` of the squares; not where one of them might just be.
/// kZerosToo: squares of 0 are, which zeros have, or too small numbers.
template <class A, class T, bool kZerosToo, class V>
TENSORNORM_INLINE bool all_ordinary(Index n, bool centered, double share, const V& pivot, const V& sum, const V& squares) {
  using S = typename V::Number;
  if constexpr (may_scale<A, T>) {  // first: squares of others might overflow, and their pivots be no numbers
    const V least(S(n) * S(SafeScale<A>::least));
    if (!(kZerosToo ? squares.or_where_zero(squares, least) : squares).is_within(least, V(S(SafeScale<A>::most)))) return false;
  } else {
    if (!(pivot - pivot).is_within(V(), V())) return false;
  }
  return !centered || (sum * sum).is_within(V(), squares * V(S(share) * S(n)));
}

/// The mean of as many elements as a Beginning has of a few of many slices, which lie `stride` apart: of each from another place on, where
/// it is long enough.
template <class A, class I, class T>
TENSORNORM_INLINE A pivot_of_slices(const T* x, Index n, Index slices, Index stride) {
  constexpr Index most = 4;  // all of them took a tenth of the time
  const Index begun = Index(std::bit_floor(std::size_t(std::min(slices, most))));
  const Beginning<A, I> beginning(n, begun);
  const Index step = slices / begun * stride + (n - beginning.count) / begun;
  VirtualLanes<A, I> lanes;
  for (Index i = 0; i < begun; ++i) beginning.add(x + i * step, lanes);
  return lanes.sum();
}

/// Sums of several slices about one pivot: none waits for those before it to be merged, as in row_moments().
template <class A, class S, class I>
struct SliceSums {
  using L = VirtualLanes<A, I>;
  using Folded = FoldLanes<A, S, I>;
  A pivot;
  S sum = S(0), rest = S(0);  ///< as SumArray has them
  Folded plain_sums, squares, squares_rest;
  Index count = 0;
  A better = A(0);  ///< where add() returns false: the slice's mean

  TENSORNORM_INLINE explicit SliceSums(A about) : pivot(about) {}

  /// Not a slice that hardly varies in its first block, as it lies from the pivot: its squares are all rounded the same way. Where S is no
  /// wider than A, none from whose mean the pivot is more than 0.38 of its deviations away.
  template <class T>
  TENSORNORM_INLINE bool add(const T* x, Index n, bool centered) {
    S slice(0), slice_rest(0);
    Folded lanes, folded, folded_rest;
    bool varies = !centered;
    for (Index i = 0; i < n; i += kBlock<A>) {
      const Index k = std::min(kBlock<A>, n - i);
      if constexpr (keeps_rest<A, S>) {
        const BlockTotals<A, S, I> block(x + i, k, pivot, centered);
        accumulate<true>(slice, slice_rest, block.sum);
        accumulate<true>(folded, folded_rest, block.squares);
      } else {
        L block_sum, block_squares;
        block_sums<A, I>(x + i, k, pivot, centered, block_sum, block_squares);
        if (i == 0 && centered) varies = !hardly_varies(block_sum, block_squares, k);
        lanes = lanes + folded_lanes<A, S, I>(block_sum);
        folded = folded + folded_lanes<A, S, I>(block_squares);
      }
    }
    if constexpr (keeps_rest<A, S>) varies = !centered || !is_bad_pivot(n, slice, folded.sum(), 0.125);
    if (!varies) {
      better = static_cast<A>(S(pivot) + (slice + lanes.sum()) / S(n));
      if constexpr (kRegistersHoldMore) reload(better);
      return false;
    }
    if constexpr (keeps_rest<A, S>) {
      accumulate<true>(sum, rest, slice);
      accumulate<true>(squares, squares_rest, folded);
      rest = rest + slice_rest;
      squares_rest = squares_rest + folded_rest;
    } else {
      plain_sums = plain_sums + lanes;
      squares = squares + folded;
    }
    count += n;
    return true;
  }
  /// No scale is needed, and the pivot is a number.
  template <class T>
  TENSORNORM_INLINE bool is_ordinary() const {
    return count == 0 || (is_finite(pivot) && scale_for<A, T>(count, pivot, squares.sum()) == A(1));
  }
  /// The pivot is more than 0.7 deviations from the mean of those added. Never where S is no wider than A.
  TENSORNORM_INLINE bool has_bad_pivot() const { return is_bad_pivot(count, total(), squares.sum(), kNearPivotShare); }
  TENSORNORM_INLINE A mean() const { return static_cast<A>(S(pivot) + total() / S(count)); }
  TENSORNORM_INLINE void merge_into(ScaledWelford<A, S>& state, bool centered) const {
    if (count == 0) return;
    const S all_squares = squares.sum();
    Welford<S> set(count, S(0), S(0), all_squares);
    if (centered) {
      if constexpr (keeps_rest<A, S>) set = Welford<S>::of_sums(count, S(pivot), sum, rest, all_squares);
      else set = Welford<S>::of_sums(count, S(pivot), total(), all_squares);
    }
    state.merge(set, S(1));
  }

 private:
  /// The elements of a block lie all as far from the pivot, but for a 256th of that: those of one lane in the middle, for all of them. Zero is
  /// not far.
  TENSORNORM_INLINE static bool hardly_varies(const L& sum, const L& squares, Index n) {
    constexpr std::size_t w = L::width;
    A sums[w], all_squares[w];
    sum.store(sums);
    squares.store(all_squares);
    const S of_sum(sums[w / 2]), of_squares(all_squares[w / 2]), terms = static_cast<S>((n + Index(w / 2)) / Index(w)), product = of_sum * of_sum;
    return product > terms * of_squares * S(1 - 0x1p-16) && product > S(std::numeric_limits<A>::min());
  }
  TENSORNORM_INLINE S total() const {
    if constexpr (keeps_rest<A, S>) return sum;
    else return plain_sums.sum();
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
