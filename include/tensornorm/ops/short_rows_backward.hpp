// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/backward_walks.hpp>
#include <tensornorm/ops/short_rows.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// RowBackward where each statistic is of one short run beside its parameters, and dx and all gradients are wanted: of a few rows first
/// all sums, then all coefficients, then all elements. A row whose x needs a scale goes to RowBackward. The same bits as of RowBackward.
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
    Index pending = 0;
    for_each_few(walk, first, last, [&](Index k, Index count, const Offsets& at, const Loop& row) TENSORNORM_INLINE_LAMBDA {
      differentiate<I>(k, count, at, row);
      pending += count;
      if ((pending < kRowsPerFold && k + count < last) || totals.dweight.sum == nullptr) return;
      fold_tile<A, S, I>({dweight, dbias}, params, totals.dweight.sum, totals.dbias.sum);
      pending = 0;
    });
  }

 private:
  template <class I>
  TENSORNORM_INLINE void differentiate(Index k, Index count, const Offsets& at, const Loop& row) const {
    using L = HardwareLanes<A, I>;
    using U = Uniform<L>;
    const Index n = walk.run.extent;
    const T *x = args.x + at.data[0], *dy = args.dy + at.data[1];
    T* dx = args.dx + at.data[2];
    S rests[kTogether], units[kTogether], plain[kTogether], centered[kTogether];
    A means[kTogether], factors[kTogether], rstds[kTogether], shifts[kTogether], slopes[kTogether], offsets[kTogether];
    const GradientCenterArrays<A, S> centers{rests, units, means, factors, rstds, shifts, slopes, offsets};
    const Index in_lanes = centers.template set<I>(args, at.statistic, row.statistic, count).in_lanes;
    for (Index i = 0; i < count; ++i) {
      GradientSums<S> sums, rests_of_sums;
      if (factors[i] == A(1)) {
        const auto add = [&]<class P>(const P* weight, P* dweight_beside, P* dbias_beside) TENSORNORM_INLINE_LAMBDA {
          const RowGradients<A, P> beside{means[i], rstds[i], shifts[i], weight, dweight_beside, dbias_beside};
          row_gradient_sums<true, true, A, S, I>(x + i * row.data[0], dy + i * row.data[1], n, beside, {}, sums, rests_of_sums);
        };
        with_parameters(args, dweight, dbias, at.param + i * row.param, add);
      } else {
        alone(k + i);
      }
      plain[i] = sums.plain;
      centered[i] = sums.centered;
    }
    centers.template finish<I>(args, at.statistic, row.statistic, count, in_lanes, plain, centered);
    for (Index i = 0; i < count; ++i) {
      if (factors[i] != A(1)) continue;
      const T *xi = x + i * row.data[0], *dyi = dy + i * row.data[1];
      const auto write = [&]<class P>(const P* weight, P*, P*) TENSORNORM_INLINE_LAMBDA {
        WeightedGradientMap<L, T, U, PerElement<L, P>> map(dyi, uniform<A, I>(means[i]), uniform<A, I>(rstds[i]), uniform<A, I>(slopes[i]),
                                                          uniform<A, I>(offsets[i]), {weight});
        transform_run<A, I>(xi, dx + i * row.data[2], n, map, {}, Store::ordinary);
      };
      with_parameters(args, dweight, dbias, at.param + i * row.param, write);
    }
  }
  /// Without totals nothing is folded.
  TENSORNORM_RARE void alone(Index k) const {
    dispatch(RowBackward<Args>{args, walk, Store::ordinary, false, k, k + 1, {}, dweight, dbias, params});
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
