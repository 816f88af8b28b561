// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <type_traits>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/kernels/scale.hpp>

namespace tensornorm::kernels {

/// Elements whose mean is the pivot of a statistic in the column form: a power of two, so that equal elements give themselves.
inline constexpr Index kPivotSamples = 16;

inline namespace TENSORNORM_ABI {

// Columns that belong to statistics through a few loops: what one column of a tile means to the statistics and back. Done once per
// strip, by additions and copies alone, so these are ordinary functions of the baseline: the same bits, and compiled once.

/// to[i] = value: at -O2 compilers leave std::fill_n one element at a time.
template <class A>
void fill(A* to, Index n, A value) {
  using L = HardwareLanes<A, Isa<16>>;
  const L lanes(value);
  Index i = 0;
  for (; i + L::width <= n; i += L::width) lanes.store(to + i);
  for (; i < n; ++i) to[i] = value;
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
  TENSORNORM_INLINE void run() const {
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
  if constexpr (keeps) {
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

/// to[i] = from[i] in A.
template <class A, class T>
void copy_run(const T* from, Index n, A* to) {
  if constexpr (std::is_same_v<A, T>) std::copy_n(from, n, to);
  else if constexpr (std::is_same_v<A, float> && Narrow<T>) dispatch(Widen<A, T>{from, to, n});
  else std::transform(from, from + n, to, [](const T& value) { return static_cast<A>(value); });
}

/// The statistic's (or parameter's) value beside each of its columns; `from` is indexed by that stride of the loops. A line of zeros
/// follows, for the vector that is read across the end: what was there before might trap, or be nothing yet.
template <Index Loop::* kStride, class Source, class A>
void expand(const LoopList& columns, const Source* from, A* to) {
  LoopList outer;
  const Loop inner = columns.loops[columns.depth - 1];
  Index times = 1;  // that all comes again: loops around the others in which nothing changes
  for (int i = 0; i < columns.depth - 1; ++i) {
    if (outer.depth > 0 || columns.loops[i].*kStride != 0) outer.push(columns.loops[i]);
    else times *= columns.loops[i].extent;
  }
  A* end = to;
  Odometer at(outer);
  for (Index k = outer.size(); k > 0; --k, at.next(), end += inner.extent) {
    const Source* source = from + (kStride == &Loop::statistic ? at.offsets().statistic : at.offsets().param);
    if (inner.*kStride == 0) fill(end, inner.extent, static_cast<A>(*source));
    else if (inner.*kStride == 1) copy_run(source, inner.extent, end);
    else for (Index i = 0; i < inner.extent; ++i) end[i] = static_cast<A>(source[i * (inner.*kStride)]);
  }
  A* const last = to + (end - to) * times;
  while (end < last) end = std::copy_n(to, std::min(end - to, last - end), end);
  fill(end, kLine<A>, A(0));
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

/// Adds each column's value to its statistic's, or its parameter's.
template <Index Loop::* kStride, class A, class S, class T>
void fold(const LoopList& columns, const T* from, const SumArray<A, S>& to) {
  LoopList outer = columns;
  const Loop inner = columns.loops[--outer.depth];
  Odometer at(outer);
  for (Index k = outer.size(); k > 0; --k, at.next(), from += inner.extent) {
    const SumArray<A, S> target = to.from(kStride == &Loop::statistic ? at.offsets().statistic : at.offsets().param);
    if (inner.*kStride == 0) add_sum(target, from, inner.extent);
    else if (inner.*kStride == 1) add_to(target, from, inner.extent);
    else for (Index i = 0; i < inner.extent; ++i) target.add(i * (inner.*kStride), S(from[i]));
  }
}

/// One element of each of `samples` equal stretches of [0, total), at irregular places: regular ones would meet the same pixel of every
/// image, or the period of whatever made the data.
inline Index sample_position(Index i, Index samples, Index total) {
  constexpr double golden = 0.6180339887498949;
  const double turn = golden * double(i + 1), place = turn - double(Index(turn));
  return Index((double(i) + place) / double(samples) * double(total));
}

/// pivot[k] = the mean of a few elements of statistic k, spread over its rows and columns; 0 where one of them is not finite.
template <class A, class T>
void sample_pivots(const T* x, Index rows, Index row_stride, const LoopList& columns, A* pivot, Index statistics) {
  LoopList kept, reduced;
  for (int i = 0; i < columns.depth; ++i) (columns.loops[i].statistic == 0 ? reduced : kept).push(columns.loops[i]);
  const Index folded = reduced.size(), total = rows * folded;
  Index samples = kPivotSamples;
  while (samples > total) samples /= 2;
  const A share = A(1.0 / double(samples));  // of each sample at once: their sum might overflow
  const T* sample[kPivotSamples];
  for (Index i = 0; i < samples; ++i) {
    const Index position = std::min(sample_position(i, samples, total), total - 1);
    sample[i] = x + position / folded * row_stride + Odometer(reduced, position % folded).offsets().data[0];
  }
  LoopList outer = kept;
  const Loop inner = kept.depth > 0 ? kept.loops[--outer.depth] : Loop{1, {1, 1, 1}, 1, 0};
  Odometer at(outer);
  for (Index k = outer.size(); k > 0; --k, at.next()) {
    A* const to = pivot + at.offsets().statistic;
    const Index from = at.offsets().data[0], step = inner.data[0];
    Index c = 0;
    const auto add_lanes = [&]<class L>(L mean) {
      for (; c + L::width <= inner.extent; c += L::width, mean = L()) {
        for (Index i = 0; i < samples; ++i) mean.fma(L::load(sample[i] + from + c), L(share));
        mean.store(to + c);
      }
    };
    if (step == 1) {
      add_lanes(VirtualLanes<A, Isa<16>>());  // a line at once, or half of one: those of rows that are pages apart push each other out
      add_lanes(HardwareLanes<A, Isa<16>>());
    }
    for (; c < inner.extent; ++c) {
      A mean(0);
      for (Index i = 0; i < samples; ++i) mean = fused<A>(load_one<A>(sample[i] + from + c * step), share, mean);
      to[c] = mean;
    }
    if (total >= kChunk)
      for (c = 0; c < inner.extent; ++c) to[c] = coarse<A>(to[c], to[c] - load_one<A>(sample[0] + from + c * step));
  }
  for (Index k = 0; k < statistics; ++k)
    if (!is_finite(pivot[k])) pivot[k] = A(0);  // so that an infinite element is the only one
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
