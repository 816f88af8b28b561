// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <type_traits>
#include <tensornorm/kernels/lane_sums.hpp>
#include <tensornorm/kernels/normalize.hpp>
#include <tensornorm/kernels/scale.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// The two sums a gradient needs: of g, and of g * (x - mean), where g = dy * weight.
template <class S>
struct GradientSums {
  S plain = S(0), centered = S(0);
};

/// What a row of gradients is multiplied with and added to beside its sums; null pointers where there is none.
template <class A, class P = A>
struct RowGradients {
  A mean;             ///< subtracted from x
  A rstd, shift;      ///< norm = (x - mean) * rstd + shift
  const P* weight;    ///< beside the elements
  P *dweight, *dbias; ///< beside the elements: += dy * norm, += dy; dbias null: not wanted
  bool turned = false; ///< lanes may be others, and vectors reach into a line before and after dweight and dbias
};

/// One vector of a row of gradients: adds g and g * d to the sums, and, with kGradients, to dweight and dbias beside it. `keep` sets the
/// lanes to 0 that are not to be counted; `load` has the weights that there are, `load_sums` and `store` have dweight and dbias.
template <bool kWeighted, bool kGradients, class A, class P, class L, class Keep, class Load, class LoadSums, class StoreLanes>
TENSORNORM_INLINE void add_gradients(const L& d, const L& dy, const RowGradients<A, P>& row, const L& rstd, const L& shift, Index i,
                                     const Keep& keep, const Load& load, const LoadSums& load_sums, const StoreLanes& store, L& plain,
                                     L& centered) {
  const L g = keep(dy), difference = keep(d);
  if constexpr (kWeighted) {
    const L weighted = keep(dy * load(row.weight + i));
    plain = plain + weighted;
    centered.fma(weighted, difference);
  } else {
    plain = plain + g;
    centered.fma(g, difference);
  }
  if constexpr (kGradients) {
    L norm = shift, sum = load_sums(row.dweight + i);
    norm.fma(difference, rstd);
    sum.fma(g, keep(norm));
    store(sum, row.dweight + i);
    if (row.dbias != nullptr) store(load_sums(row.dbias + i) + g, row.dbias + i);
  }
}

/// Vectors of a row from which on its sums may begin at a line.
inline constexpr Index kTurnedVectors = 8;

/// std::swap(), which a compiler might not inline.
template <class L>
TENSORNORM_INLINE void exchange(L& a, L& b) {
  L before = a;
  a = b;
  b = before;
}

template <class X, class T>
TENSORNORM_INLINE void fetch_both(const X* x, const T* dy, Index i, bool to_l2) {
  fetch(x + i, to_l2);
  fetch(dy + i, to_l2);
}

/// Row kernel: f(plain, centered) is given the lanes of the two sums of n contiguous elements, block by block, and of what whole vectors leave.
///
/// Vectors may begin at a line, if x, dy and what gradients are added to do so together: a load of two lines waits for a store to a part of it
/// in another page (see ScratchPlan::place_apart()), and stores past the caches are under way for long. Lanes are turned then, and the even sums
/// of some the odd ones, which is seen neither where these two are added up nor in the sum of all lanes, as halves are added to halves.
///
/// kWeighted: g = dy * weight, element by element; otherwise g = dy. kGradients: dweight and dbias are added to, element by element.
/// `ahead`: what is fetched of x and dy, which then come from memory.
template <bool kWeighted, bool kGradients, class A, class I, class T, class P, class F>
TENSORNORM_INLINE void row_gradient_lanes(const T* x, const T* dy, Index n, const RowGradients<A, P>& row, const ReadAhead& ahead, const F& f) {
  using L = VirtualLanes<A, I>;
  constexpr Index w = L::width;
  const L mean(row.mean), rstd(row.rstd), shift(row.shift);
  const bool to_l2 = fetches_to_l2();
  const auto all = [](const L& lanes) TENSORNORM_INLINE_LAMBDA { return lanes; };
  const WholeLoader<L> whole;
  const auto store_all = [](const L& lanes, P* to) TENSORNORM_INLINE_LAMBDA { lanes.store(to); };
  const auto add = [&](Index i, L& plain, L& centered) TENSORNORM_INLINE_LAMBDA {
    add_gradients<kWeighted, kGradients>(whole(x + i) - mean, whole(dy + i), row, rstd, shift, i, all, whole, whole, store_all, plain, centered);
  };
  const auto fetch_ahead = [&](Index i, Index count) TENSORNORM_INLINE_LAMBDA {
    if (ahead.distance != 0)
      for (Index k = 0; k < count; k += kLine<T>) fetch_both(x, dy, ahead.from(i) + k, to_l2);
  };
  constexpr bool may_turn = std::is_same_v<A, T> && L::masks;  // parts lane by lane took 1.1 times as long (clang, rows of 128)
  const Index full = n / w * w, past = elements_to_alignment(x, w);
  const bool together = past == elements_to_alignment(dy, w) && (!kGradients || past == elements_to_alignment(row.dweight, w));
  const Index before = may_turn && row.turned && n >= kTurnedVectors * w && together ? past : 0;
  for (Index first = 0; first < full; first += kBlock<A>) {
    const Index end = std::min(full, first + kBlock<A>);
    L plain0, plain1, centered0, centered1;
    const auto add_pairs = [&](Index i) TENSORNORM_INLINE_LAMBDA {
      for (const Index last_pair = end - 2 * w; i <= last_pair; i += 2 * w) {
        fetch_ahead(i, 2 * w);
        add(i, plain0, centered0);
        add(i + w, plain1, centered1);
      }
      return i;
    };
    if constexpr (may_turn)
      if (before > 0) {
        const auto add_part = [&](Index i, int from, int to, L& plain, L& centered) TENSORNORM_INLINE_LAMBDA {
          const auto keep = [&](const L& lanes) TENSORNORM_INLINE_LAMBDA { return lanes.zero_below(from).zero_from(to); };
          const auto load = [&](const auto* p) TENSORNORM_INLINE_LAMBDA { return load_part<L, A>(p, from, to, A(0)); };
          add_gradients<kWeighted, kGradients>(load(x + i) - mean, load(dy + i), row, rstd, shift, i, keep, load, whole, store_all, plain, centered);
        };
        add_part(first + before - w, int(w - before), int(w), plain1, centered1);
        Index i = add_pairs(first + before);
        fetch_ahead(i, w);
        if (i + w <= end) {
          add(i, plain0, centered0);
          i += w;
          fetch_ahead(i, w);
          exchange(plain0, plain1);
          exchange(centered0, centered1);
        }
        add_part(i, 0, int(w - before), plain0, centered0);
        f(plain0 + plain1, centered0 + centered1);
        continue;
      }
    const Index i = add_pairs(first);
    if (i < end) add(i, plain0, centered0);
    f(plain0 + plain1, centered0 + centered1);
  }
  if constexpr (w > 1) {
    if (full < n) {
      // The last w elements once more, those already counted masked out; of a row shorter than that, w lanes that end with it.
      const Index rest = n - full, first = w - rest, at = n - w;
      const auto keep = [&](const L& lanes) TENSORNORM_INLINE_LAMBDA { return lanes.zero_below(int(first)); };
      L plain, centered;
      const auto add_last = [&](const auto& load, const auto& store) TENSORNORM_INLINE_LAMBDA {
        add_gradients<kWeighted, kGradients>(load(x + at) - mean, load(dy + at), row, rstd, shift, at, keep, load, load, store, plain, centered);
      };
      if (n >= w) add_last(whole, store_all);
      else
        add_last(LastLoader<L, A>{n}, [&](const L& lanes, P* to) TENSORNORM_INLINE_LAMBDA { store_few(lanes, to + first, rest, first); });
      f(plain, centered);
    }
  }
}

/// The same added to sums with rests, blocks of kBlock added in A and folded into S. A row taken in parts of kBlock elements gives the same
/// bits.
template <bool kWeighted, bool kGradients, class A, class S, class I, class T, class P>
TENSORNORM_INLINE void row_gradient_sums(const T* x, const T* dy, Index n, const RowGradients<A, P>& row, const ReadAhead& ahead,
                                         GradientSums<S>& total, GradientSums<S>& rests) {
  const auto add = [&](const auto& plain, const auto& centered) TENSORNORM_INLINE_LAMBDA {
    accumulate<keeps_rest<A, S>>(total.plain, rests.plain, S(plain.sum()));
    accumulate<keeps_rest<A, S>>(total.centered, rests.centered, S(centered.sum()));
  };
  row_gradient_lanes<kWeighted, kGradients, A, I>(x, dy, n, row, ahead, add);
}

/// The sums of gradients of `count` statistics, at most kTogether, of one slice of no more than a block, or of joined ones, whose lanes are
/// added up before a sum is taken. Of one slice the same bits as of row_gradient_sums().
template <class A, class S, class I>
struct ShortGradientSums {
  using L = VirtualLanes<A, I>;
  S plain[kTogether], centered[kTogether];

  /// add(j, i, f) calls f as row_gradient_lanes() does, for n elements: slice j of the i-th; or not at all, where that is to be 0.
  template <class F>
  TENSORNORM_INLINE ShortGradientSums(Index count, Index slices, Index n, const F& add) {
    constexpr std::size_t w = L::width;
    const int parts = n < L::width || n % L::width == 0 ? 1 : 2;
    alignas(64) A plain_lanes[2][kTogether][w];
    alignas(64) A centered_lanes[2][kTogether][w];
    A sums[kTogether];
    for (Index j = 0; j < slices; ++j)
      for (Index i = 0; i < count; ++i) {
        int part = 0;
        const auto keep = [&](const L& p, const L& q) TENSORNORM_INLINE_LAMBDA {
          A *const to = plain_lanes[part][i], *const centered_to = centered_lanes[part][i];
          ++part;
          if (j == 0) {
            p.store(to);
            q.store(centered_to);
          } else {
            (p + L::load(to)).store(to);
            (q + L::load(centered_to)).store(centered_to);
          }
        };
        add(j, i, keep);
        while (part < parts) keep(L(), L());
      }
    // As accumulate() adds two terms: where it keeps a rest, that is not asked for.
    const auto add_up = [&](A (&lanes)[2][kTogether][w], S* to) TENSORNORM_INLINE_LAMBDA {
      sums_of_rows<L>(lanes[0], count, sums);
      for (Index i = 0; i < count; ++i) to[i] = S(sums[i]);
      if (parts == 1) return;
      sums_of_rows<L>(lanes[1], count, sums);
      for (Index i = 0; i < count; ++i) to[i] = to[i] + S(sums[i]);
    };
    add_up(plain_lanes, plain);
    add_up(centered_lanes, centered);
  }
};

/// Maps of x that read dy beside it.
template <class T>
struct TwoInputs {
  const T* dy;
  template <class X>
  TENSORNORM_INLINE void prefetch(const X* x, Index i, bool to_l2) const {
    fetch_both(x, dy, i, to_l2);
  }
};

/// dx = dy * scale + (x - mean) * slope + offset.
template <class L, class T, class Coefficient>
struct GradientMap : TwoInputs<T> {
  Coefficient mean, scale, slope, offset;
  TENSORNORM_INLINE GradientMap(const T* g, const Coefficient& m, const Coefficient& a, const Coefficient& b, const Coefficient& c)
      : TwoInputs<T>{g}, mean(m), scale(a), slope(b), offset(c) {}
  template <class Loader>
  TENSORNORM_INLINE L operator()(const L& x, Index i, const Loader& load) const {
    L dx = offset.at(i, load);
    dx.fma(x - mean.at(i, load), slope.at(i, load));
    dx.fma(load(this->dy + i), scale.at(i, load));
    return dx;
  }
  /// The map at i, for any x, and for dy from there on.
  template <class Loader>
  TENSORNORM_INLINE GradientMap<L, T, Uniform<L>> held(Index i, const Loader& load) const {
    return {this->dy + i, {mean.at(i, load)}, {scale.at(i, load)}, {slope.at(i, load)}, {offset.at(i, load)}};
  }
};

/// dx = dy * weight * scale + (x - mean) * slope + offset.
template <class L, class T, class Coefficient, class Parameter>
struct WeightedGradientMap : GradientMap<L, T, Coefficient> {
  Parameter weight;
  TENSORNORM_INLINE WeightedGradientMap(const T* g, const Coefficient& m, const Coefficient& a, const Coefficient& b, const Coefficient& c,
                                        const Parameter& p)
      : GradientMap<L, T, Coefficient>(g, m, a, b, c), weight(p) {}
  /// With the weight as it is, of every element.
  template <class Loader>
  TENSORNORM_INLINE WeightedGradientMap<L, T, Uniform<L>, Parameter> held(Index i, const Loader& load) const {
    return {this->dy + i, {this->mean.at(i, load)}, {this->scale.at(i, load)}, {this->slope.at(i, load)}, {this->offset.at(i, load)}, weight};
  }
  template <class Loader>
  TENSORNORM_INLINE L operator()(const L& x, Index i, const Loader& load) const {
    L dx = this->offset.at(i, load);
    dx.fma(x - this->mean.at(i, load), this->slope.at(i, load));
    dx.fma(load(this->dy + i) * weight.at(i, load), this->scale.at(i, load));
    return dx;
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
