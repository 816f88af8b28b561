// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/kernels/simd.hpp>
#include <tensornorm/kernels/welford.hpp>

namespace tensornorm::kernels {

/// Elements a lane adds in its own type before the sum is folded into the statistic's: 8 per lane and accumulator.
template <class A>
inline constexpr Index kBlock = 32 * virtual_width<A>;
/// Elements that share a pivot: a chunk fits the L1 cache, so a bad pivot is redone from there.
inline constexpr Index kChunk = 4096;
/// Rows added in the accumulator's type before a column's sums are folded.
inline constexpr Index kTileRows = 16;

inline namespace TENSORNORM_ABI {

/// sum = sum of (x - pivot), squares = sum of (x - pivot)^2.
template <class S>
struct PivotSums {
  S sum = S(0), squares = S(0);
};

/// The pivot was more than a standard deviation from the mean: the sums lose digits and are worth taking again.
template <class S>
TENSORNORM_INLINE bool is_bad_pivot(Index count, S sum, S squares) {
  return sum * sum > S(0.5) * S(count) * squares;
}

/// Sums of one block of at most kBlock elements, per virtual lane.
///
/// Swept once per hardware vector of the virtual lanes: eight accumulators of one register each never spill.
template <class A, class I, class T>
TENSORNORM_INLINE void block_sums(const T* x, Index n, A pivot, VirtualLanes<A, I>& sum, VirtualLanes<A, I>& squares) {
  using L = VirtualLanes<A, I>;
  using H = HardwareLanes<A, I>;
  constexpr int w = L::width;
  const Index full = n / w * w;
  A sums[w], square_sums[w];
  const H p(pivot);
  for (int q = 0; q < w; q += H::width) {
    H a, b, c, d, e, f, g, h;
    Index i = q;
    for (; i + 3 * w < full; i += 4 * w) {
      const H s = H::load(x + i) - p, t = H::load(x + i + w) - p, u = H::load(x + i + 2 * w) - p, v = H::load(x + i + 3 * w) - p;
      a = a + s;
      e.fma(s, s);
      b = b + t;
      f.fma(t, t);
      c = c + u;
      g.fma(u, u);
      d = d + v;
      h.fma(v, v);
    }
    for (; i < full; i += w) {
      const H s = H::load(x + i) - p;
      a = a + s;
      e.fma(s, s);
    }
    const H lane_sum = (a + b) + (c + d), lane_squares = (e + f) + (g + h);
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

/// Sums of one chunk about one pivot: the plain sum by a tree per block, the squares by lanes of S, both folded block by block.
///
/// With `repivot` a bad pivot is replaced by a better one and the chunk taken once more, from the L1 cache.
template <class A, class S, class I, class T>
TENSORNORM_INLINE PivotSums<S> chunk_sums(const T* x, Index n, A& pivot, bool repivot) {
  using L = VirtualLanes<A, I>;
  for (;;) {
    PivotSums<S> total;
    FoldLanes<A, S, I> folded;
    for (Index i = 0; i < n; i += kBlock<A>) {
      L sum, squares;
      block_sums<A, I>(x + i, std::min(kBlock<A>, n - i), pivot, sum, squares);
      total.sum = total.sum + S(sum.sum());
      A lanes[L::width];
      squares.store(lanes);
      folded = folded + FoldLanes<A, S, I>::load(lanes);
    }
    total.squares = folded.sum();
    if (!repivot || !is_bad_pivot(n, total.sum, total.squares)) return total;
    pivot = static_cast<A>(S(pivot) + total.sum / S(n));
    repivot = false;
  }
}

/// The mean of the first vector of elements: close to the mean of what follows, and exactly c where all of them are c.
template <class A, class I, class T>
TENSORNORM_INLINE A first_pivot(const T* x, Index n) {
  using L = VirtualLanes<A, I>;
  const L first = n >= L::width ? L::load(x) : load_few<L, A>(x, n, load_one<A>(x));
  return first.sum() * A(1.0 / L::width);
}

/// Row kernel: adds n contiguous elements to the state, in one read: sums about a pivot, merged in S.
///
/// Not centered: the sums are taken about 0, and the state's m2 becomes the sum of squares.
template <class A, class S, class I, class T>
TENSORNORM_INLINE void row_moments(const T* x, Index n, bool centered, Welford<S>& state) {
  for (Index i = 0; i < n; i += kChunk) {
    const Index k = std::min(kChunk, n - i);
    A pivot = !centered ? A(0) : state.count() > 0 ? static_cast<A>(state.mean()) : first_pivot<A, I>(x + i, k);
    PivotSums<S> sums = chunk_sums<A, S, I>(x + i, k, pivot, centered);
    if (centered) state.merge_sums(k, S(pivot), sums.sum, sums.squares);
    else state = Welford<S>(state.count() + k, S(0), S(0), state.m2() + sums.squares);
  }
}

/// Adds up to kTileRows rows of `kVectors` neighbouring vectors of columns to the sums of S.
template <int kVectors, class A, class S, class I, class T>
TENSORNORM_INLINE void add_tile(const T* x, Index rows, Index row_stride, const A* pivot, S* sum, S* squares, int first_lane) {
  using H = HardwareLanes<A, I>;
  using F = Lanes<S, H::width, hardware_width<S, I>>;
  H s0, q0, s1, q1, s2, q2, s3, q3;
  const H p0 = H::load(pivot), p1 = H::load(pivot + (kVectors > 1 ? H::width : 0));
  Index r = 0;
  for (; r + 2 <= rows; r += 2) {
    const T* a = x + r * row_stride;
    const T* b = a + row_stride;
    const H d0 = H::load(a) - p0, d2 = H::load(b) - p0;
    s0 = s0 + d0;
    q0.fma(d0, d0);
    s2 = s2 + d2;
    q2.fma(d2, d2);
    if constexpr (kVectors > 1) {
      const H d1 = H::load(a + H::width) - p1, d3 = H::load(b + H::width) - p1;
      s1 = s1 + d1;
      q1.fma(d1, d1);
      s3 = s3 + d3;
      q3.fma(d3, d3);
    }
  }
  if (r < rows) {
    const T* a = x + r * row_stride;
    const H d0 = H::load(a) - p0;
    s0 = s0 + d0;
    q0.fma(d0, d0);
    if constexpr (kVectors > 1) {
      const H d1 = H::load(a + H::width) - p1;
      s1 = s1 + d1;
      q1.fma(d1, d1);
    }
  }
  const auto fold = [&](const H& lanes, S* to) TENSORNORM_INLINE_LAMBDA {
    A values[H::width];
    lanes.store(values);
    (F::load(to) + F::load(values)).store(to);
  };
  if constexpr (kVectors == 1) {
    fold((s0 + s2).zero_below(first_lane), sum);
    fold((q0 + q2).zero_below(first_lane), squares);
  } else {
    fold(s0 + s2, sum);
    fold(q0 + q2, squares);
    fold(s1 + s3, sum + H::width);
    fold(q1 + q3, squares + H::width);
  }
}

template <class A, class S, class T>
void narrow_column_moments(const T* x, Index rows, Index row_stride, Index width, const A* pivot, S* sum, S* squares);

/// Column kernel: for each of `width` columns adds, over the rows, (x - pivot[c]) to sum[c] and its square to squares[c].
///
/// A tile of kTileRows rows is added in A and folded into S. Columns do not see each other: their bits do not depend on width.
template <class A, class S, class I, class T>
TENSORNORM_INLINE void column_moments(const T* x, Index rows, Index row_stride, Index width, const A* pivot, S* sum, S* squares) {
  constexpr Index w = HardwareLanes<A, I>::width;
  if (width < w) return narrow_column_moments(x, rows, row_stride, width, pivot, sum, squares);
  for (Index first = 0; first < rows; first += kTileRows) {
    const T* tile = x + first * row_stride;
    const Index k = std::min(kTileRows, rows - first);
    Index c = 0;
    for (; c + 2 * w <= width; c += 2 * w) add_tile<2, A, S, I>(tile + c, k, row_stride, pivot + c, sum + c, squares + c, 0);
    for (; c < width; c += w) {
      const Index at = std::min(c, width - w);  // the last vector overlaps the one before it
      add_tile<1, A, S, I>(tile + at, k, row_stride, pivot + at, sum + at, squares + at, int(c - at));
    }
  }
}

/// column_moments of fewer columns than a vector has lanes: one lane at a time, the same additions in the same order.
template <class A, class S, class T>
void narrow_column_moments(const T* x, Index rows, Index row_stride, Index width, const A* pivot, S* sum, S* squares) {
  for (Index first = 0; first < rows; first += kTileRows) {
    const Index k = std::min(kTileRows, rows - first);
    for (Index c = 0; c < width; ++c) {
      A even = A(0), odd = A(0), even_squares = A(0), odd_squares = A(0);
      for (Index r = 0; r < k; ++r) {
        const A d = load_one<A>(x + (first + r) * row_stride + c) - pivot[c];
        A& s = r % 2 == 0 ? even : odd;
        A& q = r % 2 == 0 ? even_squares : odd_squares;
        s = s + d;
        q = fused<A>(d, d, q);
      }
      sum[c] = sum[c] + S(even + odd);
      squares[c] = squares[c] + S(even_squares + odd_squares);
    }
  }
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
