// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <type_traits>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/kernels/scale.hpp>
#include <tensornorm/kernels/welford.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// sum = sum of (x - pivot), squares = sum of (x - pivot)^2. Where the pivot is 0 because nothing is centered, there is no sum.
template <class S>
struct PivotSums {
  S sum = S(0), squares = S(0);
};

/// Elements whose mean is the pivot of a row.
inline constexpr Index kPivotElements = 16;
/// Where a pivot's distance from the mean makes more than this share of the squares, half of them at a standard deviation, the sums lose digits
/// and are worth taking again.
inline constexpr double kPivotShare = 0.5;
/// The same at 0.7 deviations.
inline constexpr double kNearPivotShare = 1.0 / 3;

template <class S>
TENSORNORM_INLINE bool is_bad_pivot(Index count, S sum, S squares, double share = kPivotShare) {
  return sum * sum > S(share) * S(count) * squares;
}

/// The share in a row of n elements. The lesser one where S is no wider than A; not of so few elements that as far a pivot is
/// nothing rare: rows are taken together, and one that is summed again holds up all of them.
template <class A, class S>
TENSORNORM_INLINE double row_pivot_share(Index n) {
  return keeps_rest<A, S> && n >= kPivotElements ? kNearPivotShare : kPivotShare;
}

/// Sums of one block of at most kBlock elements, per virtual lane.
///
/// Swept once per hardware vector of the virtual lanes. Squares go to eight sums, of four each at most: equal ones are all rounded the same way,
/// as are equal small ones beside a large one, which costs more the longer a sum is. Numbers go to two, in pairs: so 16 registers nearly hold
/// all sums. Where nothing is `centered`, the pivot is 0, and `sum` is not to be used.
template <class A, class I, class T>
TENSORNORM_INLINE void block_sums(const T* x, Index n, A pivot, bool centered, VirtualLanes<A, I>& sum, VirtualLanes<A, I>& squares) {
  using L = VirtualLanes<A, I>;
  using H = HardwareLanes<A, I>;
  constexpr int w = L::width;
  const Index full = n / w * w;
  A sums[std::size_t(w)], square_sums[std::size_t(w)];
  const H p(pivot);
  for (int q = 0; q < w; q += H::width) {
    H even, odd, a, b, c, d, e, f, g, h;
    Index i = q;
    const auto sweep = [&](auto is_centered) TENSORNORM_INLINE_LAMBDA {
      constexpr bool kCentered = decltype(is_centered)::value;
      const auto difference = [&]() TENSORNORM_INLINE_LAMBDA {
        const H s = H::load(x + i);
        i += w;
        if constexpr (kCentered) return s - p;
        else return s;
      };
      const auto add_one = [&](H& plain, H& square) TENSORNORM_INLINE_LAMBDA {
        const H s = difference();
        if constexpr (kCentered) plain = plain + s;
        square.fma(s, s);
      };
      const auto add_two = [&](H& plain, H& first_square, H& second_square) TENSORNORM_INLINE_LAMBDA {
        const H s = difference(), t = difference();
        if constexpr (kCentered) plain = plain + (s + t);
        first_square.fma(s, s);
        second_square.fma(t, t);
      };
      while (i + 7 * w < full) {
        add_two(even, a, b);
        add_two(odd, c, d);
        add_two(even, e, f);
        add_two(odd, g, h);
      }
      if (i + 3 * w < full) {
        add_two(even, a, b);
        add_two(odd, c, d);
      }
      if (i < full) add_one(even, e);  // three at most
      if (i < full) add_one(odd, f);
      if (i < full) add_one(even, g);
    };
    if (centered) sweep(std::true_type());
    else sweep(std::false_type());
    H lane_sum = even + odd, lane_squares = ((a + b) + (c + d)) + ((e + f) + (g + h));
    if constexpr (H::width == w) {
      sum = lane_sum;
      squares = lane_squares;
    } else {
      lane_sum.store(sums + q);
      lane_squares.store(square_sums + q);
    }
  }
  if constexpr (H::width < w) {
    sum = L::load(sums);
    squares = L::load(square_sums);
  }
  if (full < n) {
    // The last w elements once more, those already counted masked out; a slice shorter than that is filled up with the pivot.
    const L s = n >= w ? (L::load(x + n - w) - L(pivot)).zero_below(w - int(n - full)) : load_few<L, A>(x, n, pivot) - L(pivot);
    sum = sum + s;
    squares.fma(s, s);
  }
}

/// block_sums() of a vector at most, without its loops: the same bits of what is to be used.
template <class A, class I, class T>
TENSORNORM_INLINE void vector_sums(const T* x, Index n, A pivot, VirtualLanes<A, I>& sum, VirtualLanes<A, I>& squares) {
  using L = VirtualLanes<A, I>;
  const L s = (n == L::width ? L::load(x) : load_few<L, A>(x, n, pivot)) - L(pivot);
  sum = L() + s;
  squares = L();
  squares.fma(s, s);
}

/// Whether all n elements are the pivot, given that their squares add up to 0: those of small differences do as well.
template <class A, class I, class T>
TENSORNORM_INLINE bool all_equal([[maybe_unused]] const T* x, [[maybe_unused]] Index n, [[maybe_unused]] A pivot) {
  if constexpr (may_scale<A, T>) {
    if (!tells_apart(pivot)) return false;
    using H = HardwareLanes<A, I>;
    const H p(pivot), up(SafeScale<A>::up);
    H squares;
    const auto add = [&](const H& values) TENSORNORM_INLINE_LAMBDA {
      const H difference = (values - p) * up;
      squares.fma(difference, difference);
    };
    Index i = 0;
    for (; i + H::width <= n; i += H::width) add(H::load(x + i));
    if (i < n) add(load_few<H, A>(x + i, n - i, pivot));
    return squares.sum() == A(0);
  } else {
    return false;
  }
}

/// Lanes of A in S.
template <class A, class S, class I>
TENSORNORM_INLINE FoldLanes<A, S, I> folded_lanes(const VirtualLanes<A, I>& lanes) {
  A values[VirtualLanes<A, I>::width];
  lanes.store(values);
  return FoldLanes<A, S, I>::load(values);
}

/// Sums of one block in S: the plain sum, by a tree, and the squares by lanes. `alone`: x is all of a call.
/// A vector at most then has a way of its own; with it, rows among others would take up to 1.05 times as long.
template <class A, class S, class I>
struct BlockTotals {
  S sum;
  FoldLanes<A, S, I> squares;

  template <class T>
  TENSORNORM_INLINE BlockTotals(const T* x, Index n, A pivot, bool centered, bool alone = false) {
    using L = VirtualLanes<A, I>;
    L block_sum, block_squares;
    if (alone && n <= L::width) vector_sums<A, I>(x, n, pivot, block_sum, block_squares);
    else block_sums<A, I>(x, n, pivot, centered, block_sum, block_squares);
    sum = S(block_sum.sum());
    squares = folded_lanes<A, S, I>(block_squares);
  }
};

/// Sums of one chunk of x * scale about one pivot, folded block by block.
///
/// Elements too large or too small to be squared are taken once more with a scale, which the pivot is then in, and where they are `centered`
/// a bad pivot is replaced by a better one: from the L1 cache.
template <class A, class S, class I, class T>
TENSORNORM_INLINE PivotSums<S> chunk_sums(const T* x, Index n, A& pivot, A& scale, bool centered) {
  bool repivot = centered;
  for (;;) {
    PivotSums<S> total;
    FoldLanes<A, S, I> folded, rest;
    ScaledBlock<A, T> copy;
    for (Index i = 0; i < n; i += kBlock<A>) {
      const Index k = std::min(kBlock<A>, n - i);
      const BlockTotals<A, S, I> block(scale == A(1) ? x + i : copy.fill(x + i, k, scale), k, pivot, centered);
      total.sum = total.sum + block.sum;
      if constexpr (kRegistersHoldMore) reload(total.sum);  // as BlockedSums, which keeps it in memory
      if (i == 0) folded = block.squares;
      else accumulate<keeps_rest<A, S>>(folded, rest, block.squares);
    }
    total.squares = folded.sum();
    const A wanted = scale == A(1) ? scale_for<A, T>(n, pivot, total.squares) : A(1);
    if (wanted != A(1)) {
      // Zeros, say, are ordinary. A state in A itself needs the scale to merge them with others.
      if constexpr (!std::is_same_v<A, S>)
        if (total.squares == S(0) && all_equal<A, I>(x, n, pivot)) return total;
      scale = wanted;
      pivot = pivot * scale;
      continue;
    }
    if (!repivot || !is_bad_pivot(n, total.sum, total.squares, row_pivot_share<A, S>(n))) return total;
    const S shift = total.sum / S(n);
    pivot = static_cast<A>(S(pivot) + shift);
    if constexpr (kRegistersHoldMore) reload(pivot);
    if (n >= kChunk) pivot = coarse(pivot, static_cast<A>(shift));
    repivot = false;
  }
}

/// The first kPivotElements of n elements, or a power of two of fewer: the beginnings of `slices` slices, as many as that again, add up to a
/// mean. Vectors of one slice are added as a tree: of equal elements each sum is exact.
template <class A, class I>
struct Beginning {
  using L = VirtualLanes<A, I>;
  static constexpr Index kVectors = kPivotElements / L::width;
  Index count;
  A share;  ///< of each element: their sum might overflow

  TENSORNORM_INLINE Beginning(Index n, Index slices)
      : count(n >= kPivotElements ? kPivotElements : Index(std::bit_floor(std::size_t(n)))), share(A(1) / A(kPivotElements)) {
    if (count * slices != kPivotElements) share = A(1) / A(count * slices);
  }
  template <class T>
  TENSORNORM_INLINE void add(const T* x, L& to) const {
    if (kVectors == 1 || count <= L::width) return to.fma(count >= L::width ? L::load(x) : load_few<L, A>(x, count), L(share));
    L parts[std::size_t(kVectors)];
    const Index vectors = count / L::width;
    for (Index k = 0; k < vectors; ++k) parts[k].fma(L::load(x + k * L::width), L(share));
    for (Index half = vectors / 2; half > 0; half /= 2)
      for (Index k = 0; k < half; ++k) parts[k] = parts[k] + parts[k + half];
    to = to + parts[0];
  }
};
/// The mean of the beginning of a row: close to the mean of what follows, and exactly c where all of them are c.
template <class A, class I, class T>
TENSORNORM_INLINE A first_pivot(const T* x, Index n) {
  VirtualLanes<A, I> lanes;
  Beginning<A, I>(n, 1).add(x, lanes);
  return lanes.sum();
}

/// Adds at most kChunk elements to the state, summed about `pivot`, or a better one. `pivot`: 0 where it is not centered.
template <class A, class S, class I, class T>
TENSORNORM_INLINE void chunk_moments(const T* x, Index n, bool centered, A pivot, ScaledWelford<A, S>& to) {
  A scale = A(1);
  if (centered && to.state.count() + n >= kChunk) pivot = coarse<A>(pivot, pivot - load_one<A>(x));
  if (!is_finite(pivot)) pivot = A(0);  // so that an infinite element is the only one
  const PivotSums<S> sums = chunk_sums<A, S, I>(x, n, pivot, scale, centered);
  Welford<S> block(n, S(0), S(0), sums.squares);
  if (centered) block = Welford<S>::of_sums(n, S(pivot), sums.sum, sums.squares);
  to.merge(block, S(scale));
}

/// Row kernel: adds n contiguous elements to the state, in one read: sums about a pivot, merged in S.
///
/// Not centered: the sums are taken about 0, and the state's m2 becomes the sum of squares.
template <class A, class S, class I, class T>
TENSORNORM_INLINE void row_moments(const T* x, Index n, bool centered, ScaledWelford<A, S>& to) {
  for (Index i = 0; i < n; i += kChunk) {
    const Index k = std::min(kChunk, n - i);
    const A pivot = !centered ? A(0) : to.state.count() > 0 ? static_cast<A>(to.mean()) : first_pivot<A, I>(x + i, k);
    chunk_moments<A, S, I>(x + i, k, centered, pivot, to);
  }
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
