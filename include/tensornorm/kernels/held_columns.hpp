// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <tensornorm/kernels/column_sums.hpp>
#include <type_traits>
#include <utility>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

// Rows of a few lines that follow each other without a gap: with the sums of all their columns in registers, as far as there are so many, memory
// is walked in its order, which the processor fetches ahead of. The bits are those of add_columns().

/// Lines of such rows, at least, and at most: of moments, and of gradients, which need one sum each where moments need RowSums.
inline constexpr Index kFewestHeldLines = 3, kHeldMomentLines = 4, kHeldGradientLines = 8;

/// 3, 4, 6 and 8 of them: of 24, 32, 48, 64, 96, 128 channels, say. Others are too seldom for a loop of their own.
constexpr bool is_held(Index lines, Index most) { return lines >= kFewestHeldLines && lines <= most && (lines <= 4 || lines % 2 == 0); }
/// The same of columns.
template <class A>
TENSORNORM_INLINE bool are_held(Index width, Index most) {
  return width % virtual_width<A> == 0 && is_held(width / virtual_width<A>, most);
}
template <class A, class I>
inline constexpr bool lines_are_registers = HardwareLanes<A, I>::width == VirtualLanes<A, I>::width;
/// Whether they are faster so: not where each lane is fused by itself, as in x86's baseline, which takes longer than memory; nor are there registers
/// for RowSums where a line is several.
///
/// None are held where rests are kept: those of columns are not those of their statistic, and of fewer columns, whose sums are larger, too much is
/// lost.
template <class A, class S, class I, bool kRowSums>
inline constexpr bool holds_columns = !keeps_rest<A, S> && HardwareLanes<A, I>::fuses && (!kRowSums || lines_are_registers<A, I>);

/// Lines of `rows` such rows of kWidth elements at x, in the order of memory.
///
/// kTurned: from the line on that x lies in, `past` elements after its beginning. The columns go round then: the last `past` of a row are the
/// first, and lie in a line with the first columns of the next row. So each line is read once, and none is read in two.
template <bool kTurned, Index kWidth, class L, class A, class T>
class RowLines {
 public:
  TENSORNORM_INLINE RowLines(const T* x, Index rows, Index past) : first_(kTurned ? x - past : x), rows_(rows), past_(int(past)) {
    if constexpr (kTurned) next_ = load_part<L, A>(first_, past_, L::width, A(0));
  }
  /// Of row r, from its column c on. Column 0 is asked for once in each row, in their order.
  TENSORNORM_INLINE L operator()(Index r, Index c) {
    if (!kTurned || c > 0) return L::load(first_ + r * kWidth + c);
    const T* const next = first_ + (r + 1) * kWidth;
    L own = next_.zero_below(past_);
    next_ = r + 1 < rows_ ? L::load(next) : load_part<L, A>(next, 0, past_, A(0));
    return own + next_.zero_from(past_);
  }

 private:
  const T* first_;
  Index rows_;
  int past_;
  L next_;
};

/// Where their lines are registers, rows may be turned.
template <class A, class I, class T>
inline constexpr bool turns_rows = std::is_same_v<A, T> && lines_are_registers<A, I>;
/// So many rows are worth it.
inline constexpr Index kFewestTurnedRows = 32;

/// What is beside the columns of turned rows, in their order; finish() gives the sums back.
template <class A, class S>
class TurnedColumns {
 public:
  TENSORNORM_CALLED TurnedColumns(Index width, Index past, const A* beside, const TileSums<A>& tile, S* plain, S* centered)
      : width_(width), past_(past), tile_(tile), plain_(plain), centered_(centered) {
    turn(beside, beside_);
    turn(tile.plain, tile_plain_);
    turn(tile.centered, tile_centered_);
    turn(plain, plain_sums_);
    turn(centered, centered_sums_);
  }
  TurnedColumns(const TurnedColumns&) = delete;
  TurnedColumns& operator=(const TurnedColumns&) = delete;

  const A* beside() const { return beside_; }
  TileSums<A> tile() { return {tile_plain_, tile_centered_}; }
  S* plain() { return plain_sums_; }
  S* centered() { return centered_sums_; }
  TENSORNORM_CALLED void finish() const {
    turn_back(tile_plain_, tile_.plain);
    turn_back(tile_centered_, tile_.centered);
    turn_back(plain_sums_, plain_);
    turn_back(centered_sums_, centered_);
  }

 private:
  template <class V>
  void turn(const V* from, V* to) const {
    std::rotate_copy(from, from + width_ - past_, from + width_, to);
  }
  template <class V>
  void turn_back(const V* from, V* to) const {
    std::rotate_copy(from, from + past_, from + width_, to);
  }

  static constexpr std::size_t most = std::size_t(kHeldGradientLines * virtual_width<A>);
  alignas(64) A beside_[most];
  alignas(64) A tile_plain_[most];
  alignas(64) A tile_centered_[most];
  alignas(64) S plain_sums_[most];
  alignas(64) S centered_sums_[most];
  Index width_, past_;
  TileSums<A> tile_;
  S *plain_, *centered_;
};

/// The sums of a line of columns over a sweep of rows: one of each.
template <class L>
struct HeldSum {
  static constexpr Index unrolled = 1;
  L p, q;
  template <class A>
  TENSORNORM_INLINE explicit HeldSum(const TileSums<A>& tile) : p(L::load(tile.plain)), q(L::load(tile.centered)) {}
  template <Index, class Term>
  TENSORNORM_INLINE void add(Index row, Index c, Term& term) {
    term(row, c, p, q);
  }
  template <class A>
  TENSORNORM_INLINE void add_to(const TileSums<A>& tile) const {
    p.store(tile.plain);
    q.store(tile.centered);
  }
};
/// Or RowSums.
template <class L>
struct HeldRowSums {
  static constexpr Index unrolled = 4;
  RowSums<L> sums;
  template <class A>
  TENSORNORM_INLINE explicit HeldRowSums(const TileSums<A>&) {}
  template <Index k, class Term>
  TENSORNORM_INLINE void add(Index row, Index c, Term& term) {
    sums.template add_term<k>([&](L& p, L& q) TENSORNORM_INLINE_LAMBDA { term(row, c, p, q); });
  }
  template <class A>
  TENSORNORM_INLINE void add_to(const TileSums<A>& tile) const {
    L p = L::load(tile.plain), q = L::load(tile.centered);
    sums.add_to(p, q);
    p.store(tile.plain);
    q.store(tile.centered);
  }
};

/// Adds term(row, column, p, q), as make_term(width) makes it, of rows of kLines lines, kSweep of them at a time, in Sums of each line.
template <class Sums, Index kSweep, Index kLines, class A, class S, class I, class MakeTerm>
TENSORNORM_INLINE void add_held_lines(Index rows, const MakeTerm& make_term, TileSums<A> tile, S* plain, S* centered) {
  constexpr Index w = virtual_width<A>, unrolled = Sums::unrolled;
  static_assert(kTileRows % kSweep == 0 && kSweep % unrolled == 0);
  auto term = make_term(std::integral_constant<Index, kLines * w>());
  // Each line's sums are a variable of its own: g++ leaves arrays of them in memory.
  const auto add_sweep = [&]<Index... c>(std::integer_sequence<Index, c...>, Index begin, Index end) TENSORNORM_INLINE_LAMBDA {
    const auto add_rows = [&]<class... Held>(Index row, Held... sums) TENSORNORM_INLINE_LAMBDA {
      const auto add_row = [&]<Index k>(std::integral_constant<Index, k>) TENSORNORM_INLINE_LAMBDA {
        // Compilers would read later lines before earlier ones, and the processor would not see that they follow each other.
        ((sums.template add<k>(row + k, c * w, term), std::atomic_signal_fence(std::memory_order_seq_cst)), ...);
      };
      for (; row + unrolled <= end; row += unrolled)
        [&]<Index... k>(std::integer_sequence<Index, k...>) TENSORNORM_INLINE_LAMBDA {
          (add_row(std::integral_constant<Index, k>()), ...);
        }(std::make_integer_sequence<Index, unrolled>());
      [&]<Index... k>(std::integer_sequence<Index, k...>) TENSORNORM_INLINE_LAMBDA {
        ((row + k < end ? add_row(std::integral_constant<Index, k>()) : void()), ...);
      }(std::make_integer_sequence<Index, unrolled - 1>());
      (sums.add_to(tile.from(c * w)), ...);
    };
    add_rows(begin, Sums(tile.from(c * w))...);
  };
  for (Index first = 0; first < rows; first += kTileRows) {
    const Index end = std::min(rows, first + kTileRows);
    for (Index r = first; r < end; r += kSweep) add_sweep(std::make_integer_sequence<Index, kLines>(), r, std::min(r + kSweep, end));
    fold_tile<A, S, I>(tile, kLines * w, plain, centered);
  }
}
/// The same of rows of so many lines, which are held.
template <class Sums, Index kSweep, Index kMost, class A, class S, class I, class MakeTerm>
TENSORNORM_INLINE void add_held_columns(Index rows, Index lines, const MakeTerm& make_term, TileSums<A> tile, S* plain, S* centered) {
  [&]<Index... less>(std::integer_sequence<Index, less...>) TENSORNORM_INLINE_LAMBDA {
    const auto add = [&]<Index kLines>(std::integral_constant<Index, kLines>) TENSORNORM_INLINE_LAMBDA {
      if constexpr (is_held(kLines, kMost))
        if (lines == kLines) add_held_lines<Sums, kSweep, kLines, A, S, I>(rows, make_term, tile, plain, centered);
    };
    (add(std::integral_constant<Index, kMost - less>()), ...);
  }(std::make_integer_sequence<Index, kMost>());
}

/// Calls add(whether rows are turned, past, beside, tile, plain, centered) for rows at x, with what is beside their columns in that order.
/// in_step: what else is read begins as far past a line.
template <class I, class T, class A, class S, class Add>
TENSORNORM_INLINE void add_in_lines(const T* x, bool in_step, Index rows, Index width, const A* beside, const TileSums<A>& tile, S* plain,
                                    S* centered, const Add& add) {
  if constexpr (turns_rows<A, I, T>)
    if (const Index past = elements_past_line(x); past > 0 && in_step && rows >= kFewestTurnedRows) {
      TurnedColumns<A, S> turned(width, past, beside, tile, plain, centered);
      add(std::true_type(), past, turned.beside(), turned.tile(), turned.plain(), turned.centered());
      return turned.finish();
    }
  add(std::false_type(), Index(0), beside, tile, plain, centered);
}

/// column_moments() of such rows.
template <class Accumulator, class S, class T>
struct HeldMoments {
  using A = Accumulator;
  const T* x;
  Index rows, width;
  const A* pivot;
  TileSums<A> tile;
  S *sum, *squares;

  template <class I>
  TENSORNORM_INLINE void operator()() const {
    using L = VirtualLanes<A, I>;
    add_in_lines<I>(x, true, rows, width, pivot, tile, sum, squares,
                    [&]<bool kTurned>(std::bool_constant<kTurned>, Index past, const A* pivots, const TileSums<A>& sums, S* plain, S* centered)
                        TENSORNORM_INLINE_LAMBDA {
                          const auto make_term = [&](auto columns) TENSORNORM_INLINE_LAMBDA {
                            return Term<RowLines<kTurned, columns.value, L, A, T>>{{x, rows, past}, pivots};
                          };
                          add_held_columns<HeldRowSums<L>, kSweepRows<1>, kHeldMomentLines, A, S, I>(rows, width / L::width, make_term, sums,
                                                                                                     plain, centered);
                        });
  }

 private:
  template <class Lines>
  struct Term {
    Lines x;
    const A* pivots;
    template <class L>
    TENSORNORM_INLINE void operator()(Index r, Index c, L& p, L& q) {
      L d = x(r, c) - L::load(pivots + c);
      p = p + d;
      q.fma(d, d);
    }
  };
};

/// column_gradient_sums() of such rows.
template <class Accumulator, class S, class T>
struct HeldGradientSums {
  using A = Accumulator;
  const T *x, *dy;
  Index rows, width;
  const A* mean;
  TileSums<A> tile;
  S *plain, *centered;

  template <class I>
  TENSORNORM_INLINE void operator()() const {
    using L = VirtualLanes<A, I>;
    add_in_lines<I>(x, elements_past_line(x) == elements_past_line(dy), rows, width, mean, tile, plain, centered,
                    [&]<bool kTurned>(std::bool_constant<kTurned>, Index past, const A* means, const TileSums<A>& sums, S* to_plain, S* to_centered)
                        TENSORNORM_INLINE_LAMBDA {
                          const auto make_term = [&](auto columns) TENSORNORM_INLINE_LAMBDA {
                            return Term<RowLines<kTurned, columns.value, L, A, T>>{{x, rows, past}, {dy, rows, past}, means};
                          };
                          add_held_columns<HeldSum<L>, kTileRows, kHeldGradientLines, A, S, I>(rows, width / L::width, make_term, sums, to_plain,
                                                                                               to_centered);
                        });
  }

 private:
  template <class Lines>
  struct Term {
    Lines x, dy;
    const A* means;
    template <class L>
    TENSORNORM_INLINE void operator()(Index r, Index c, L& p, L& q) {
      L g = dy(r, c);
      p = p + g;
      q.fma(g, x(r, c) - L::load(means + c));
    }
  };
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
