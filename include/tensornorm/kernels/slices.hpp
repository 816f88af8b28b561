// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <tensornorm/kernels/lane_sums.hpp>
#include <tensornorm/kernels/moments.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

// Short slices of contiguous elements: what row_moments() makes of them, without waiting for one before the next is begun.

/// What row_moments() makes of one block, before it looks at the sums: see is_ordinary().
template <class A, class S>
struct ShortSlice {
  A pivot;
  S sum, squares;  ///< as in PivotSums

  TENSORNORM_INLINE ShortSlice(A about, S sum_about, S squares_about) : pivot(about), sum(sum_about), squares(squares_about) {}
  /// Neither another pivot nor a scale is needed.
  template <class T>
  TENSORNORM_INLINE bool is_ordinary(Index n, bool centered) const {
    const bool good_pivot = is_finite(pivot) && !(centered && is_bad_pivot(n, sum, squares));
    return good_pivot && scale_for<A, T>(n, pivot, squares) == A(1);
  }
  TENSORNORM_INLINE Welford<S> state(Index n, bool centered) const {
    return centered ? Welford<S>::of_sums(n, S(pivot), sum, squares) : Welford<S>(n, S(0), S(0), squares);
  }
};

/// The sums of `count` statistics, at most kTogether, of one slice of n elements each, no more than a block, or of joined ones: about a pivot
/// of each, or about 0.
///
/// Of one slice the same bits as of row_moments(). Of joined ones lanes are added up before a sum is taken.
template <class A, class S, class I>
struct ShortSums {
  using L = VirtualLanes<A, I>;

  A pivots[kTogether], sums[kTogether];  // an array each: objects of several numbers, copied whole, wait for the stores of their parts
  S squares[kTogether];

  /// x(j, i): slice j of the i-th.
  template <class F>
  TENSORNORM_INLINE ShortSums(Index count, Index slices, Index n, bool centered, const F& x) {
    constexpr std::size_t w = L::width;
    alignas(64) A lanes[kTogether][w];
    alignas(64) A square_lanes[kTogether][w];
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
    for (Index j = 0; j < slices; ++j)
      for (Index i = 0; i < count; ++i) {
        L sum, square_sum;
        block_sums<A, I>(x(j, i), n, pivots[i], sum, square_sum);
        if (j > 0) {
          sum = sum + L::load(lanes[i]);
          square_sum = square_sum + L::load(square_lanes[i]);
        }
        sum.store(lanes[i]);
        square_sum.store(square_lanes[i]);
      }
    sums_of_rows<L>(lanes, count, sums);
    sums_of_rows<FoldLanes<A, S, I>>(square_lanes, count, squares);
  }
  TENSORNORM_INLINE ShortSlice<A, S> operator[](Index i) const { return {pivots[i], S(sums[i]), squares[i]}; }
};

/// All are as ShortSlice::is_ordinary() asks; not where one of them might just be. kZerosToo: squares of 0 are, which zeros have, or too
/// small numbers.
template <class A, class T, bool kZerosToo, class V>
TENSORNORM_INLINE bool all_ordinary(Index n, bool centered, const V& pivot, const V& sum, const V& squares) {
  using S = typename V::Number;
  if constexpr (may_scale<A, T>) {  // first: squares of others might overflow, and their pivots be no numbers
    const V least(S(n) * S(SafeScale<A>::least));
    if (!(kZerosToo ? squares.or_where_zero(squares, least) : squares).is_within(least, V(S(SafeScale<A>::most)))) return false;
  } else {
    if (!(pivot - pivot).is_within(V(), V())) return false;
  }
  return !centered || (sum * sum).is_within(V(), squares * V(S(0.5) * S(n)));
}

/// Slices no longer than that may lie far from the pivot of all, as long as most do not: so few terms are added up in each sum of a block
/// that they are off by little where all roundings go one way. Doubles are added up in no wider type: of them none may.
template <class A>
inline constexpr Index kPlainSlice = 32 * virtual_width<A>;

/// Sums of several slices about one pivot: none waits for those before it to be merged, as in row_moments().
template <class A, class S, class I>
struct SliceSums {
  A pivot = A(0);
  S sum = S(0), rest = S(0);  ///< as SumArray has them
  FoldLanes<A, S, I> plain_sums, squares, squares_rest;
  Index count = 0;
  A better = A(0);  ///< where add() returns false: the slice's mean

  /// The pivot: the mean of the beginnings of some of the first slices, which lie `stride` apart.
  template <class T>
  TENSORNORM_INLINE void begin(const T* x, Index n, Index slices, Index stride, bool coarsely) {
    constexpr Index most = 4;  // every slice's costs a tenth of the time
    const Index begun = Index(std::bit_floor(std::size_t(std::min(slices, most))));
    const Beginning<A, I> beginning(n, begun);
    VirtualLanes<A, I> lanes;
    for (Index i = 0; i < begun; ++i) beginning.add(x + i * stride, lanes);
    pivot = lanes.sum();
    if (coarsely) pivot = coarse<A>(pivot, pivot - load_one<A>(x));
  }
  /// Not where the pivot is a bad one for this slice alone: the squares of one that hardly varies are all rounded the same way. Where S
  /// is no wider than A, no pivot is good that is more than half as far away.
  template <class T>
  TENSORNORM_INLINE bool add(const T* x, Index n, bool centered) {
    if constexpr (!keeps_rest<A, S>) {
      if (n <= kPlainSlice<A>) {
        add_plain(x, n);
        return true;
      }
    }
    S slice(0), slice_rest(0);
    FoldLanes<A, S, I> folded, folded_rest;
    for (Index i = 0; i < n; i += kBlock<A>) {
      const BlockTotals<A, S, I> block(x + i, std::min(kBlock<A>, n - i), pivot);
      accumulate<keeps_rest<A, S>>(slice, slice_rest, block.sum);
      accumulate<keeps_rest<A, S>>(folded, folded_rest, block.squares);
    }
    if (centered && is_bad_pivot(n, keeps_rest<A, S> ? S(slice + slice) : slice, folded.sum())) {
      better = static_cast<A>(S(pivot) + slice / S(n));
      return false;
    }
    accumulate<keeps_rest<A, S>>(sum, rest, slice);
    accumulate<keeps_rest<A, S>>(squares, squares_rest, folded);
    if constexpr (keeps_rest<A, S>) {
      rest = rest + slice_rest;
      squares_rest = squares_rest + folded_rest;
    }
    count += n;
    return true;
  }
  /// Adds them to the state; not where they need a scale, or another pivot.
  template <class T>
  TENSORNORM_INLINE bool merge_into(ScaledWelford<A, S>& state, bool centered) const {
    if (count == 0) return true;
    const S all_squares = squares.sum(), all = keeps_rest<A, S> ? sum : S(sum + plain_sums.sum());
    if (!is_finite(pivot) || scale_for<A, T>(count, pivot, all_squares) != A(1)) return false;
    if (centered && is_bad_pivot(count, all, all_squares)) return false;
    Welford<S> set(count, S(0), S(0), all_squares);
    if (centered) {
      if constexpr (keeps_rest<A, S>) set = Welford<S>::of_sums(count, S(pivot), all, rest, all_squares);
      else set = Welford<S>::of_sums(count, S(pivot), all, all_squares);
    }
    state.merge(set, S(1));
    return true;
  }

 private:
  template <class T>
  TENSORNORM_INLINE void add_plain(const T* x, Index n) {
    using L = VirtualLanes<A, I>;
    L lanes, square_lanes;
    block_sums<A, I>(x, n, pivot, lanes, square_lanes);
    const auto add = [](const L& from, FoldLanes<A, S, I>& to) TENSORNORM_INLINE_LAMBDA {
      A values[L::width];
      from.store(values);
      to = to + FoldLanes<A, S, I>::load(values);
    };
    add(lanes, plain_sums);
    add(square_lanes, squares);
    count += n;
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
