// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <type_traits>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/kernels/dispatch.hpp>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/kernels/scale.hpp>

namespace tensornorm::kernels {

/// Elements whose mean is the pivot of a statistic in the column form: a power of two, by which dividing rounds nothing.
inline constexpr Index kPivotSamples = 16;

inline namespace TENSORNORM_ABI {

// Columns that belong to statistics through a few loops: what one column of a tile means to the statistics and back. Done once per
// strip, by additions and copies alone, so these are ordinary functions of the baseline: the same bits, and compiled once. But for pivots,
// which are sums of products.

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

/// Calls f(offset) for each position of the loops around `inner`, in order: of that stride alone.
template <Index Loop::* kStride, class F>
TENSORNORM_INLINE void for_each_around(LoopList outer, const F& f) {
  const Loop last = outer.depth > 0 ? outer.loops[--outer.depth] : Loop{1, {}, 0, 0};
  Odometer at(outer);
  for (Index k = outer.size(); k > 0; --k, at.next()) {
    Index offset = kStride == &Loop::statistic ? at.offsets().statistic : at.offsets().param;
    for (Index i = 0; i < last.extent; ++i, offset += last.*kStride) f(offset);
  }
}

/// The innermost of the loops, as one with those that only go on where it ends; `depth`: how many are left.
template <Index Loop::* kStride>
Loop inner_loop(const LoopList& loops, int& depth) {
  depth = loops.depth - 1;
  Loop inner = loops.loops[depth];
  for (; depth > 0 && loops.loops[depth - 1].*kStride == inner.extent * (inner.*kStride); --depth)
    inner.extent *= loops.loops[depth - 1].extent;
  return inner;
}

/// The statistic's (or parameter's) value beside each of its columns; `from` is indexed by that stride of the loops. A line of zeros
/// follows, for the vector that is read across the end: what was there before might trap, or be nothing yet.
template <Index Loop::* kStride, class Source, class A>
void expand(const LoopList& columns, const Source* from, A* to) {
  LoopList outer;
  int depth;
  const Loop inner = inner_loop<kStride>(columns, depth);
  Index times = 1;  // that all comes again: loops around the others in which nothing changes
  for (int i = 0; i < depth; ++i) {
    if (outer.depth > 0 || columns.loops[i].*kStride != 0) outer.push(columns.loops[i]);
    else times *= columns.loops[i].extent;
  }
  A* end = to;
  for_each_around<kStride>(outer, [&](Index offset) TENSORNORM_INLINE_LAMBDA {
    const Source* source = from + offset;
    if (inner.*kStride == 0) fill_past(end, inner.extent, static_cast<A>(*source));
    else if (inner.*kStride == 1) copy_run(source, inner.extent, end);
    else for (Index i = 0; i < inner.extent; ++i) end[i] = static_cast<A>(source[i * (inner.*kStride)]);
    end += inner.extent;
  });
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
  --outer.depth;
  const Loop inner = columns.loops[outer.depth];
  for_each_around<kStride>(outer, [&](Index offset) TENSORNORM_INLINE_LAMBDA {
    const SumArray<A, S> target = to.from(offset);
    if (inner.*kStride == 1) {
      add_to(target, from, inner.extent);
    } else if (inner.*kStride != 0) {
      for (Index i = 0; i < inner.extent; ++i) target.add(i * (inner.*kStride), S(from[i]));
    } else if (inner.extent < virtual_width<S>) {
      add_few(target, from, inner.extent);
    } else {
      add_sum(target, from, inner.extent);
    }
    from += inner.extent;
  });
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
  const Index step = inner.data[0];
  dispatch_part<A>([&]<class I>() TENSORNORM_INLINE_LAMBDA {
    using L = HardwareLanes<A, I>;
    Odometer at(outer);
    for (Index k = outer.size(); k > 0; --k, at.next()) {
      A* const to = pivot + at.offsets().statistic;
      const Index from = at.offsets().data[0];
      Index c = 0;
      const auto add_vectors = [&]<class V>(V mean) TENSORNORM_INLINE_LAMBDA {
        for (; c + V::width <= inner.extent; c += V::width, mean = V()) {
          for (Index i = 0; i < samples; ++i) mean.fma(V::load(sample[i] + from + c), V(share));
          mean.store(to + c);
        }
      };
      if (step == 1) {
        add_vectors(VirtualLanes<A, I>());  // a line at once, or half of one: those of rows that are pages apart push each other out
        add_vectors(L());
      }
      for (; c < inner.extent; c += L::width) {  // in lanes as well: fused where those are, or small numbers had other bits
        const Index count = std::min<Index>(L::width, inner.extent - c);
        L mean;
        for (Index i = 0; i < samples; ++i) {
          const T* const first = sample[i] + from + c * step;
          mean.fma(L::of([&](int lane) TENSORNORM_INLINE_LAMBDA { return lane < count ? load_one<A>(first + lane * step) : A(0); }), L(share));
        }
        if (count == L::width) mean.store(to + c);
        else store_few(mean, to + c, count);
      }
    }
  });
  if (total >= kChunk) {
    Odometer at(outer);
    for (Index i = outer.size(); i > 0; --i, at.next()) {
      A* const to = pivot + at.offsets().statistic;
      const T* const first = sample[0] + at.offsets().data[0];
      for (Index c = 0; c < inner.extent; ++c) to[c] = coarse<A>(to[c], to[c] - load_one<A>(first + c * step));
    }
  }
  using Few = HardwareLanes<A, Isa<16>>;
  Index k = 0;  // an infinite element is to be the only one
  for (; k + Few::width <= statistics; k += Few::width) finite_or_zero(Few::load(pivot + k)).store(pivot + k);
  for (; k < statistics; ++k) pivot[k] = finite_or_zero(pivot[k]);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
