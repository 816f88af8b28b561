// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/kernels/staging.hpp>
#include <tensornorm/ops/forward_walks.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// RowForward for given statistics whose runs meet them again, none of them scaled: one set of coefficients for each step of the innermost
/// of walk.kept, made once.
template <class Args>
struct FrozenRunForward {
  using T = typename Args::Element;
  using A = typename Args::A;

  const Args& args;
  const RowWalk& walk;
  bool staged;  ///< y, in which runs follow each other without a gap, is written past the caches
  Index first, last;  ///< runs in the order of memory
  Coefficients<A>* made;  ///< memory for as many as that loop has steps

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    const Loop inner = walk.kept.loops[walk.kept.depth - 1];
    for (Index c = 0; c < inner.extent; ++c) made[c] = coefficients(args, center_of<A, T>(args.statistics, c * inner.statistic), c * inner.param);
    Odometer outer(walk.kept, first / inner.extent, walk.kept.depth - 1);
    Index streamed = 0;  // since a line was stored as usual
    for (Index c = first % inner.extent, left = last - first; left > 0; c = 0, outer.next()) {
      const Index count = std::min(inner.extent - c, left);
      left -= count;
      const T* x = args.x + outer.offsets().data[0] + c * inner.data[0];
      T* y = args.y + outer.offsets().data[1] + c * inner.data[1];
      const Coefficients<A>* const of = made + c;
      if constexpr (streams_vectors<A>) {
        if (staged) {
          if (walk.run.extent % kLine<T> == 0 && elements_past_line(y) == 0) stream<I>(x, y, inner, of, count, streamed);
          else gather<I>(x, y, inner, of, count);
          continue;
        }
      }
      for (Index k = 0; k < count; ++k, x += inner.data[0], y += inner.data[1]) write<I>(x, y, of[k]);
    }
    if (staged) fence();
  }

 private:
  template <class I>
  TENSORNORM_NESTED void write(const T* x, T* to, const Coefficients<A>& of) const {
    transform_run<A, I>(x, to, walk.run.extent, uniform_map<A, I>(of), {}, Store::ordinary);
  }
  /// Runs of whole lines that begin at one, past the caches. Paced as in transform_run(), across them.
  template <class I>
  TENSORNORM_NESTED void stream(const T* x, T* y, const Loop& step, const Coefficients<A>* of, Index count, Index& streamed) const {
    const bool paces = paces_streams();
    for (Index k = 0; k < count; ++k, x += step.data[0], y += step.data[1]) {
      streamed += walk.run.extent;
      const bool paced = paces && streamed >= kPacedLines * kLine<T>;
      if (paced) streamed = 0;
      stream_vectors<A, I>(x, y, 0, walk.run.extent, uniform_map<A, I>(of[k]), {kFetchAhead<T>}, paced);
    }
  }
  /// Other runs, written past the caches.
  template <class I>
  TENSORNORM_NESTED void gather(const T* x, T* y, const Loop& step, const Coefficients<A>* of, Index count) const {
    const bool to_l2 = fetches_to_l2();
    LineStage<T, kFrozenRun> stage(y);
    for (Index k = 0; k < count; ++k, x += step.data[0]) {
      for (Index i = 0; i < walk.run.extent; i += kLine<T>) fetch(x + 2 * kFetchAhead<T> + i, to_l2);
      write<I>(x, stage.template next<I>(walk.run.extent), of[k]);
    }
    stage.template finish<I>();
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
