// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/kernels/sums.hpp>
#include <utility>

namespace tensornorm::kernels {

/// Rows added in the accumulator's type before a column's sums are folded.
inline constexpr Index kTileRows = 16;

inline namespace TENSORNORM_ABI {

/// Sums of a tile of rows, in the accumulator's type, one per column, before they are folded into S. Padded to whole vectors.
template <class A>
struct TileSums {
  A *plain, *centered;
  TENSORNORM_INLINE TileSums from(Index column) const { return {plain + column, centered + column}; }
};

/// Folds the sums of a tile into those of S and sets them to 0; where S is no wider than A, to what rounding took from them. A null
/// array has none.
template <class A, class S, class I>
TENSORNORM_INLINE void fold_tile(const TileSums<A>& tile, Index width, S* plain, S* centered) {
  using H = HardwareLanes<A, I>;
  using F = Lanes<S, H::width, hardware_width<S, I>>;
  const auto fold = [&](A* from, S* to) TENSORNORM_INLINE_LAMBDA {
    for (Index c = 0; c < width; c += H::width) {
      F sum = F::load(to + c), rest = F::load(from + c);
      if constexpr (keeps_rest<A, S>) {
        settle(sum, rest);
        rest.store(from + c);
      } else {
        sum = sum + rest;
        H().store(from + c);
      }
      sum.store(to + c);
    }
  };
  fold(tile.plain, plain);
  if (tile.centered != nullptr) fold(tile.centered, centered);
}

/// Rows that a sweep takes together, all operands counted, where it is not said otherwise; it reads and writes a column's sums once for
/// all of them. Rows are often pages apart, and at 16 of them the lines in which they are read push each other out of the L1 cache.
inline constexpr Index kSweepStreams = 8;
template <Index kOperands>
inline constexpr Index kSweepRows = kSweepStreams / kOperands;

/// The terms of a few rows in two sums and in four, by the number of the row: what equal numbers lose grows with the length of a sum.
/// (In arrays g++ leaves them in memory.)
template <class H>
struct RowSums {
  H even, odd, first, second, third, fourth;

  template <Index k, class Load, class Term>
  TENSORNORM_INLINE void add(Index row, Index c, const Load& load, const Term& term) {
    add_term<k>([&](H& p, H& q) TENSORNORM_INLINE_LAMBDA { term(row, c, load, p, q); });
  }
  /// add(p, q): adds the terms of the k-th row, or of another as many fours of rows on, to two of the sums.
  template <Index k, class Add>
  TENSORNORM_INLINE void add_term(const Add& add) {
    add(k % 2 == 0 ? even : odd, k % 4 == 0 ? first : k % 4 == 1 ? second : k % 4 == 2 ? third : fourth);
  }
  TENSORNORM_INLINE void add_to(H& p, H& q) const {
    p = p + (even + odd);
    q = q + ((first + second) + (third + fourth));
  }
};

/// p += and q += the terms of the rows from `first` on of columns; kShort: in RowSums.
template <bool kShort, class H, class Load, class Term>
TENSORNORM_INLINE void add_rows(Index first, Index rows, Index c, const Load& load, const Term& term, H& p, H& q) {
  if constexpr (kShort) {
    RowSums<H> sums;
    for (Index k = 0; k < rows; k += 4) {
      sums.template add<0>(first + k, c, load, term);
      if (k + 1 < rows) sums.template add<1>(first + k + 1, c, load, term);
      if (k + 2 < rows) sums.template add<2>(first + k + 2, c, load, term);
      if (k + 3 < rows) sums.template add<3>(first + k + 3, c, load, term);
    }
    sums.add_to(p, q);
  } else {
    for (Index k = 0; k < rows; ++k) term(first + k, c, load, p, q);
  }
}

/// The same for as many rows as the sequence has, without a loop.
template <bool kShort, Index... k, class H, class Load, class Term>
TENSORNORM_INLINE void add_rows(Index first, std::integer_sequence<Index, k...>, Index c, const Load& load, const Term& term, H& p, H& q) {
  if constexpr (kShort) {
    RowSums<H> sums;
    (sums.template add<k>(first + k, c, load, term), ...);
    sums.add_to(p, q);
  } else {
    (term(first + k, c, load, p, q), ...);
  }
}

/// Column kernel: for each of `width` columns adds, over the rows, plain[c] += p and centered[c] += q with (p, q) = term(row, c).
///
/// Memory is walked a few rows at a time, in its order, in vectors H; a term must be 0 in lanes its loader fills up. A tile of kTileRows
/// rows is added in A and folded into S. Columns do not see each other: their bits do not depend on width. `tile` is 0 before the first
/// call for its columns, and keeps their rests from call to call; vectors are whole where it is aligned, and the columns before and after
/// those are parts of others.
///
/// kRows: rows of a sweep. kShort: as add_rows() has it. kUnrolled: whole sweeps are added without a loop; not where rests are kept: there it
/// is slower.
template <class H, Index kRows, bool kShort, bool kUnrolled, class A, class S, class I, class Term>
TENSORNORM_INLINE void add_columns(Index rows, Index width, const Term& term, const TileSums<A>& tile, S* plain, S* centered) {
  constexpr Index w = H::width;
  constexpr auto all = [] {
    if constexpr (kUnrolled && !keeps_rest<A, S>) return std::make_integer_sequence<Index, kRows>();
    else return kRows;
  }();
  const Index head = width < w ? 0 : elements_to_alignment(tile.plain, w), left = (width - head) % w;
  struct Part {
    Index column, first, count;  // lanes
  } const parts[] = {{std::max<Index>(width - w, 0), width < w ? 0 : w - left, left}, {0, 0, head}};
  for (Index first = 0; first < rows; first += kTileRows) {
    const Index end = std::min(rows, first + kTileRows);
    for (Index r = first; r < end; r += kRows) {
      const Index count = std::min(kRows, end - r);
      const auto add = [&](Index c, const auto& load, const auto& those, const auto& store) TENSORNORM_INLINE_LAMBDA {
        H p = H::load(tile.plain + c), q = H::load(tile.centered + c);
        add_rows<kShort>(r, those, c, load, term, p, q);
        store(p, tile.plain + c);
        store(q, tile.centered + c);
      };
      const auto store = [](const H& sums, A* to) TENSORNORM_INLINE_LAMBDA { sums.store(to); };
      const Index whole_end = width - left;
      if (count == kRows)
        for (Index c = head; c < whole_end; c += w) add(c, WholeLoader<H>{}, all, store);
      else
        for (Index c = head; c < whole_end; c += w) add(c, WholeLoader<H>{}, count, store);
      for (const Part& part : parts) {
        if (part.count == 0) continue;
        const auto store_part = [&](const H& sums, A* to) TENSORNORM_INLINE_LAMBDA { store_few(sums, to + part.first, part.count, part.first); };
        if (width < w) add(part.column, FewLoader<H, A>{width}, count, store);
        else add(part.column, WholeLoader<H>{}, count, store_part);
      }
    }
    fold_tile<A, S, I>(tile, width, plain, centered);
  }
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
