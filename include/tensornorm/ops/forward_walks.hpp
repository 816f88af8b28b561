// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/scratch.hpp>
#include <tensornorm/kernels/fold.hpp>
#include <tensornorm/kernels/normalize.hpp>
#include <tensornorm/kernels/slices.hpp>
#include <tensornorm/ops/finished_statistics.hpp>
#include <tensornorm/ops/schedule.hpp>

namespace tensornorm::kernels {

// The schedules as they run inside an instruction set: the loops around the row and the column kernels.

/// One forward call below the axes: pointers, a rule, and what is wanted of it.
template <class T>
struct ForwardArguments {
  using Element = T;
  using A = accumulator_t<T>;
  using S = statistic_t<T>;

  const T* x = nullptr;
  T* y = nullptr;             ///< null: moments only
  const A* weight = nullptr;  ///< null: 1. Not null where there is a bias and a parameter changes within a statistic.
  const A* bias = nullptr;    ///< null: -0. Where a parameter changes within a statistic, null only in the row form.
  const T *given_weight = nullptr, *given_bias = nullptr;  ///< in their place beside few rows of a 16-bit type, as the caller has them
  StatisticsRule rule;
  Index samples = 1;
  StatisticsArrays<S> statistics;  ///< written; or, by the frozen walks, read

  /// Not constexpr, as it would be by default: of an object known when it is compiled g++ 12 makes zeros by a slow instruction first.
  TENSORNORM_INLINE ForwardArguments() {}
};

inline namespace TENSORNORM_ABI {

template <class A, class I>
TENSORNORM_INLINE auto uniform(A value) {
  using L = HardwareLanes<A, I>;
  return Uniform<L>{L(value)};
}

/// Weight and bias are multiplied and added element by element.
template <class Args>
TENSORNORM_INLINE bool lies_beside(const Args& args, bool beside) {
  if constexpr (Narrow<typename Args::Element>)
    if (args.given_weight != nullptr) return beside;
  return beside && args.weight != nullptr;
}

/// What a run with one statistic is normalized with: (x - mean) * scale + shift. That holds weight and bias where they do not lie `beside`.
template <class A>
struct Coefficients {
  A mean, scale, shift;
};
template <class Args, class C>
TENSORNORM_INLINE Coefficients<typename Args::A> coefficients(const Args& args, const C& center, Index param, bool beside = false) {
  using S = typename Args::S;
  if (lies_beside(args, beside)) return {center.mean, center.scale(S(1)), center.shift(S(1), S(-0.0))};
  const S w = args.weight != nullptr ? S(args.weight[param]) : S(1), b = args.bias != nullptr ? S(args.bias[param]) : S(-0.0);
  return {center.mean, center.scale(w), center.shift(w, b)};
}

/// The shift of lanes, from their scale before it is rounded.
template <class V>
TENSORNORM_INLINE V shift_of(const V& rest, const V& factor, const V& bias) {
  return fused(rest, factor, bias).or_where_zero(rest, bias);
}
/// The same of lanes: scale and shift.
template <class V, class A>
TENSORNORM_INLINE void store_coefficients(const V& rstd, const V& rest, const V& weight, const V& bias, A* scale, A* shift) {
  const V factor = rstd * weight;
  factor.store(scale);
  shift_of(rest, factor, bias).store(shift);
}
/// The same of columns that have parameters of their own, from `param` on: by Wide, as many as L has lanes.
template <class L, class F, class Args, class Wide>
TENSORNORM_INLINE ScaleMap<L, Uniform<L>> map_of_columns(const Args& args, Index param, const L& mean, const F& rest, const F& rstd,
                                                         const Wide& wide) {
  using S = typename Args::S;
  const F weight = args.weight != nullptr ? wide(args.weight + param) : F(S(1)), bias = args.bias != nullptr ? wide(args.bias + param) : F(S(-0.0));
  const F factor = rstd * weight;
  return {{mean}, {rounded<L>(factor)}, {rounded<L>(shift_of(rest, factor, bias))}};
}
/// The same, with given statistics of their own, from `statistic` on.
template <class L, class F, class Args, class Wide>
TENSORNORM_INLINE ScaleMap<L, Uniform<L>> map_of_columns(const Args& args, Index param, Index statistic, const Wide& wide) {
  using S = typename Args::S;
  typename Args::A memory[std::size_t(L::width)];
  const StatisticsArrays<S>& from = args.statistics;
  const F mean = wide(from.mean + statistic);
  const F rest = store_mean(mean, from.mean_lo != nullptr ? wide(from.mean_lo + statistic) : F(S(0)), memory);
  return map_of_columns<L, F>(args, param, rounded<L>(mean), rest, F(wide(from.rstd + statistic)), wide);
}
/// The same of `count` runs of one statistic, whose parameters lie at `param` and every `step` elements from there on.
template <class I, class Args, class C, class A>
TENSORNORM_INLINE void make_coefficients(const Args& args, const C& center, Index param, Index step, Index count, A* scale, A* shift) {
  using S = typename Args::S;
  Index i = 0;
  if constexpr (finishes_in_lanes<S, I>()) {
    using V = HardwareLanes<S, I>;
    const auto load = [&](const A* values, S none) TENSORNORM_INLINE_LAMBDA {
      return values != nullptr ? V::load(values + param + i) : V(none);
    };
    V rstd(center.rstd), rest(center.rest);
    for (const Index end = step == 1 ? count / V::width * V::width : 0; i < end; i += V::width)
      store_coefficients(rstd, rest, load(args.weight, S(1)), load(args.bias, S(-0.0)), scale + i, shift + i);
  }
  for (; i < count; ++i) {
    const Coefficients<A> k = coefficients(args, center, param + i * step);
    scale[i] = k.scale;
    shift[i] = k.shift;
  }
}

/// (x - mean) * scale + shift of a run.
template <class A, class I>
TENSORNORM_INLINE auto uniform_map(const Coefficients<A>& k) {
  using L = HardwareLanes<A, I>;
  return ScaleMap<L, Uniform<L>>{uniform<A, I>(k.mean), uniform<A, I>(k.scale), uniform<A, I>(k.shift)};
}

/// Calls f(map), where map(coefficients, param) is the map of a run with one statistic; where weight and bias lie beside it, from `param` on.
template <class I, class Args, class F>
TENSORNORM_INLINE void with_map(const Args& args, bool beside, const F& f) {
  using A = typename Args::A;
  using L = HardwareLanes<A, I>;
  if (!lies_beside(args, beside))
    return f([](const Coefficients<A>& k, Index) TENSORNORM_INLINE_LAMBDA { return uniform_map<A, I>(k); });
  const auto affine = [&]<class P>(const P* weight, const P* bias) TENSORNORM_INLINE_LAMBDA {
    const auto with_bias = [&](const auto& last) TENSORNORM_INLINE_LAMBDA {
      f([&](const Coefficients<A>& k, Index param) TENSORNORM_INLINE_LAMBDA {
        auto bias_of_run = last(param);
        return AffineMap<L, Uniform<L>, PerElement<L, P>, decltype(bias_of_run)>{
            uniform<A, I>(k.mean), uniform<A, I>(k.scale), uniform<A, I>(k.shift), {weight + param}, bias_of_run};
      });
    };
    if (bias != nullptr) with_bias([&](Index param) TENSORNORM_INLINE_LAMBDA { return PerElement<L, P>{bias + param}; });
    else with_bias([](Index) TENSORNORM_INLINE_LAMBDA { return uniform<A, I>(A(-0.0)); });
  };
  if constexpr (Narrow<typename Args::Element>)
    if (args.given_weight != nullptr) return affine(args.given_weight, args.given_bias);
  affine(args.weight, args.bias);
}

/// One run with one statistic; weight and bias one value each, or beside the elements.
template <class I, class Args, class C>
TENSORNORM_INLINE void normalize_run(const Args& args, const C& center, const Offsets& at, const Loop& run, const ReadAhead& ahead, Store store) {
  using T = typename Args::Element;
  using A = typename Args::A;
  const bool scaled = center.factor != A(1);
  const Index step = scaled ? ScaledBlock<A, T>::size : run.extent;
  for (Index i = 0; i < run.extent; i += step) {
    const Index n = scaled ? std::min(step, run.extent - i) : run.extent;
    ScaledBlock<A, T> copy;
    const T* x = args.x + at.data[0] + i;
    if (scaled) x = copy.fill(x, n, center.factor);
    const Index param = at.param + i * run.param;
    with_map<I>(args, run.param != 0, [&](const auto& map) TENSORNORM_INLINE_LAMBDA {
      transform_run<A, I>(x, args.y + at.data[1] + i, n, map(coefficients(args, center, param, run.param != 0), param), ahead, store);
    });
  }
}

/// Runs of a statistic whose coefficients are made at once, at most. One for types without vectors.
template <class S>
inline constexpr Index kRunsMade = virtual_width<S> > 1 ? 64 : 1;

/// Sliced: one statistic at a time, its moments, then its elements while they are in the cache, the last slices first.
/// Frozen: the statistics are read, and the runs taken as they lie in memory.
template <class Args>
struct RowForward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const RowWalk& walk;
  Store store;
  bool frozen;
  Index first, last;  ///< statistics (frozen: runs) in the order of memory
  Index fetched_of_next = 0;  ///< elements of the next statistic to fetch before one is written, where each is one run
  bool fetches_slices = false;  ///< those of the next statistic, while one is written by ordinary stores

  template <class I>
  TENSORNORM_INLINE void operator()() const {
    const Index runs = walk.runs.size();
    const bool fetches = store == Store::streaming && (frozen || fetches_next(args.samples * Index(sizeof(T))));
    // An odometer that has been through all positions stands where it began.
    Odometer kept(walk.kept, first), slice(walk.slices), run(walk.runs, runs - 1);
    for (Index k = first; k < last; ++k) {
      const Offsets at = kept.offsets();
      if (k + 1 < last) kept.next();
      const Center<A, S> center = frozen ? center_of<A, T>(args.statistics, at.statistic) : moments<I>(at, slice);
      if (args.y == nullptr) continue;
      if (k + 1 < last) fetch_run(args.x + kept.offsets().data[0], fetched_of_next, true);
      const Index to_next = kept.offsets().data[0] - at.data[0];  // 0 from the last one
      if (store == Store::ordinary && walk.run.param == 0 && center.factor == A(1)) {
        write_runs<I>(center, at, fetches_slices ? to_next : 0);
        continue;
      }
      const Index next = fetches ? to_next : 0;
      const ReadAhead ahead = frozen && fetches ? read_on<T>(walk.run.extent, next) : ReadAhead{next};
      for (Index i = runs; i > 0; --i, run.previous()) normalize_run<I>(args, center, at + run.offsets(), walk.run, ahead, store);
    }
    if (store == Store::streaming) fence();
  }

 private:
  /// The runs of a statistic that have one weight each. The coefficients of a few of them are made before; the last few come first, but
  /// within them the processor fetches ahead of what is written. Those `next` elements on are asked for, unless that is 0.
  template <class I>
  TENSORNORM_INLINE void write_runs(const Center<A, S>& center, const Offsets& start, Index next) const {
    const Index n = walk.run.extent, most = std::clamp<Index>(kStretchBytes / (n * Index(sizeof(T))), 1, kRunsMade<S>);
    for_each_innermost<true>(walk.runs, start, [&](Offsets at, const Loop& inner) TENSORNORM_INLINE_LAMBDA {
      A scale[kRunsMade<S>], shift[kRunsMade<S>];
      const Index step = inner.param != 0 ? 1 : 0;  // from one to the next of those
      at.advance(inner, inner.extent);
      for (Index left = inner.extent; left > 0;) {
        const Index count = std::min(left, most);
        left -= count;
        at.advance(inner, -count);
        make_coefficients<I>(args, center, at.param, inner.param, step * (count - 1) + 1, scale, shift);
        const auto write = [&]<class J>(J, const auto& transform) TENSORNORM_INLINE_LAMBDA {
          const T* x = args.x + at.data[0];
          T* y = args.y + at.data[1];
          for (Index i = 0; i < count; ++i, x += inner.data[0], y += inner.data[1]) {
            if (next != 0) fetch_run(x + next, n, false);
            auto map = uniform_map<A, J>({center.mean, scale[step * i], shift[step * i]});
            transform(x, y, map);
          }
        };
        const bool few = with_few_vectors<A, I>(n, [&]<class J>(auto vectors, J isa) TENSORNORM_INLINE_LAMBDA {
          write(isa, [&](const T* x, T* y, auto& map) TENSORNORM_INLINE_LAMBDA {
            transform_few<decltype(vectors)::value, A, J>(x, y, n, map);
          });
        });
        if (few) continue;
        write(I(), [&](const T* x, T* y, auto& map) TENSORNORM_INLINE_LAMBDA { transform_run<A, I>(x, y, n, map, {}, Store::ordinary); });
      }
    });
  }

  template <class I>
  TENSORNORM_INLINE Center<A, S> moments(const Offsets& at, Odometer& slice) const {
    ScaledWelford<A, S> state;
    const T* const x = args.x + at.data[0];
    const Index slices = walk.slices.size();
    if (slices <= 2 || walk.length >= kLongSlice || !add_short_slices<I>(x, slice, state))
      for (Index i = 0; i < slices; ++i, slice.next()) row_moments<A, S, I>(x + slice.offsets().data[0], walk.length, args.rule.centered, state);
    return finish_statistic<A, T>(args.rule, args.samples, state, args.statistics, at.statistic);
  }

  /// All slices about one pivot, which is made of a few of them, and where that is a bad one once more about their mean; those that
  /// SliceSums::add() does not take about their own. Where a scale is needed, or the pivot is no number, nothing.
  template <class I>
  TENSORNORM_INLINE bool add_short_slices(const T* x, Odometer& slice, ScaledWelford<A, S>& state) const {
    const bool centered = args.rule.centered;
    const Loop& inner = walk.slices.loops[walk.slices.depth - 1];
    A pivot = centered ? pivot_of_slices<A, I>(x, walk.length, inner.extent, inner.data[0]) : A(0);
    for (bool again = false;; again = true) {
      if (centered && args.samples >= kChunk) pivot = coarse<A>(pivot, pivot - load_one<A>(x));
      SliceSums<A, S, I> sums(pivot);
      ScaledWelford<A, S> all;
      for (Index i = walk.slices.size(); i > 0; --i, slice.next()) {
        const T* const of_slice = x + slice.offsets().data[0];
        if (!sums.add(of_slice, walk.length, centered)) chunk_moments<A, S, I>(of_slice, walk.length, centered, sums.better, all);
      }
      if (!sums.template is_ordinary<T>()) return false;
      if constexpr (!keeps_rest<A, S>)
        if (centered && !again && sums.has_bad_pivot()) {
          pivot = sums.mean();
          continue;
        }
      sums.merge_into(all, centered);
      state = all;
      return true;
    }
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
