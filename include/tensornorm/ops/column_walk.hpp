// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/column_moments.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// Folded columns, sliced into strips that stay in the cache, or in two passes over memory where one strip is all; or frozen.
template <class Args>
struct ColumnForward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const ColumnWalk& walk;
  Store store;
  bool frozen;        ///< args.statistics are given
  bool near;          ///< and none of them asks for a scale
  Index first, last;  ///< strips, counted through all problems
  using Scratch = ColumnScratch<A, S>;
  Scratch scratch;
  Crew crew;  ///< for the cuts of a strip

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    for (Index i = first; i < last; ++i) {
      const Strip strip(walk, i);
      const bool plain = has_plain_columns(strip.columns), as_given = near && plain;
      const bool scaled = as_given ? false : frozen ? given<I>(strip) : moments<I>(strip);
      if (args.y == nullptr) continue;
      const Scratch arrays = scratch.beside(args.y + strip.at.data[1]);
      if (plain && !scaled) set_plain_coefficients<I>(arrays, strip, as_given);
      else set_coefficients<I>(arrays, strip, scaled);
      write_parts(strip, arrays, scaled);
    }
  }

 private:
  /// Whether the statistic needs its x scaled.
  TENSORNORM_NESTED static bool keep(const Scratch& to, Index k, const Center<A, S>& center) {
    to.factor[k] = center.factor;
    to.mean[k] = center.mean;
    to.sum[k] = center.rstd;
    to.squares[k] = center.rest;
    return center.factor != A(1);
  }
  /// The same of as many statistics as V has lanes, from k on in the strip.
  template <class V>
  TENSORNORM_NESTED static bool keep_lanes(const Scratch& to, Index k, const V& mean, const V& mean_lo, const V& rstd) {
    store_centers(mean, mean_lo, rstd, to.mean + k, to.squares.sum + k, to.sum.sum + k);
    std::fill_n(to.factor + k, V::width, A(1));
    if (all_near<A, T>(rstd)) return false;
    bool scaled = false;
    for (Index i = 0; i < V::width; ++i) {
      if (is_near<A, T>(to.sum[k + i])) continue;
      S his[V::width], los[V::width];
      mean.store(his);
      mean_lo.store(los);
      scaled |= keep(to, k + i, center_for<A, T>(his[i], los[i], to.sum[k + i]));
    }
    return scaled;
  }
  /// The same of a strip, from args.statistics.
  template <class I>
  TENSORNORM_NESTED bool given(const Strip& strip) const {
    const StatisticsArrays<S>& from = args.statistics;
    Index k = 0, at = strip.at.statistic;
    bool scaled = false;
    if constexpr (virtual_width<S> > 1) {
      using V = HardwareLanes<S, I>;
      for (; k + V::width <= strip.statistics; k += V::width, at += V::width)
        scaled |= keep_lanes<V>(scratch, k, V::load(from.mean + at), from.mean_lo != nullptr ? V::load(from.mean_lo + at) : V(), V::load(from.rstd + at));
    }
    for (; k < strip.statistics; ++k, ++at) scaled |= keep(scratch, k, center_of<A, T>(from, at));
    return scaled;
  }

  /// The same of a strip, from x.
  template <class I>
  TENSORNORM_NESTED bool moments(const Strip& strip) const {
    const ColumnMoments<Args> sums{args, walk, store == Store::streaming, scratch, crew};
    return finish<I>(strip, sums.template set<I>(strip_of_moments(walk, strip)));
  }
  /// The centers of a strip's statistics; whether one of them needs its x scaled. scaled: sums are of x times scratch.factor.
  template <class I>
  TENSORNORM_NESTED bool finish(const Strip& strip, bool scaled) const {
    const StatisticsRule rule = args.rule;  // stores might change the members
    const StatisticsArrays<S> to = args.statistics;
    const Scratch arrays = scratch;
    const Index samples = args.samples;
    Index k = 0, statistic = strip.at.statistic;
    bool far = false;
    if constexpr (virtual_width<S> > 1) {
      using V = HardwareLanes<S, I>;
      const Index end = scaled ? 0 : strip.statistics / V::width * V::width;
      const auto keep_all = [&](const FinishedStatistics<V>& all) TENSORNORM_NESTED_LAMBDA {
        all.write(to, statistic);
        far |= keep_lanes<V>(arrays, k, all.mean, all.mean_lo, all.rstd);
      };
      for (; k < end; k += V::width, statistic += V::width) {
        const V pivot = V::load(arrays.pivot + k), sum = V::load(arrays.sum.sum + k), squares = V::load(arrays.squares.sum + k);
        if constexpr (keeps_rest<A, S>) keep_all({rule, samples, pivot, sum, V::load(arrays.sum.rest + k), squares});
        else keep_all({rule, samples, pivot, sum, squares});
      }
    }
    for (; k < strip.statistics; ++k, ++statistic) {
      ScaledWelford<A, S> state;
      Welford<S> sums(samples, S(0), S(0), arrays.squares[k]);
      if (rule.centered) {
        const S pivot = S(arrays.pivot[k]);
        if constexpr (keeps_rest<A, S>) sums = Welford<S>::of_sums(samples, pivot, arrays.sum[k], arrays.sum.rest[k], arrays.squares[k]);
        else sums = Welford<S>::of_sums(samples, pivot, arrays.sum[k], arrays.squares[k]);
      }
      state.merge(sums, scaled ? S(arrays.factor[k]) : S(1));
      far |= keep(arrays, k, finish_statistic<A, T>(rule, samples, state, to, statistic));
    }
    return far;
  }

  /// No template of I: see CutSums::set().
  void write_parts(const Strip& strip, const Scratch& arrays, bool scaled) const {
    crew.for_each(walk.cuts, [&](Index i) noexcept {
      const RowRange rows = RowRange::cut(walk.rows_of_group(), frozen ? i : walk.cuts - 1 - i, walk.cuts);
      dispatch_as<A>([&]<class I>() TENSORNORM_NESTED_LAMBDA { write<I>(strip, rows, arrays, scaled); });
    });
  }

  template <class I>
  TENSORNORM_NESTED void write(const Strip& strip, const RowRange& range, const Scratch& arrays, bool scaled) const {
    using L = HardwareLanes<A, I>;
    using P = PerElement<L, A>;
    ScaledBlock<A, T> copy;
    const A *mean = arrays.column_mean, *scale = arrays.column_scale, *shift = arrays.column_shift, *weight = arrays.weight, *bias = arrays.bias;
    // A line asked for a whole wide row ahead is pushed out of the first level by the coefficients before it is read. Where rows lie apart
    // there is no other way: less far ahead is what lies between them.
    const Index stride = walk.row_stride[0], next = stride == strip.width ? std::min(stride, kFetchAhead<T>) : stride;
    const ReadAhead ahead{frozen ? next : walk.second_pass_stride()};
    const Index run = walk.run_width(strip.width);
    const auto affine_map = [&]<class J>(J, Index c, Index param) TENSORNORM_NESTED_LAMBDA {
      using Few = HardwareLanes<A, J>;
      return AffineMap<Few, PerElement<Few, A>, Uniform<Few>>{
          {mean + c}, {scale + c}, {shift + c}, uniform<A, J>(args.weight[param]), uniform<A, J>(args.bias[param])};
    };
    if (!scaled && store == Store::ordinary) {
      const A *weights = args.weight, *biases = args.bias;
      const auto x = [&](const Offsets& at, Index r) TENSORNORM_NESTED_LAMBDA { return args.x + at.data[0] + r * walk.row_stride[0]; };
      const auto y = [&](const Offsets& at, Index r) TENSORNORM_NESTED_LAMBDA { return args.y + at.data[1] + r * walk.row_stride[1]; };
      const auto map = [&](auto isa, const Offsets&, Index, Index c, Index param) TENSORNORM_NESTED_LAMBDA { return affine_map(isa, c, param); };
      const auto begin = [&]<class J>(J, auto& of_run, Index param) TENSORNORM_NESTED_LAMBDA {
        of_run.weight = uniform<A, J>(weights[param]);
        of_run.bias = uniform<A, J>(biases[param]);
      };
      if (transform_weighted<A, I>(walk, strip, range, !frozen, x, y, map, begin)) return;
    }
    if (!scaled && store == Store::ordinary) {
      const auto x = [&](const Offsets& at) TENSORNORM_NESTED_LAMBDA { return args.x + at.data[0]; };
      const auto y = [&](const Offsets& at) TENSORNORM_NESTED_LAMBDA { return args.y + at.data[1]; };
      const auto map = [&](const Offsets&, Index c) TENSORNORM_NESTED_LAMBDA { return ScaleMap<L, P>{{mean + c}, {scale + c}, {shift + c}}; };
      if (transform_held<3, A, I>(walk, strip, range, !frozen, x, y, map)) return;
    }
    if (!scaled && !walk.affine) {
      for_each_plain_row(walk, strip, range, !frozen, [&](const Offsets& at, Index width) TENSORNORM_NESTED_LAMBDA {
        transform_run<A, I>(args.x + at.data[0], args.y + at.data[1], width, ScaleMap<L, P>{{mean}, {scale}, {shift}}, ahead, store);
      });
    } else {
      for_each_row(walk, strip, range, !frozen, [&](const Offsets& at, Index r, Index width, bool fresh) TENSORNORM_NESTED_LAMBDA {
        const Index row_param = at.param + r * walk.row_param;
        if (walk.affine && fresh && walk.weights == 0) expand_parameters(arrays, strip, row_param, width);
        for_each_run(walk, run, width, scaled ? copy.size : width, row_param, [&](Index c, Index n, Index param) TENSORNORM_NESTED_LAMBDA {
          const T* x = args.x + at.data[0] + r * walk.row_stride[0] + c;
          T* y = args.y + at.data[1] + r * walk.row_stride[1] + c;
          if (scaled) x = copy.fill(x, 1, 0, n, arrays.column_factor + c);
          const ScaleMap<L, P> map{{mean + c}, {scale + c}, {shift + c}};
          const auto write_run = [&](const auto& affine) TENSORNORM_NESTED_LAMBDA { transform_run<A, I>(x, y, n, affine, ahead, store); };
          if (walk.weights > 0) {
            write_run(affine_map(I(), c, param));
          } else if (walk.affine) {
            write_run(AffineMap<L, P, P>{map.mean, map.scale, map.shift, {weight + c}, {bias + c}});
          } else {
            write_run(map);
          }
        });
      });
    }
    if (store == Store::streaming) fence();
  }

  /// The parameters from `at` on beside the first `width` columns, which are whole rows: there are no more of them at the end.
  void expand_parameters(const Scratch& arrays, const Strip& strip, Index at, Index width) const {
    const LoopList columns = first_columns(strip, width);
    if (args.weight != nullptr) expand<&Loop::param>(columns, args.weight + at, arrays.weight);
    else fill(arrays.weight, width + kLine<A>, A(1));
    if (args.bias != nullptr) expand<&Loop::param>(columns, args.bias + at, arrays.bias);
    else fill(arrays.bias, width + kLine<A>, A(-0.0));
  }

  /// Those of all rows, into which weight and bias go; or, where a parameter changes from row to row, without.
  ///
  /// Each column's scale = rstd * weight and shift = rest * rstd * weight + bias, rounded once as in the row form: which of the two runs
  /// depends on the number of examples, and may not be seen in them. Whole vectors: the arrays are padded.
  template <class I>
  TENSORNORM_NESTED void set_coefficients(const Scratch& arrays, const Strip& strip, bool scaled) const {
    constexpr Index line = kLine<A>;
    expand<&Loop::statistic>(strip.columns, arrays.mean, arrays.column_mean);
    if (scaled) expand<&Loop::statistic>(strip.columns, arrays.factor, arrays.column_factor);
    if (walk.affine) {
      fill(arrays.weight, strip.width + line, A(1));
      fill(arrays.bias, strip.width + line, A(-0.0));
    } else {
      expand_parameters(arrays, strip, strip.at.param, strip.width);
    }
    using L = HardwareLanes<A, I>;
    using F = Lanes<S, L::width, hardware_width<S, I>>;
    S *rstd = arrays.column_sums.plain, *rest = arrays.column_sums.centered;
    expand<&Loop::statistic>(strip.columns, arrays.sum.sum, rstd);
    expand<&Loop::statistic>(strip.columns, arrays.squares.sum, rest);
    for (S* values : {rstd, rest}) std::fill_n(values + strip.width, kLine<A>, S(0));
    for (Index c = 0; c < strip.width; c += L::width) {
      const F weight = F::load(arrays.weight + c), bias = F::load(arrays.bias + c);
      store_coefficients(F::load(rstd + c), F::load(rest + c), weight, bias, arrays.column_scale + c, arrays.column_shift + c);
    }
  }

  /// Each column of a row has the next statistic and, if any, the next parameters; the rows in a wide one have the same.
  bool has_plain_columns(const LoopList& columns) const {
    const Loop &outer = columns.loops[0], &inner = columns.loops[columns.depth - 1];
    const bool parameters = args.weight != nullptr || args.bias != nullptr;
    if (walk.affine || columns.depth > 2 || inner.statistic != 1 || (parameters && inner.param != 1)) return false;
    return columns.depth == 1 || (outer.statistic == 0 && (!parameters || outer.param == 0));
  }
  /// set_coefficients() of such columns, none scaled: nothing is copied beside them before. `as_given`: from args.statistics.
  template <class I>
  TENSORNORM_NESTED void set_plain_coefficients(const Scratch& arrays, const Strip& strip, bool as_given) const {
    using L = HardwareLanes<A, I>;
    using F = Lanes<S, L::width, hardware_width<S, I>>;
    const Index n = strip.columns.loops[strip.columns.depth - 1].extent;
    const auto put = [&](Index c, const ScaleMap<L, Uniform<L>>& map) TENSORNORM_NESTED_LAMBDA {
      map.mean.value.store(arrays.column_mean + c);
      map.scale.value.store(arrays.column_scale + c);
      map.shift.value.store(arrays.column_shift + c);
    };
    const auto set = [&](Index c, const auto& wide, const auto& load) TENSORNORM_NESTED_LAMBDA {
      const Index param = strip.at.param + c;
      if (as_given) put(c, map_of_columns<L, F>(args, param, strip.at.statistic + c, wide));
      else put(c, map_of_columns<L, F>(args, param, load(arrays.mean + c), F(wide(arrays.squares.sum + c)), F(wide(arrays.sum.sum + c)), wide));
    };
    Index c = 0;
    for (; c + L::width <= n; c += L::width) set(c, WholeLoader<F>{}, WholeLoader<L>{});
    if constexpr (L::width > 1) {
      if (c < n) {
        set(c, FewLoader<F, S>{n - c}, FewLoader<L, A>{n - c});
        c += L::width;
      }
    }
    for (A* values : {arrays.column_mean, arrays.column_scale, arrays.column_shift}) {
      for (Index made = n; made < strip.width; made *= 2) std::copy_n(values, std::min(made, strip.width - made), values + made);
      fill(values + std::max(c, strip.width), kLine<A>, A(0));
    }
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
