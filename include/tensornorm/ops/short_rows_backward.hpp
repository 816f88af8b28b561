// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/backward_walks.hpp>
#include <tensornorm/ops/short_rows.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// What the gradients of a few statistics meet.
template <class A, class S>
struct FewGradientCenters {
  S rest[kTogether], unit[kTogether];
  A mean[kTogether], factor[kTogether], rstd[kTogether], shift[kTogether], slope[kTogether], offset[kTogether];
  GradientCenterArrays<A, S> arrays{rest, unit, mean, factor, rstd, shift, slope, offset};
  typename GradientCenterArrays<A, S>::Made made;

  FewGradientCenters() {}  // NOLINT(modernize-use-equals-default): leaves everything unset
  FewGradientCenters(const FewGradientCenters&) = delete;  // points to itself
  FewGradientCenters& operator=(const FewGradientCenters&) = delete;
  template <class I, class Args>
  TENSORNORM_NESTED void set(const Args& args, const FewStatistics& few) {
    made = arrays.template set<I>(args, few.at.statistic, few.row.statistic, few.count);
  }
  template <class I, class Args>
  TENSORNORM_NESTED void finish(const Args& args, const FewStatistics& few, const ShortGradientSums<A, S, I>& sums) {
    arrays.template finish<I>(args, few.at.statistic, few.row.statistic, few.count, made.in_lanes, sums.plain, sums.centered);
  }
  TENSORNORM_NESTED bool is_scaled(Index i) const { return made.scaled && factor[i] != A(1); }
};

/// RowBackward where each statistic is of one short run, or of joined slices: of a few statistics first all sums, then all coefficients, then
/// all elements. Beside its parameters only where gradients are wanted. One whose x needs a scale goes to RowBackward. Of one run the same bits as
/// of RowBackward.
template <class Args>
struct ShortRowBackward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;
  using FewCenters = FewGradientCenters<A, S>;

  const Args& args;
  const RowWalk& walk;
  Index first, last;  ///< statistics in the order of memory
  ParameterSums<A, S> totals;
  A *dweight, *dbias;  ///< these and what follows: as RowBackward has them
  Index params;
  bool padded;
  bool fetches;  ///< as in ShortRowForward

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    static_assert(kRowsPerFold % kTogether == 0);
    const bool beside = walk.run.param != 0;
    Index pending = 0;
    for_each_few(walk, first, last, [&](const FewStatistics& few) TENSORNORM_NESTED_LAMBDA {
      FewCenters centers;
      centers.template set<I>(args, few);
      if (!beside) return apart<I>(few, centers);
      differentiate<I>(few, centers);
      pending += few.count;
      if ((pending < kRowsPerFold && few.k + few.count < last) || totals.dweight.sum == nullptr) return;
      fold_tile<A, S, I>({dweight, dbias}, params, totals.dweight.sum, totals.dbias.sum);
      pending = 0;
    });
  }

 private:
  /// dx of all but those that are scaled, by map(i, dy).
  template <class I, class Map>
  TENSORNORM_NESTED void write(const FewStatistics& few, const FewCenters& centers, const Map& map) const {
    const Index n = walk.run.extent;
    const Index left = fetches ? last - few.k - few.count : 0;
    for (Index j = 0; j < few.slices.count; ++j)
      for (Index i = 0; i < few.count; ++i) {
        const T *x = few.run(args.x, 0, j, i), *dy = few.run(args.dy, 1, j, i);
        if (i < left) {
          fetch_run(x + few.to_next(0), n, false);
          fetch_run(dy + few.to_next(1), n, false);
        }
        if (!centers.is_scaled(i)) transform_run<A, I>(x, few.run(args.dx, 2, j, i), n, map(i, dy), {}, Store::ordinary);
      }
  }

  /// One run each, beside its parameters.
  template <class I>
  TENSORNORM_NESTED void differentiate(const FewStatistics& few, FewCenters& centers) const {
    using L = HardwareLanes<A, I>;
    const Index n = walk.run.extent;
    const auto with_those_of = [&](Index i, const auto& f) TENSORNORM_NESTED_LAMBDA { with_parameters(args, dweight, dbias, few.param(i), f); };
    const auto add = [&](Index, Index i, const auto& f) TENSORNORM_NESTED_LAMBDA {
      if (centers.is_scaled(i)) return alone(few.k + i);  // here: gradients of parameters are added up in the order of rows
      with_those_of(i, [&]<class P>(const P* weight, P* dweight_beside, P* dbias_beside) TENSORNORM_NESTED_LAMBDA {
        const RowGradients<A, P> beside{centers.mean[i], centers.rstd[i], centers.shift[i], weight, dweight_beside, dbias_beside, padded};
        row_gradient_lanes<true, true, A, I>(few.run(args.x, 0, 0, i), few.run(args.dy, 1, 0, i), n, beside, {}, f);
      });
    };
    const ShortGradientSums<A, S, I> sums(few.count, 1, n, add);
    centers.template finish<I>(args, few, sums);
    with_those_of(0, [&]<class P>(const P* weight, P*, P*) TENSORNORM_NESTED_LAMBDA {
      write<I>(few, centers, [&](Index i, const T* dy) TENSORNORM_NESTED_LAMBDA {
        return WeightedGradientMap<L, T, Uniform<L>, PerElement<L, P>>(dy, uniform<A, I>(centers.mean[i]), uniform<A, I>(centers.rstd[i]),
                                                                       uniform<A, I>(centers.slope[i]), uniform<A, I>(centers.offset[i]),
                                                                       {weight + i * few.row.param});
      });
    });
  }

  /// A few runs each, or one, of one weight.
  template <class I>
  TENSORNORM_NESTED void apart(const FewStatistics& few, FewCenters& centers) const {
    using L = HardwareLanes<A, I>;
    const Index n = walk.run.extent;
    const auto add = [&](Index j, Index i, const auto& f) TENSORNORM_NESTED_LAMBDA {
      if (centers.is_scaled(i)) return;
      const RowGradients<A> row{centers.mean[i], A(0), A(0), nullptr, nullptr, nullptr, few.slices.count == 1};
      row_gradient_lanes<false, false, A, I>(few.run(args.x, 0, j, i), few.run(args.dy, 1, j, i), n, row, {}, f);
    };
    ShortGradientSums<A, S, I> sums(few.count, few.slices.count, n, add);
    S weights[kTogether];
    Index i = 0;
    if constexpr (finishes_in_lanes<S, I>()) {
      using V = HardwareLanes<S, I>;
      for (const Index end = few.row.param == 1 || !args.gradients ? centers.made.in_lanes : 0; i < end; i += V::width) {
        const V plain = V::load(sums.plain + i), centered = V::load(sums.centered + i), weight = few.parameters(args.weight, i, V(S(1)));
        add_to_parameters(args, totals, few.param(i), V::load(centers.unit + i), V::load(centers.rest + i), plain, centered);
        weight.store(weights + i);
        (weight * plain).store(sums.plain + i);
        (weight * centered).store(sums.centered + i);
      }
    }
    for (; i < few.count; ++i) {
      weights[i] = args.weight != nullptr ? S(args.weight[few.param(i)]) : S(1);
      if (centers.is_scaled(i)) {
        alone(few.k + i);
        continue;
      }
      add_to_parameters(args, totals, few.param(i), centers.unit[i], centers.rest[i], sums.plain[i], sums.centered[i]);
      sums.plain[i] = weights[i] * sums.plain[i];
      sums.centered[i] = weights[i] * sums.centered[i];
    }
    if (args.dx == nullptr) return;
    centers.template finish<I>(args, few, sums);
    write<I>(few, centers, [&](Index at, const T* dy) TENSORNORM_NESTED_LAMBDA {
      // Rounded twice, as in write_elements().
      const A scale = static_cast<A>(S(centers.rstd[at]) * weights[at]);
      return GradientMap<L, T, Uniform<L>>(dy, uniform<A, I>(centers.mean[at]), uniform<A, I>(scale), uniform<A, I>(centers.slope[at]),
                                           uniform<A, I>(centers.offset[at]));
    });
  }

  /// Beside parameters without totals nothing is folded.
  TENSORNORM_RARE void alone(Index k) const {
    const ParameterSums<A, S> none;
    dispatch(RowBackward<Args>{args, walk, Store::ordinary, false, k, k + 1, walk.run.param != 0 ? none : totals, dweight, dbias, params});
  }
};

/// RowBackward of a single row beside its parameters, whose gradients are added where they are wanted, without its loops. One whose x needs a
/// scale goes to RowBackward. The same bits as of RowBackward.
template <class Args>
struct OneRowBackward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  Index n;             ///< any number of elements
  A *dweight, *dbias;  ///< as RowBackward has them

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    using L = HardwareLanes<A, I>;
    using U = Uniform<L>;
    GradientCenter<A, S> center(args, 0);
    if (center.factor != A(1)) return in_full();
    GradientSums<S> sums, rests;
    with_parameters(args, dweight, dbias, 0, [&]<class P>(const P* weight, P* to_weight, P* to_bias) TENSORNORM_NESTED_LAMBDA {
      const RowGradients<A, P> row{center.mean, static_cast<A>(center.unit), center.shift(), weight, to_weight, to_bias};
      if (args.gradients) row_gradient_sums<true, true, A, S, I>(args.x, args.dy, n, row, {}, sums, rests);
      else if (!args.constant) row_gradient_sums<true, false, A, S, I>(args.x, args.dy, n, row, {}, sums, rests);
    });
    if (args.dx == nullptr) return;
    center.finish(args, sums);
    with_parameters(args, dweight, dbias, 0, [&]<class P>(const P* weight, P*, P*) TENSORNORM_NESTED_LAMBDA {
      WeightedGradientMap<L, T, U, PerElement<L, P>> map(args.dy, uniform<A, I>(center.mean), uniform<A, I>(static_cast<A>(center.rstd)),
                                                         uniform<A, I>(center.slope), uniform<A, I>(center.offset), {weight});
      // Constants: dx does not depend on x.
      transform_alone<A, I>(args.constant ? args.dy : args.x, args.dx, n, map);
    });
  }

 private:
  TENSORNORM_RARE void in_full() const {
    dispatch(RowBackward<Args>{args, RowWalk::of_one_row(n, true), Store::ordinary, false, 0, 1, {}, dweight, dbias, 0});
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
