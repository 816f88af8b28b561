// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/kernels/backward.hpp>
#include <tensornorm/kernels/dispatch.hpp>
#include <tensornorm/kernels/held_columns.hpp>
#include <type_traits>
#include <utility>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// Column kernel: plain[c] += sum of dy, centered[c] += sum of dy * (x - mean[c]) over the rows. The sums are padded.
///
/// kFromMemory: x and dy are in no cache, and fetched as in column_moments().
template <bool kFromMemory, class A, class S, class I, class T>
TENSORNORM_INLINE void column_gradient_sums(const T* x, const T* dy, Index rows, Index x_stride, Index dy_stride, Index width, const A* mean,
                                            const TileSums<A>& tile, S* plain, S* centered) {
  if constexpr (holds_columns<A, S, I, false>)
    if (x_stride == width && dy_stride == width && are_held<A>(width, kHeldGradientLines))
      return run_apart<I>(HeldGradientSums<A, S, T>{x, dy, rows, width, mean, tile, plain, centered});
  using L = VirtualLanes<A, I>;  // a whole line of each row: it may not stay until the next vector
  // Rows that are in a cache are taken one by one, in memory's order, where a line of them is one register: that the sums are read and
  // written for each costs less. Not those of doubles, which are two each.
  constexpr bool row_by_row = !kFromMemory && HardwareLanes<A, I>::width == kLine<T> && !keeps_rest<A, S>;
  constexpr Index together = row_by_row ? 1 : kSweepRows<2>;
  const auto term = [&](Index r, Index c, const auto& load, L& p, L& q) TENSORNORM_INLINE_LAMBDA {
    if constexpr (kFromMemory) {
      fetch_to_l2(dy + r * dy_stride + c + std::max(together * dy_stride, kFetchAhead<T>));
      fetch_to_l2(x + r * x_stride + c + std::max(together * x_stride, kFetchAhead<T>));
    }
    const L g = load(dy + r * dy_stride + c);
    p = p + g;
    q.fma(g, load(x + r * x_stride + c) - load(mean + c));
  };
  // Elsewhere in the caches two operands are slower without a loop.
  constexpr bool unrolled = (kFromMemory && lines_are_registers<A, I>) || row_by_row;
  add_columns<L, together, keeps_rest<A, S>, unrolled, A, S, I>(rows, width, term, tile, plain, centered);
}

/// What a row of columns whose weights change from row to row reads and adds to, one value per column, padded to whole vectors.
template <class A>
struct AffineRow {
  const A *mean, *rstd, *shift, *weight;
  TileSums<A> sums;  ///< += dy * weight, += dy * weight * (x - mean)
  A *weight_terms, *bias_terms;  ///< += dy * norm, += dy

  /// The row without its weights and terms, from column c on.
  AffineRow from(Index c) const { return {mean + c, rstd + c, shift + c, nullptr, sums.from(c), nullptr, nullptr}; }
};

template <class A, class I, class T>
TENSORNORM_INLINE void affine_row_gradient_sums(const T* x, const T* dy, Index width, const AffineRow<A>& row) {
  using H = HardwareLanes<A, I>;
  constexpr Index w = H::width;
  for (Index c = 0; c < width; c += w) {
    const Index count = std::min(w, width - c);
    const H d = (count == w ? H::load(x + c) : load_few<H, A>(x + c, count)) - H::load(row.mean + c);
    const H g = count == w ? H::load(dy + c) : load_few<H, A>(dy + c, count);
    const H weighted = g * H::load(row.weight + c);
    (H::load(row.sums.plain + c) + weighted).store(row.sums.plain + c);
    H sum = H::load(row.sums.centered + c);
    sum.fma(weighted, d);
    sum.store(row.sums.centered + c);
    // Not g * (d * rstd + shift): where x takes few values, that sum would be rounded the same way over and over.
    H terms = H::load(row.weight_terms + c);
    terms.fma(g, H::load(row.shift + c));
    terms.fma(g * H::load(row.rstd + c), d);
    terms.store(row.weight_terms + c);
    (H::load(row.bias_terms + c) + g).store(row.bias_terms + c);
  }
}

/// Columns of a row whose terms are added up in A: more are several blocks.
template <class A, class S>
inline constexpr Index kWeightBlock = virtual_width<A> * (keeps_rest<A, S> ? kPlainTerms : kTileRows);

/// A row of one weight, and the lanes of its sums of dy * norm and of dy.
template <class L>
struct WeightedRow {
  L weight, dweight, dbias;
};

/// Sums of kRows rows with one weight each: those of the columns, in row.sums, are added to; f(k, lanes, lanes) is given the lanes of the sums
/// of dy * norm and of dy of row k, block by block of kWeightBlock columns. To a column it is what affine_row_gradient_sums() is.
template <int kRows, class A, class S, class I, class T, class F>
TENSORNORM_INLINE void weighted_rows_gradient_sums(const T* x, Index x_stride, const T* dy, Index dy_stride, Index width, const A* weight,
                                                   Index weight_stride, const AffineRow<A>& row, const F& f) {
  using L = VirtualLanes<A, I>;
  constexpr Index w = L::width, block = kWeightBlock<A, S>;
  const auto add_block = [&]<int... k, class... Rows>(std::integer_sequence<int, k...>, Index first, Rows... rows) TENSORNORM_INLINE_LAMBDA {
    const auto add = [&](Index c, const auto& load, const auto& store) TENSORNORM_INLINE_LAMBDA {
      L mean = L::load(row.mean + c), rstd = L::load(row.rstd + c), shift = L::load(row.shift + c);
      L plain = L::load(row.sums.plain + c), centered = L::load(row.sums.centered + c);
      const auto add_row = [&](Index i, WeightedRow<L>& of) TENSORNORM_INLINE_LAMBDA {
        L g = load(dy + i * dy_stride + c), d = load(x + i * x_stride + c) - mean, weighted = g * of.weight;
        plain = plain + weighted;
        centered.fma(weighted, d);
        of.dweight.fma(g * rstd, d);
        of.dweight.fma(g, shift);
        of.dbias = of.dbias + g;
      };
      (add_row(k, rows), ...);
      store(plain, row.sums.plain + c);
      store(centered, row.sums.centered + c);
    };
    const Index end = std::min(width, first + block);
    Index c = first;
    for (; c + w <= end; c += w) add(c, WholeLoader<L>{}, [](const L& sums, A* to) TENSORNORM_INLINE_LAMBDA { sums.store(to); });
    // Beside the last columns may lie the first of another row.
    if (c < end) add(c, FewLoader<L, A>{end - c}, [&](const L& sums, A* to) TENSORNORM_INLINE_LAMBDA { store_few(sums, to, end - c); });
    (f(Index{k}, rows.dweight, rows.dbias), ...);
  };
  for (Index first = 0; first < width; first += block)
    [&]<int... k>(std::integer_sequence<int, k...> all) TENSORNORM_INLINE_LAMBDA {
      add_block(all, first, WeightedRow<L>{L(weight[k * weight_stride]), {}, {}}...);
    }(std::make_integer_sequence<int, kRows>());
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
