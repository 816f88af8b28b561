// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <tensornorm/kernels/dispatch.hpp>
#include <tensornorm/kernels/simd.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

// A few rows whose elements take turns, as those of a ColMajor matrix, and the same rows one after the other. Elements are moved, not changed.

/// Every other lane, from kFirst on.
template <int kFirst>
struct EveryOther {
  static constexpr int lane(int i) { return 2 * i + kFirst; }
};
/// The lanes of two vectors in turns: of their first halves, or of their last.
template <int kLanes, int kHalf>
struct InTurns {
  static constexpr int lane(int i) { return kHalf * kLanes / 2 + i / 2 + i % 2 * kLanes; }
};

template <int kFirst, class T, int kWidth, int kHardware>
TENSORNORM_INLINE Lanes<T, kWidth / 2, kHardware> every_other(const Lanes<T, kWidth, kHardware>& lanes) {
  if constexpr (kWidth == 2 * kHardware) return shuffled<EveryOther<kFirst>>(lanes.lo, lanes.hi);
  else return {every_other<kFirst>(lanes.lo), every_other<kFirst>(lanes.hi)};
}
template <class T, int kWidth, int kHardware>
TENSORNORM_INLINE Lanes<T, 2 * kWidth, kHardware> in_turns(const Lanes<T, kWidth, kHardware>& a, const Lanes<T, kWidth, kHardware>& b) {
  if constexpr (kWidth == kHardware) return {shuffled<InTurns<kWidth, 0>>(a, b), shuffled<InTurns<kWidth, 1>>(a, b)};
  else return {in_turns(a.lo, b.lo), in_turns(a.hi, b.hi)};
}

/// Rows at `rows`, `stride` apart, and the same numbers at `turns`: the first of each row, then the second of each. Moved in vectors, or, of
/// other numbers of rows, one by one.
template <class T>
struct InterleavedRows {
  using A = T;

  T* rows;
  Index stride;
  T* turns;
  Index count, length;
  bool to_rows;  ///< they are written; or else they are read

  /// Whether so many rows are moved in vectors.
  static constexpr bool moves_vectors(Index rows) { return rows == 2 || rows == 4 || rows == 8 || rows == 16; }

  template <class I>
  TENSORNORM_INLINE void operator()() const {
    if constexpr (virtual_width<T> > 1) {
      if (count == 2) return move<2, I>();
      if (count == 4) return move<4, I>();
      if (count == 8) return move<8, I>();
      if (count == 16) return move<16, I>();
    }
    move_numbers(rows, turns, count, 0);
  }

 private:
  template <int kCount, class I>
  TENSORNORM_INLINE void move() const {
    constexpr int w = hardware_width<T, I>;
    T *const of_rows = rows, *const in_turns = turns;  // stores might change the members
    const Index step = stride, n = length;
    using All = Lanes<T, kCount * w, w>;
    Index i = 0;
    if (to_rows)
      for (; i + w <= n; i += w) take_apart<kCount>(All::load(in_turns + i * kCount), of_rows + i, step);
    else
      for (; i + w <= n; i += w) put_together<kCount, w>(of_rows + i, step).store(in_turns + i * kCount);
    move_numbers(of_rows, in_turns, kCount, i);
  }
  /// Those from `first` on of each row; by memcpy, as the caller's may lie at any address.
  TENSORNORM_INLINE void move_numbers(T* of_rows, T* in_turns, Index numbers, Index first) const {
    const Index step = stride, n = length;
    const bool forth = to_rows;
    for (Index i = first; i < n; ++i)
      for (Index k = 0; k < numbers; ++k) {
        T *const of_row = of_rows + k * step + i, *const in_turn = in_turns + i * numbers + k;
        std::memcpy(forth ? of_row : in_turn, forth ? in_turn : of_row, sizeof(T));
      }
  }

  /// Vectors of kCount rows in turns, the first at `row`, from each to the next `step`.
  template <int kCount, class L>
  TENSORNORM_INLINE static void take_apart(const L& lanes, T* row, Index step) {
    if constexpr (kCount == 1) {
      lanes.store(row);
    } else {
      take_apart<kCount / 2>(every_other<0>(lanes), row, 2 * step);
      take_apart<kCount / 2>(every_other<1>(lanes), row + step, 2 * step);
    }
  }
  template <int kCount, int kLanes>
  TENSORNORM_INLINE static Lanes<T, kCount * kLanes, kLanes> put_together(const T* row, Index step) {
    if constexpr (kCount == 1) return Lanes<T, kLanes, kLanes>::load(row);
    else return in_turns(put_together<kCount / 2, kLanes>(row, 2 * step), put_together<kCount / 2, kLanes>(row + step, 2 * step));
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
