// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <new>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/kernels/welford.hpp>

namespace tensornorm::kernels {

/// Elements that share a pivot: a chunk fits the L1 cache, so a bad pivot is redone from there.
inline constexpr Index kChunk = 4096;
/// Elements a lane adds in its own type before the sum is folded into the statistic's: 8 per lane and accumulator.
template <class A>
inline constexpr Index kBlock = 32 * virtual_width<A>;

/// Powers of two for numbers whose squares leave A: numbers times `down`, or `up`, can be squared and added up.
///
/// A statistic whose sum of squares is above `most`, or on average below `least`, is taken once more that way, from a copy of its
/// elements a block at a time: the same kernels, and nothing that ordinary data pay for.
template <class A>
struct SafeScale {
  static constexpr bool needed = false;  // long double and users' types
};
template <>
struct SafeScale<float> {
  static constexpr bool needed = true;
  static constexpr float down = 0x1p-96F, up = 0x1p90F;
  static constexpr double least = 0x1p-100, most = 0x1p120;
  static constexpr float largest_pivot = std::numeric_limits<float>::max();  // means are merged in double
  static constexpr double coefficient = 0x1p100, gradient = 0x1p40;
};
template <>
struct SafeScale<double> {
  static constexpr bool needed = true;
  static constexpr double down = 0x1p-544, up = 0x1p700;
  static constexpr double least = 0x1p-960, most = 0x1p880;
  static constexpr double largest_pivot = 0x1p480;
  static constexpr double coefficient = 0x1p480, gradient = 0x1p300;
};

/// Elements of type T can need scaling: not so the 16-bit type whose squares fit float.
template <class A, class T>
inline constexpr bool may_scale = SafeScale<A>::needed && (std::numeric_limits<T>::max_exponent > 64);

inline namespace TENSORNORM_ABI {

template <class S>
TENSORNORM_INLINE S magnitude(S x) {
  return x < S(0) ? S(0) - x : x;
}

/// A difference from the pivot is 0 only of what is equal to it, also where small numbers are flushed to 0.
template <class A>
TENSORNORM_INLINE bool tells_apart(A pivot) {
  return pivot == A(0) || magnitude(pivot) >= 2 * std::numeric_limits<A>::min() / std::numeric_limits<A>::epsilon();
}

/// scale_for() once the sum of squares is known to be no ordinary one.
///
/// A pivot of 1 or more so close to all elements is equal to them, and stays: multiplied with `up` it might overflow.
template <class A, class S>
TENSORNORM_RARE A unusual_scale(S smallest, A pivot, S squares) {
  if (squares > S(SafeScale<A>::most) || magnitude(pivot) > SafeScale<A>::largest_pivot) return SafeScale<A>::down;
  return squares < smallest && magnitude(pivot) < A(1) ? SafeScale<A>::up : A(1);
}

/// The factor with which n elements must be taken whose squared distances to the pivot add up to this; 1 for ordinary ones.
template <class A, class T, class S>
TENSORNORM_INLINE A scale_for([[maybe_unused]] Index n, [[maybe_unused]] A pivot, [[maybe_unused]] S squares) {
  if constexpr (may_scale<A, T>) {
    const S smallest = S(n) * S(SafeScale<A>::least);
    if (!(squares >= smallest && squares <= S(SafeScale<A>::most))) return unusual_scale<A>(smallest, pivot, squares);
  }
  return A(1);
}

/// The factor of x for gradients, in which rstd^3 occurs: the power of two next to rstd where that is far from 1.
///
/// Elements about a mean of 1 or more with so large an rstd are equal to it, and their gradients 0 at any scale.
template <class A, class S>
TENSORNORM_RARE A far_gradient_scale(S mean, S rstd) {
  using std::frexp;
  using std::ldexp;
  if (!(rstd > S(0)) || !is_finite(rstd) || (rstd > S(1) && !(magnitude(mean) < S(1)))) return A(1);
  // Nothing smaller than rstd itself: x * factor is about 1 then, and the coefficient it meets no more denormal than it has to be.
  constexpr int least = std::numeric_limits<A>::min_exponent - 1, most = std::numeric_limits<A>::max_exponent - 8;
  int exponent = 0;
  frexp(rstd, &exponent);
  return ldexp(A(1), std::clamp(exponent, least, most));
}
template <class A, class T, class S>
TENSORNORM_INLINE A gradient_scale([[maybe_unused]] S mean, [[maybe_unused]] S rstd) {
  if constexpr (may_scale<A, T>) {
    using Safe = SafeScale<A>;
    if (!(rstd >= S(1 / Safe::gradient) && rstd <= S(Safe::gradient))) return far_gradient_scale<A>(mean, rstd);
  }
  return A(1);
}

/// A number to subtract from kChunk others or more: x, rounded to half of the digits beside `spread`, about how far they are from it.
///
/// Differences to a number with digits beyond theirs are all rounded the same way, and in the sum of millions that shows.
template <class A>
TENSORNORM_INLINE A coarse(A x, [[maybe_unused]] A spread) {
  if constexpr (SafeScale<A>::needed) {
    const auto in_type = [](A value) TENSORNORM_INLINE_LAMBDA {
      if constexpr (kRegistersHoldMore) reload(value);
      return value;
    };
    const A grid = in_type(spread * A(std::is_same_v<A, float> ? 0x1p11 : 0x1p23)), rounded = in_type(in_type(x + grid) - grid);
    return is_finite(rounded) ? rounded : x;
  } else {
    return x;
  }
}

/// Room for the scaled copy of a block of elements; none for types that are never scaled.
template <class A, class T>
struct ScaledBlock {
  static constexpr Index size = may_scale<A, T> ? kBlock<A> : 1;
  alignas(T) std::byte memory[std::size_t(size) * sizeof(T)];  // bytes: elements might set themselves to 0, a kilobyte for every run

  /// x[i] * scale, n <= size of them.
  TENSORNORM_RARE const T* fill(const T* x, Index n, A scale) {
    for (Index i = 0; i < n; ++i) put(i, load_one<A>(x + i) * scale);
    return values();
  }
  /// x[c] * scale[c] for rows of `width` columns, which then follow each other.
  TENSORNORM_RARE const T* fill(const T* x, Index rows, Index row_stride, Index width, const A* scale) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < width; ++c) put(r * width + c, load_one<A>(x + r * row_stride + c) * scale[c]);
    return values();
  }

 private:
  void put(Index i, A value) { ::new (static_cast<void*>(memory + std::size_t(i) * sizeof(T))) T(static_cast<T>(value)); }
  const T* values() const { return std::launder(reinterpret_cast<const T*>(memory)); }
};

/// A Welford state of x * scale. Where S is wider than A it holds all squares, and scale stays 1.
template <class A, class S>
struct ScaledWelford {
  Welford<S> state;
  S scale = S(1);

  /// Adds a set of x * block_scale; what is smaller goes along in the scale of the larger.
  TENSORNORM_INLINE void merge(const Welford<S>& block, S block_scale) {
    if (scale == S(1) && block_scale == S(1)) state.merge(block);
    else *this = merged(*this, block, block_scale);
  }
  /// The mean of x itself.
  TENSORNORM_INLINE S mean() const { return scale == S(1) ? state.mean() : state.mean() / scale; }
  /// The state of x * to.
  void set_scale(S to) {
    if (state.count() > 0) state = state.scaled(to / scale);
    scale = to;
  }

 private:
  /// By value: a state whose address is taken lives in memory, where each use waits for the last.
  TENSORNORM_RARE static ScaledWelford merged(ScaledWelford m, Welford<S> block, S block_scale) {
    S common = !std::is_same_v<A, S> ? S(1) : m.state.count() == 0 || block_scale < m.scale ? block_scale : m.scale;
    // Of sets of equal numbers each may ask for a scale in which the distance between them cannot be squared.
    if constexpr (SafeScale<A>::needed)
      if (common > S(1) && m.state.count() > 0) {
        const S distance = (block.mean() / block_scale - m.mean()) * common;
        if (magnitude(distance) > S(SafeScale<A>::largest_pivot)) common = S(1);
      }
    m.set_scale(common);
    m.state.merge(block.scaled(common / block_scale));
    return m;
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
