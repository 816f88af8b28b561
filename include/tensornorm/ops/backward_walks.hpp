// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/kernels/backward.hpp>
#include <tensornorm/kernels/column_sums.hpp>
#include <tensornorm/ops/forward_walks.hpp>
#include <tensornorm/ops/gradient_centers.hpp>

namespace tensornorm::kernels {

/// One backward call below the axes.
template <class T>
struct BackwardArguments {
  using Element = T;
  using A = accumulator_t<T>;
  using S = statistic_t<T>;

  const T* x = nullptr;
  const T* dy = nullptr;
  T* dx = nullptr;            ///< null: parameters only
  const A* weight = nullptr;  ///< null: 1, unless a parameter changes within a statistic
  /// Of one row of a 16-bit type, in the place of weight and of the arrays that gradients are added up in: as the caller has them.
  const T* given_weight = nullptr;
  T *given_dweight = nullptr, *given_dbias = nullptr;
  StatisticsRule rule;
  Index samples = 1;
  StatisticsArrays<const S> statistics;
  bool constant = false;    ///< the statistics do not depend on x
  bool normalized = false;  ///< x holds the norm itself
  bool gradients = false;   ///< weight and bias gradients are wanted

  TENSORNORM_INLINE BackwardArguments() {}  ///< not constexpr, as that of ForwardArguments
};

/// f(weight, dweight, dbias): those beside a run, from `param` on, of whichever type they are; dbias may be null, and the two of them where
/// nobody asks for gradients.
template <class Args, class A, class F>
TENSORNORM_INLINE void with_parameters(const Args& args, A* dweight, A* dbias, Index param, const F& f) {
  const auto from = [&]<class P>(P* values) TENSORNORM_INLINE_LAMBDA { return values != nullptr ? values + param : nullptr; };
  if constexpr (Narrow<typename Args::Element>)
    if (args.given_weight != nullptr) return f(args.given_weight + param, from(args.given_dweight), from(args.given_dbias));
  f(args.weight + param, from(dweight), from(dbias));
}

/// Gradients of weight and bias as they are added up, one value per parameter; a vector of zeros may be added after the last. Null where
/// nobody adds to them.
template <class A, class S>
struct ParameterSums {
  SumArray<A, S> dweight, dbias;
};

/// Gradients of a statistic may be written beside the sums of the next one. Not where types are converted, which takes as long as memory.
template <class A, class T>
inline constexpr bool may_write_beside_next = streams_vectors<A> && !Narrow<T>;

/// Rows whose gradients beside the elements are added up in A before S takes them: at half as many, the folding costs another 3 %.
inline constexpr Index kRowsPerFold = 2 * kTileRows;

inline namespace TENSORNORM_ABI {

/// The sums of n elements of one weight.
template <class I, class A, class S, class T>
TENSORNORM_NESTED void add_elements(const T* x, const T* dy, Index n, const ReadAhead& ahead, const GradientCenter<A, S>& center,
                                    GradientSums<S>& run, GradientSums<S>& rests) {
  const RowGradients<A> row{center.mean, A(0), A(0), nullptr, nullptr, nullptr, true};
  row_gradient_sums<false, false, A, S, I>(x, dy, n, row, ahead, run, rests);
}
/// Adds to the gradients of the parameter at p, or of a vector of them from there on, the sums of what has such a center.
template <class Args, class A, class S, class V>
TENSORNORM_NESTED void add_to_parameters(const Args& args, const ParameterSums<A, S>& totals, Index p, const V& unit, const V& rest, const V& plain,
                                         const V& centered) {
  if (!args.gradients) return;
  totals.dweight.add(p, unit, fused<V>(rest, plain, centered));
  totals.dbias.add(p, plain);
}
/// Adds a run of one weight to its statistic and to the gradients of its parameters.
template <class Args, class A, class S>
TENSORNORM_NESTED void add_to_statistic(const Args& args, const ParameterSums<A, S>& totals, Index param, const GradientCenter<A, S>& center,
                                        const GradientSums<S>& run, GradientSums<S>& sums, GradientSums<S>& rests) {
  const S weight = args.weight != nullptr ? S(args.weight[param]) : S(1);
  add_to_parameters(args, totals, param, center.unit, center.rest, run.plain, run.centered);
  accumulate<keeps_rest<A, S>>(sums.plain, rests.plain, weight, run.plain);
  accumulate<keeps_rest<A, S>>(sums.centered, rests.centered, weight, run.centered);
}
/// Writes dx of n elements of one weight.
template <class I, class Args, class A, class S, class T>
TENSORNORM_NESTED void write_elements(const Args& args, const T* x, const T* dy, T* dx, Index n, Index param, const GradientCenter<A, S>& center,
                                      const ReadAhead& ahead, Store how) {
  using L = HardwareLanes<A, I>;
  const S weight = args.weight != nullptr ? S(args.weight[param]) : S(1);
  // Rounded twice, as columns have it: where statistics are given, an example's dx is the same by either walk.
  const A rstd = static_cast<A>(center.rstd), scale = static_cast<A>(S(rstd) * weight);
  GradientMap<L, T, Uniform<L>> map(dy, uniform<A, I>(center.mean), uniform<A, I>(scale), uniform<A, I>(center.slope),
                                          uniform<A, I>(center.offset));
  transform_run<A, I>(x, dx, n, map, ahead, how);
}

/// Row form: one statistic at a time, its sums, then its gradients while x and dy are in the cache, the last run first. Or, so that the
/// processor reads and writes at once, the gradients of a statistic part by part beside the sums of the next one.
template <class Args>
struct RowBackward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const RowWalk& walk;
  Store store;
  bool beside_next;   ///< gradients of a statistic are written beside the sums of the next one; only where they stream and depend on x
  Index first, last;  ///< statistics in the order of memory
  ParameterSums<A, S> totals;
  A *dweight, *dbias;  ///< where parameters lie beside the elements: a few rows' gradients, folded into the totals unless those are null;
                       ///< dbias null: not wanted
  Index params;
  bool padded = false;  ///< dweight and dbias have a line before and after them

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    const bool beside = walk.run.param != 0;
    const Index runs = walk.runs.size(), folded_after = kRowsPerFold * walk.runs_apart();
    const bool streams = store == Store::streaming;
    const bool sums_up = args.gradients || !args.constant;
    const bool by_sums = sums_up && beside && runs == 1 && !Narrow<T> && walk.run.extent * Index(sizeof(T)) <= kFetchedBySums;
    const bool fetches = streams && !last_level_is_far() && !by_sums;
    Odometer kept(walk.kept, first), forwards(walk.runs), backwards(walk.runs, runs - 1);
    Index pending = 0;
    Unwritten before;
    for (Index k = first; k < last; ++k) {
      const bool waits = may_write_beside_next<A, T> && beside_next && k > first;  // `before` is to be written
      const Offsets at = kept.offsets();
      if (k + 1 < last) kept.next();
      GradientCenter<A, S> center(args, at.statistic);
      GradientSums<S> sums, rests;
      if (sums_up) {
        for (Index i = runs; i > 0; --i) {
          const Offsets here = at + forwards.offsets();
          forwards.next();
          ReadAhead ahead;
          if (streams) {
            const Index next = (i > 1 ? at : kept.offsets()).data[0] + forwards.offsets().data[0];
            ahead = read_on<T>(walk.run.extent, next - here.data[0]);
          }
          if (waits) {
            before.run = before.at + backwards.offsets();
            backwards.previous();
          }
          add_run<I>(here, ahead, center, sums, rests, waits ? &before : nullptr);
          if (!args.gradients || !beside || totals.dweight.sum == nullptr) continue;
          if (++pending == folded_after || (i == 1 && k + 1 == last)) {
            fold_tile<A, S, I>({dweight, dbias}, params, totals.dweight.sum, totals.dbias.sum);
            pending = 0;
          }
        }
      }
      if (args.dx == nullptr) continue;
      center.finish(args, sums);
      if constexpr (may_write_beside_next<A, T>)
        if (beside_next && k + 1 < last) {
          before = {at, {}, center};
          continue;
        }
      ReadAhead ahead{fetches ? kept.offsets().data[0] - at.data[0] : 0};
      if (ahead.distance <= kFetchAhead<T>) ahead.distance *= 2;  // the sums of a statistic have fetched the next one
      for (Index i = runs; i > 0; --i, backwards.previous())
        write_run<I>(at + backwards.offsets(), center, 0, walk.run.extent, ahead, store);
    }
    if (streams) fence();
  }

 private:
  /// A statistic whose sums are there.
  struct Unwritten {
    Offsets at, run;
    GradientCenter<A, S> center;
  };

  /// Adds a run to the sums of its statistic, and writes that of `before`, if there is one.
  template <class I>
  TENSORNORM_NESTED void add_run(const Offsets& at, const ReadAhead& ahead, const GradientCenter<A, S>& center, GradientSums<S>& sums,
                                 GradientSums<S>& rests, const Unwritten* before) const {
    const Index extent = walk.run.extent;
    const bool scaled = center.factor != A(1);
    const Index step = scaled ? ScaledBlock<A, T>::size : before != nullptr ? kBlock<A> : extent;
    GradientSums<S> run, run_rests;
    for (Index i = 0, written = 0; i < extent; i += step) {
      const Index n = std::min(step, extent - i), param = at.param + i * walk.run.param;
      ScaledBlock<A, T> copy;
      const T *x = args.x + at.data[0] + i, *dy = args.dy + at.data[1] + i;
      const ReadAhead from_here = scaled ? ReadAhead{} : ahead.part(i);
      if (scaled) x = copy.fill(x, n, center.factor);
      if (walk.run.param == 0) {
        add_elements<I, A, S>(x, dy, n, from_here, center, run, run_rests);
      } else {
        const auto add = [&]<class P>(const P* weight, P* dweight_beside, P* dbias_beside) TENSORNORM_NESTED_LAMBDA {
          const RowGradients<A, P> row{center.mean, static_cast<A>(center.unit), center.shift(), weight, dweight_beside, dbias_beside, padded};
          if (args.gradients) row_gradient_sums<true, true, A, S, I>(x, dy, n, row, from_here, run, run_rests);
          else row_gradient_sums<true, false, A, S, I>(x, dy, n, row, from_here, run, run_rests);
        };
        with_parameters(args, dweight, dbias, param, add);
      }
      if constexpr (may_write_beside_next<A, T>)
        if (before != nullptr) {
          // In whole lines: what a part would leave of its last one is written with the next.
          static_assert(kBlock<A> >= 2 * kLine<T>);
          const T* const dx = args.dx + before->run.data[2];
          const Index end = i + n < extent ? i + n - elements_past_line(dx + i + n) : extent;
          write_run<I>(before->run, before->center, written, end, {}, Store::streaming);
          written = end;
        }
    }
    if (walk.run.param == 0) return add_to_statistic(args, totals, at.param, center, run, sums, rests);
    accumulate<keeps_rest<A, S>>(sums.plain, rests.plain, run.plain);
    accumulate<keeps_rest<A, S>>(sums.centered, rests.centered, run.centered);
  }
  /// Writes elements [begin, end) of a run.
  template <class I>
  TENSORNORM_NESTED void write_run(const Offsets& at, const GradientCenter<A, S>& center, Index begin, Index end, const ReadAhead& ahead,
                                   Store how) const {
    using L = HardwareLanes<A, I>;
    using U = Uniform<L>;
    U mean = uniform<A, I>(center.mean), slope = uniform<A, I>(center.slope), offset = uniform<A, I>(center.offset);
    const bool scaled = center.factor != A(1) && !args.constant;
    const Index step = scaled ? ScaledBlock<A, T>::size : end - begin;
    for (Index i = begin; i < end; i += step) {
      const Index n = std::min(step, end - i), param = at.param + i * walk.run.param;
      ScaledBlock<A, T> copy;
      const T* dy = args.dy + at.data[1] + i;
      const T* x = args.constant ? dy : args.x + at.data[0] + i;  // constants: dx does not depend on x
      if (scaled) x = copy.fill(x, n, center.factor);
      T* dx = args.dx + at.data[2] + i;
      if (walk.run.param == 0) {
        write_elements<I>(args, x, dy, dx, n, param, center, ahead, how);
      } else {
        const auto write = [&]<class P>(const P* weight, P*, P*) TENSORNORM_NESTED_LAMBDA {
          WeightedGradientMap<L, T, U, PerElement<L, P>> map(dy, mean, uniform<A, I>(static_cast<A>(center.rstd)), slope, offset, {weight});
          transform_run<A, I>(x, dx, n, map, ahead, how);
        };
        with_parameters(args, dweight, dbias, param, write);
      }
    }
  }
};

/// RowBackward in the caches where a run has one weight: with a loop for each of its passes, and nothing else. A statistic whose x needs
/// a scale goes to RowBackward. The same bits as of RowBackward.
template <class Args>
struct CachedRowBackward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const RowWalk& walk;
  bool fetches_slices;  ///< as in RowForward
  Index first, last;  ///< statistics in the order of memory
  ParameterSums<A, S> totals;

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    Odometer kept(walk.kept, first);
    for (Index k = first; k < last; ++k) {
      const Offsets at = kept.offsets();
      if (k + 1 < last) kept.next();
      GradientCenter<A, S> center(args, at.statistic);
      if (center.factor == A(1)) differentiate<I>(at, fetches_slices ? kept.offsets() : at, center);
      else alone(k);
    }
  }

 private:
  /// Asks for the runs from `next` on, unless that is where it is.
  template <class I>
  TENSORNORM_NESTED void differentiate(const Offsets& at, const Offsets& next, GradientCenter<A, S>& center) const {
    GradientSums<S> sums, rests;
    if (args.gradients || !args.constant)
      for_each_position<false>(walk.runs, at, [&](const Offsets& here) TENSORNORM_NESTED_LAMBDA {
        GradientSums<S> run, run_rests;
        add_elements<I, A, S>(args.x + here.data[0], args.dy + here.data[1], walk.run.extent, {}, center, run, run_rests);
        add_to_statistic(args, totals, here.param, center, run, sums, rests);
      });
    if (args.dx == nullptr) return;
    center.finish(args, sums);
    const Index x_to_next = next.data[0] - at.data[0], dy_to_next = next.data[1] - at.data[1];
    for_each_position<true>(walk.runs, at, [&](const Offsets& here) TENSORNORM_NESTED_LAMBDA {
      const T* dy = args.dy + here.data[1];
      if (x_to_next != 0) {
        if (args.gradients || !args.constant) fetch_run(args.x + here.data[0] + x_to_next, walk.run.extent, false);
        fetch_run(dy + dy_to_next, walk.run.extent, false);
      }
      // Constants: dx does not depend on x.
      write_elements<I>(args, args.constant ? dy : args.x + here.data[0], dy, args.dx + here.data[2], walk.run.extent, here.param, center, {},
                        Store::ordinary);
    });
  }
  TENSORNORM_RARE void alone(Index k) const {
    dispatch(RowBackward<Args>{args, walk, Store::ordinary, false, k, k + 1, totals, nullptr, nullptr, 0});
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
