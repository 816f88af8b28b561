// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/axes/loop_nest.hpp>
#include <tensornorm/kernels/dispatch.hpp>
#include <tensornorm/kernels/load.hpp>
#include <tensornorm/kernels/scale.hpp>

namespace tensornorm::kernels {

/// Elements whose mean is the pivot of a statistic in the column form: a power of two, by which dividing rounds nothing.
inline constexpr Index kPivotSamples = 16;

inline namespace TENSORNORM_ABI {

/// One element of each of `samples` equal stretches of [0, total), at irregular places: regular ones would meet the same pixel of every
/// image, or the period of whatever made the data. `samples` is a power of two, kPivotSamples at most, and i one of them.
inline Index sample_position(Index i, Index samples, Index total) {
  static constexpr auto places = [] {
    constexpr double golden = 0.6180339887498949;
    FixedArray<double, int(kPivotSamples)> at{};
    for (int k = 0; k < kPivotSamples; ++k) {
      const double turn = golden * double(k + 1);
      at[k] = double(k) + (turn - double(Index(turn)));
    }
    return at;
  }();
  return std::min(Index(places[i] * (double(total) / double(samples))), total - 1);
}

/// pivot[k] = the mean of a few elements of statistic k, spread over its rows and columns; 0 where one of them is not finite:
/// an infinite element is to be the only one.
template <class A, class T>
TENSORNORM_CALLED void sample_pivots(const T* x, Index rows, Index row_stride, const LoopList& columns, A* pivot) {
  LoopList kept, reduced;
  for (int i = 0; i < columns.depth; ++i) (columns.loops[i].statistic == 0 ? reduced : kept).push(columns.loops[i]);
  const Index folded = reduced.size(), total = rows * folded;
  Index samples = kPivotSamples;
  while (samples > total) samples /= 2;
  const A share = A(1.0 / double(samples));  // of each sample at once: their sum might overflow
  const T* sample[kPivotSamples];
  for (Index i = 0; i < samples; ++i) {
    const Index position = sample_position(i, samples, total);
    sample[i] = x + (folded == 1 ? position * row_stride
                                 : position / folded * row_stride + Odometer(reduced, position % folded).offsets().data[0]);
  }
  const int around = std::max(kept.depth - 1, 0);  // loops around the innermost
  const Loop inner = kept.depth > 0 ? kept.loops[around] : Loop{1, {1, 1, 1}, 1, 0};
  const Index step = inner.data[0];
  dispatch_as<A>([&]<class I>() TENSORNORM_INLINE_LAMBDA {
    using L = HardwareLanes<A, I>;
    Odometer at(kept, 0, around);
    for (Index k = kept.size_of(around); k > 0; --k, at.next()) {
      A* const to = pivot + at.offsets().statistic;
      const Index from = at.offsets().data[0];
      Index c = 0;
      const auto add_vectors = [&]<class V>(V mean) TENSORNORM_INLINE_LAMBDA {
        for (; c + V::width <= inner.extent; c += V::width, mean = V()) {
          for (Index i = 0; i < samples; ++i) mean.fma(V::load(sample[i] + from + c), V(share));
          finite_or_zero(mean).store(to + c);
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
          if (step == 1) mean.fma(load_few<L, A>(first, count), L(share));
          else mean.fma(L::of([&](int lane) TENSORNORM_INLINE_LAMBDA { return lane < count ? load_one<A>(first + lane * step) : A(0); }), L(share));
        }
        mean = finite_or_zero(mean);
        if (count == L::width) mean.store(to + c);
        else store_few(mean, to + c, count);
      }
    }
  });
  if (total < kChunk) return;
  Odometer at(kept, 0, around);
  for (Index i = kept.size_of(around); i > 0; --i, at.next()) {
    A* const to = pivot + at.offsets().statistic;
    const T* const first = sample[0] + at.offsets().data[0];
    for (Index c = 0; c < inner.extent; ++c) to[c] = coarse<A>(to[c], to[c] - load_one<A>(first + c * step));
  }
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
