// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/backward_walks.hpp>
#include <tensornorm/ops/short_rows.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// RowBackward where each statistic is of one short run, or of a few: of kTogether statistics first all sums, then all coefficients, then all
/// elements. Beside its parameters only where gradients are wanted. One whose x needs a scale goes to RowBackward. Of one run the same bits as
/// of RowBackward.
template <class Args>
struct ShortRowBackward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const RowWalk& walk;
  Index first, last;  ///< statistics in the order of memory
  ParameterSums<A, S> totals;
  A *dweight, *dbias;  ///< as RowBackward has them
  Index params;

  template <class I>
  TENSORNORM_INLINE void run() const {
    static_assert(kRowsPerFold % kTogether == 0);
    const SliceOffsets slices(walk.slices);
    const bool beside = walk.run.param != 0;
    Index pending = 0;
    for_each_few(walk, first, last, [&](Index k, Index count, const Offsets& at, const Loop& row) TENSORNORM_INLINE_LAMBDA {
      differentiate<I>(k, count, at, row, slices);
      pending += count;
      if (!beside || (pending < kRowsPerFold && k + count < last) || totals.dweight.sum == nullptr) return;
      fold_tile<A, S, I>({dweight, dbias}, params, totals.dweight.sum, totals.dbias.sum);
      pending = 0;
    });
  }

 private:
  template <class I>
  TENSORNORM_INLINE void differentiate(Index k, Index count, const Offsets& at, const Loop& row, const SliceOffsets& slices) const {
    using L = HardwareLanes<A, I>;
    using U = Uniform<L>;
    const Index n = walk.run.extent;
    S rests[kTogether], units[kTogether];
    A means[kTogether], factors[kTogether], rstds[kTogether], shifts[kTogether], slopes[kTogether], offsets[kTogether];
    const GradientCenterArrays<A, S> centers{rests, units, means, factors, rstds, shifts, slopes, offsets};
    const auto made = centers.template set<I>(args, at.statistic, row.statistic, count);
    const auto x_of = [x = args.x + at.data[0], &slices, &row](Index j, Index i) TENSORNORM_INLINE_LAMBDA {
      return x + slices.data[0][j] + i * row.data[0];
    };
    const auto dy_of = [dy = args.dy + at.data[1], &slices, &row](Index j, Index i) TENSORNORM_INLINE_LAMBDA {
      return dy + slices.data[1][j] + i * row.data[1];
    };
    const auto param_of = [&](Index i) TENSORNORM_INLINE_LAMBDA { return at.param + i * row.param; };
    /// write(i, x, dy, dx) for all that are not scaled
    const auto for_each_run = [&](const auto& write) TENSORNORM_INLINE_LAMBDA {
      for (Index j = 0; j < slices.count; ++j) {
        T* dx = args.dx + at.data[2] + slices.data[2][j];
        for (Index i = 0; i < count; ++i, dx += row.data[2])
          if (!made.scaled || factors[i] == A(1)) write(i, x_of(j, i), dy_of(j, i), dx);
      }
    };
    if (walk.run.param != 0) {
      ShortGradientSums<A, S, I> sums(count, 1, n, [&](Index j, Index i, const auto& f) TENSORNORM_INLINE_LAMBDA {
        if (factors[i] != A(1)) return alone(k + i);  // here, since gradients are added up in the order of rows
        with_parameters(args, dweight, dbias, param_of(i), [&]<class P>(const P* weight, P* dweight_beside, P* dbias_beside) TENSORNORM_INLINE_LAMBDA {
          const RowGradients<A, P> beside{means[i], rstds[i], shifts[i], weight, dweight_beside, dbias_beside};
          row_gradient_lanes<true, true, A, I>(x_of(j, i), dy_of(j, i), n, beside, {}, f);
        });
      });
      centers.template finish<I>(args, at.statistic, row.statistic, count, made.in_lanes, sums.plain, sums.centered);
      for_each_run([&](Index i, const T* x, const T* dy, T* dx) TENSORNORM_INLINE_LAMBDA {
        with_parameters(args, dweight, dbias, param_of(i), [&]<class P>(const P* weight, P*, P*) TENSORNORM_INLINE_LAMBDA {
          WeightedGradientMap<L, T, U, PerElement<L, P>> map(dy, uniform<A, I>(means[i]), uniform<A, I>(rstds[i]), uniform<A, I>(slopes[i]),
                                                            uniform<A, I>(offsets[i]), {weight});
          transform_run<A, I>(x, dx, n, map, {}, Store::ordinary);
        });
      });
    } else {
      ShortGradientSums<A, S, I> sums(count, slices.count, n, [&](Index j, Index i, const auto& f) TENSORNORM_INLINE_LAMBDA {
        if (factors[i] != A(1)) return;
        const RowGradients<A> row_of{means[i], A(0), A(0), nullptr, nullptr, nullptr};
        row_gradient_lanes<false, false, A, I>(x_of(j, i), dy_of(j, i), n, row_of, {}, f);
      });
      A scales[kTogether];
      for (Index i = 0; i < count; ++i) {
        if (factors[i] != A(1)) {
          alone(k + i);
          continue;
        }
        const S weight = args.weight != nullptr ? S(args.weight[param_of(i)]) : S(1);
        if (args.gradients) {
          totals.dweight.add(param_of(i), units[i], fused<S>(rests[i], sums.plain[i], sums.centered[i]));
          totals.dbias.add(param_of(i), sums.plain[i]);
        }
        sums.plain[i] = weight * sums.plain[i];
        sums.centered[i] = weight * sums.centered[i];
      }
      centers.template finish<I>(args, at.statistic, row.statistic, count, made.in_lanes, sums.plain, sums.centered);
      for (Index i = 0; i < count; ++i)
        scales[i] = static_cast<A>(S(rstds[i]) * (args.weight != nullptr ? S(args.weight[param_of(i)]) : S(1)));
      if (args.dx != nullptr)
        for_each_run([&](Index i, const T* x, const T* dy, T* dx) TENSORNORM_INLINE_LAMBDA {
          GradientMap<L, T, U> map(dy, uniform<A, I>(means[i]), uniform<A, I>(scales[i]), uniform<A, I>(slopes[i]), uniform<A, I>(offsets[i]));
          transform_run<A, I>(x, dx, n, map, {}, Store::ordinary);
        });
    }
  }
  /// Beside parameters without totals nothing is folded.
  TENSORNORM_RARE void alone(Index k) const {
    const ParameterSums<A, S> none;
    dispatch(RowBackward<Args>{args, walk, Store::ordinary, false, k, k + 1, walk.run.param != 0 ? none : totals, dweight, dbias, params});
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
