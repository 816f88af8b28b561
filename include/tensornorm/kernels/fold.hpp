// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <type_traits>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/kernels/dispatch.hpp>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/kernels/sums.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

// Columns that belong to statistics through a few loops: what one column of a tile means to the statistics and back. Done once per
// strip, by additions and copies alone, so these are called, functions of the baseline: the same bits, and compiled once.

/// to[i] = value: at -O2 compilers leave std::fill_n one element at a time.
template <class A>
void fill(A* to, Index n, A value) {
  using L = HardwareLanes<A, Isa<16>>;
  const L lanes(value);
  Index i = 0;
  for (; i + L::width <= n; i += L::width) lanes.store(to + i);
  for (; i < n; ++i) to[i] = value;
}

/// The same in whole vectors, the last of which may go on for less than a line.
template <class A>
TENSORNORM_INLINE void fill_past(A* to, Index n, A value) {
  using L = HardwareLanes<A, Isa<16>>;
  const L lanes(value);
  for (Index i = 0; i < n; i += L::width) lanes.store(to + i);
}

/// to[i] += from[i].
template <class S, class T>
void add_to(S* to, const T* from, Index n) {
  using L = HardwareLanes<S, Isa<16>>;
  Index i = 0;
  for (; i + L::width <= n; i += L::width) (L::load(to + i) + L::load(from + i)).store(to + i);
  for (; i < n; ++i) to[i] = to[i] + load_one<S>(from + i);
}

/// target[i] += source[i], added in S and rounded to T.
template <class S, class T, class Source>
struct AddRounded {
  using A = S;

  T* target;
  const Source* source;
  Index count;
  template <class I>
  TENSORNORM_INLINE void operator()() const {
    T* const to = target;  // stores might change the members
    const Source* const from = source;
    const Index n = count;
    Index i = 0;
    if constexpr (!Narrow<T> || std::is_same_v<Source, float>) {
      // A sum of two floats rounded to double and then to float is rounded as if once (Figueroa 1995). One of a float that goes on to
      // be rounded to 16 bits loses 2^-13 of their ulp at most by the first rounding.
      using L = HardwareLanes<std::conditional_t<std::is_same_v<T, Source> || Narrow<T>, Source, S>, I>;
      for (; i + L::width <= n; i += L::width) (L::load(to + i) + L::load(from + i)).store(to + i);
    } else {
      using F = HardwareLanes<float, I>;
      using L = Lanes<S, F::width, hardware_width<S, I>>;
      constexpr Index kBlock = 64;
      float floats[kBlock];  // a block at a time: no vector is read right after halves of it are written
      for (; i + kBlock <= n; i += kBlock) {
        for (Index k = 0; k < kBlock; k += F::width) F::load(to + i + k).store(floats + k);
        for (Index k = 0; k < kBlock; k += F::width) (L::load(floats + k) + L::load(from + i + k)).store(floats + k);
        for (Index k = 0; k < kBlock; k += F::width) F::load(floats + k).store(to + i + k);
      }
    }
    using Sum = std::conditional_t<Narrow<T>, Source, S>;
    for (; i < n; ++i) to[i] = static_cast<T>(Sum(to[i]) + Sum(from[i]));
  }
};

/// to[0] += the sum of lanes and `tail`; where S is no wider than A, with the lanes' rests and what rounding takes from them here.
template <class A, class S, class L>
TENSORNORM_INLINE void add_lanes(const SumArray<A, S>& to, const L& lanes, const L& rests, S tail) {
  if constexpr (keeps_rest<A, S>) {
    S sums[L::width];
    lanes.store(sums);
    S rest = rests.sum() + tail;
    for (int half = L::width / 2; half > 0; half /= 2)
      for (int k = 0; k < half; ++k) {
        settle(sums[k], sums[k + half]);
        rest = rest + sums[k + half];
      }
    to.add(0, rest);
    to.add(0, sums[0]);
  } else {
    to.add(0, lanes.sum() + tail);
  }
}

/// to[0] += the sum of n numbers, in the order of virtual lanes.
template <class A, class S, class T>
void add_sum(const SumArray<A, S>& to, const T* values, Index n) {
  using L = VirtualLanes<S, Isa<16>>;
  constexpr bool keeps = keeps_rest<A, S>;
  const Index at_once = keeps ? kPlainTerms * L::width : n;
  L lanes, rests;
  Index i = 0;
  while (i + L::width <= n) {
    L some;
    for (const Index end = std::min(n, i + at_once); i + L::width <= end; i += L::width) some = some + L::load(values + i);
    accumulate<keeps>(lanes, rests, some);
  }
  S tail = S(0);
  for (; i < n; ++i) tail = tail + S(values[i]);
  add_lanes(to, lanes, rests, tail);
}

/// The same of fewer than there are virtual lanes.
template <class A, class S, class T>
TENSORNORM_INLINE void add_few(const SumArray<A, S>& to, const T* values, Index n) {
  S sum = S(values[0]);
  for (Index i = 1; i < n; ++i) sum = sum + S(values[i]);
  to.add(0, sum);
}

/// to[i] = from[i] in A.
template <class A, class T>
void copy_run(const T* from, Index n, A* to) {
  if constexpr (std::is_same_v<A, T>) std::copy_n(from, n, to);
  else if constexpr (std::is_same_v<A, float> && Narrow<T>) dispatch(Widen<A, T>{from, to, n});
  else std::transform(from, from + n, to, [](const T& value) { return static_cast<A>(value); });
}

/// Calls f(offset) for each position of the outermost `depth` loops, in order: of that stride alone.
template <Index Loop::* kStride, class F>
TENSORNORM_INLINE void for_each_around(const LoopList& columns, int depth, const F& f) {
  const Loop last = depth > 0 ? columns.loops[--depth] : Loop{1, {}, 0, 0};
  Odometer at(columns, 0, depth);
  for (Index k = columns.size_of(depth); k > 0; --k, at.next()) {
    Index offset = kStride == &Loop::statistic ? at.offsets().statistic : at.offsets().param;
    for (Index i = 0; i < last.extent; ++i, offset += last.*kStride) f(offset);
  }
}

/// Elements one after the other: `extent` of them, from each to the next `step` in what stands beside them.
struct Run {
  Index extent, step;
};

/// expand() of equal runs, so many with `step` between them; returns where they end.
template <class Source, class A>
TENSORNORM_INLINE A* expand_runs(Index runs, Index step, const Run& run, const Source* from, A* to) {
  using Few = HardwareLanes<A, Isa<16>>;
  const Index n = run.extent, inner_step = run.step;
  if (inner_step == 0 && n <= Few::width) {
    for (Index i = 0; i < runs; ++i, from += step, to += n) Few(static_cast<A>(*from)).store(to);
    return to;
  }
  for (Index i = 0; i < runs; ++i, from += step, to += n) {
    if (inner_step == 0) fill_past(to, n, static_cast<A>(*from));
    else if (inner_step == 1) copy_run(from, n, to);
    else for (Index k = 0; k < n; ++k) to[k] = static_cast<A>(from[k * inner_step]);
  }
  return to;
}
/// The same of loops [level, end) around a run; what comes again is copied, twice as much each time.
template <Index Loop::* kStride, class Source, class A>
A* expand_loops(const LoopList& loops, int level, int end, const Run& run, const Source* from, A* to) {
  if (level == end) return expand_runs(1, 0, run, from, to);
  const Index extent = loops.loops[level].extent, step = loops.loops[level].*kStride, different = step == 0 ? 1 : extent;
  A* at = to;
  if (level + 1 == end) at = expand_runs(different, step, run, from, at);
  else for (Index i = 0; i < different; ++i) at = expand_loops<kStride>(loops, level + 1, end, run, from + i * step, at);
  if (step != 0) return at;
  A* const last = to + (at - to) * extent;
  while (at < last) at = std::copy_n(to, std::min(at - to, last - at), at);
  return at;
}

/// The statistic's (or parameter's) value beside each of its columns; `from` is indexed by that stride of the loops. A line of zeros
/// follows, for the vector that is read across the end: what was there before might trap, or be nothing yet.
template <Index Loop::* kStride, class Source, class A>
TENSORNORM_CALLED void expand(const LoopList& columns, const Source* from, A* to) {
  int outer = columns.depth - 1;
  Run run{columns.loops[outer].extent, columns.loops[outer].*kStride};  // and the loops that only go on where it ends
  for (; outer > 0 && columns.loops[outer - 1].*kStride == run.extent * run.step; --outer) run.extent *= columns.loops[outer - 1].extent;
  fill(expand_loops<kStride>(columns, 0, outer, run, from, to), kLine<A>, A(0));
}

/// to[i] += from[i], with the rests of doubles.
template <class A, class S, class T>
void add_to(const SumArray<A, S>& to, const T* from, Index n) {
  if constexpr (!keeps_rest<A, S>) {
    add_to(to.sum, from, n);
  } else {
    using L = HardwareLanes<S, Isa<16>>;
    Index i = 0;
    for (; i + L::width <= n; i += L::width) to.add(i, L::load(from + i));
    for (; i < n; ++i) to.add(i, from[i]);
  }
}

/// to[i] += from[i] + from[n + i] + ..., of n numbers, fewer than there are virtual lanes, that come `times` times. A period is as many vectors
/// as it takes for one to begin with the first of them again.
template <class A, class S, class T>
void add_again(const SumArray<A, S>& to, const T* from, Index n, Index times) {
  using L = VirtualLanes<S, Isa<16>>;
  constexpr bool keeps = keeps_rest<A, S>;
  constexpr Index w = L::width;
  Index vectors = n;
  while (vectors % 2 == 0) vectors /= 2;
  const Index period = vectors * w, all = n * times, whole = all / period * period;
  // Added up here, so that none is added to a rest, which so large a number would round.
  S totals[std::size_t(w)] = {}, rests_of[std::size_t(w)] = {};
  Index at = 0;
  const auto add = [&](S value, [[maybe_unused]] S rest) TENSORNORM_INLINE_LAMBDA {
    if constexpr (keeps) {
      settle(totals[at], value);
      rests_of[at] = rests_of[at] + (rest + value);
    } else {
      totals[at] = totals[at] + value;
    }
    at = at + 1 == n ? 0 : at + 1;
  };
  for (Index first = 0; first < period && whole > 0; first += w) {
    L lanes, rests;
    for (Index i = first; i < whole; i += period) accumulate<keeps>(lanes, rests, L::load(from + i));
    S sums[std::size_t(w)], lost[std::size_t(w)];
    lanes.store(sums);
    rests.store(lost);
    for (Index k = 0; k < w; ++k) add(sums[k], lost[k]);
  }
  for (Index i = whole; i < all; ++i) add(S(from[i]), S(0));
  for (Index i = 0; i < n; ++i) {
    if constexpr (keeps) to.add(i, rests_of[i]);
    to.add(i, totals[i]);
  }
}

/// to[i] += the sum of n numbers, fewer than there are virtual lanes, that follow those of to[i - 1].
template <class A, class S, class T>
void add_runs(const SumArray<A, S>& to, const T* from, Index n, Index runs) {
  using L = VirtualLanes<S, Isa<16>>;
  Index i = 0;
  const auto terms = [&](Index k) TENSORNORM_INLINE_LAMBDA {
    return L::of([&](int lane) TENSORNORM_INLINE_LAMBDA { return S(from[(i + lane) * n + k]); });
  };
  for (; i + L::width <= runs; i += L::width) {
    L sums = terms(0);
    for (Index k = 1; k < n; ++k) sums = sums + terms(k);
    to.add(i, sums);
  }
  for (; i < runs; ++i) add_few(to.from(i), from + i * n, n);
}

/// Adds each column's value to its statistic's, or its parameter's.
template <Index Loop::* kStride, class A, class S, class T>
TENSORNORM_CALLED void fold(const LoopList& columns, const T* from, const SumArray<A, S>& to) {
  int outer = columns.depth - 1;
  const Loop inner = columns.loops[outer];
  const Index step = inner.*kStride;
  const bool few = inner.extent < virtual_width<S>;
  Index times = 1;  // that the same few come again, or that as many of the next one come
  const auto is_around = [&](Index stride) { return few && outer > 0 && columns.loops[outer - 1].*kStride == stride; };
  if (step == 1)
    for (; is_around(0); --outer) times *= columns.loops[outer - 1].extent;
  else if (step == 0 && is_around(1))
    times = columns.loops[--outer].extent;
  for_each_around<kStride>(columns, outer, [&](Index offset) TENSORNORM_INLINE_LAMBDA {
    const SumArray<A, S> target = to.from(offset);
    if (step == 1 && times > 1) add_again(target, from, inner.extent, times);
    else if (step == 1) add_to(target, from, inner.extent);
    else if (step != 0) for (Index i = 0; i < inner.extent; ++i) target.add(i * step, S(from[i]));
    else if (few) add_runs(target, from, inner.extent, times);
    else add_sum(target, from, inner.extent);
    from += inner.extent * times;
  });
}

/// Sets all of `to`, of `statistics`, to the sums of their columns' values.
template <class A, class S>
TENSORNORM_CALLED void set_folded(const LoopList& columns, const S* from, SumArray<A, S> to, Index statistics) {
  const Loop& inner = columns.loops[columns.depth - 1];
  if (columns.depth > 1 || inner.statistic != 1) {
    to.clear(statistics);
    return fold<&Loop::statistic>(columns, from, to);
  }
  std::copy_n(from, statistics, to.sum);  // a column each
  if constexpr (keeps_rest<A, S>) std::fill_n(to.rest, statistics, S(0));
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
