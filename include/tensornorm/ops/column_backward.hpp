// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <tensornorm/kernels/column_gradient_sums.hpp>
#include <tensornorm/ops/column_gradients.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

/// Folded columns, backward: the sums of every column in one pass over x and dy, the gradients in a second.
template <class Args>
struct ColumnBackward {
  using T = typename Args::Element;
  using A = typename Args::A;
  using S = typename Args::S;

  const Args& args;
  const ColumnWalk& walk;
  Store store;
  Index first, last;  ///< strips, counted through all problems
  ParameterSums<A, S> totals;
  bool within;  ///< a parameter changes within a statistic, from column to column
  using Scratch = ColumnBackwardScratch<A, S>;
  Scratch scratch;
  Crew crew;  ///< for the cuts of a strip

  template <class I>
  TENSORNORM_NESTED void operator()() const {
    for (Index i = first; i < last; ++i) {
      const Strip strip(walk, i);
      const Strip summed = walk.affine ? strip : strip_of_moments(walk, strip);
      const GradientCenterArrays<A, S>& centers = scratch.centers;
      const auto [in_lanes, scaled] = centers.template set<I>(args, strip.at.statistic, 1, strip.statistics);
      expand<&Loop::statistic>(summed.columns, centers.mean, scratch.column_mean);
      if (scaled) expand<&Loop::statistic>(summed.columns, centers.factor, scratch.column_factor);
      if (args.gradients || !args.constant) {
        if (walk.affine) affine_sums<I>(summed, scaled);
        else plain_sums<I>(summed, scaled, in_lanes);
      }
      if (args.dx != nullptr) differentiate<I>(strip, scaled && !args.constant, in_lanes);
    }
  }

 private:
  template <class I>
  TENSORNORM_NESTED void plain_sums(const Strip& strip, bool scaled, Index in_lanes) const {
    sum_columns(strip, scaled);
    const ColumnGradients<Args> gradients{args, scratch, totals};
    if (within) gradients.template of_columns<I>(strip);
    else gradients.template of_statistics<I>(strip, in_lanes);
  }

  /// No template of I, nor is write_parts(): see CutSums::set().
  TENSORNORM_CALLED void sum_columns(const Strip& strip, bool scaled) const {
    const auto add = [&]<bool kFromMemory, class I>(const RowRange& rows, const CutSums<A, S>& sums, Index, Index) TENSORNORM_NESTED_LAMBDA {
      add_up<kFromMemory, I>(strip, rows, sums, scaled);
    };
    scratch.column_sums.set(crew, walk, {strip.width}, store == Store::streaming, add);
  }
  template <bool kFromMemory, class I>
  TENSORNORM_NESTED void add_up(const Strip& strip, const RowRange& range, const CutSums<A, S>& sums, bool scaled) const {
    ScaledBlock<A, T> copy;
    for_each_block<A, T>(walk, range, 0, strip.width, scaled, [&](Index row, Index rows, Index c, Index width) TENSORNORM_NESTED_LAMBDA {
      const Index dy_stride = walk.moment_stride(1);
      Index stride = walk.moment_stride(0);
      const T *x = args.x + strip.at.data[0] + row * stride + c, *dy = args.dy + strip.at.data[1] + row * dy_stride + c;
      if (scaled) {
        x = copy.fill(x, rows, stride, width, scratch.column_factor + c);
        stride = width;
      }
      column_gradient_sums<kFromMemory, A, S, I>(x, dy, rows, stride, dy_stride, width, scratch.column_mean + c, sums.tile.from(c),
                                                 sums.plain + c, sums.centered + c);
    });
  }

  /// Weights that change from row to row: the rows one by one, their sums in A, folded into S every few rows; so are those of parameters that
  /// row after row meets.
  template <class I>
  TENSORNORM_NESTED void affine_sums(const Strip& strip, bool scaled) const {
    expand<&Loop::statistic>(strip.columns, scratch.centers.rstd, scratch.column_rstd);
    expand<&Loop::statistic>(strip.columns, scratch.centers.shift, scratch.column_shift);
    const CutSums<A, S>& sums = scratch.column_sums;
    sums.clear(0, strip.width, strip.width);
    ScaledBlock<A, T> copy;
    Index pending = 0, terms = 0, terms_of = 0;  // columns of the parameters from terms_of on, whose terms are to be folded
    const auto clear_terms = [&](Index n) TENSORNORM_NESTED_LAMBDA {
      for (A* array : {scratch.weight_terms, scratch.bias_terms}) std::fill_n(array, n, A(0));
    };
    const auto fold_terms = [&]() TENSORNORM_NESTED_LAMBDA {
      if (terms > 0 && args.gradients) {
        const LoopList columns = first_columns(strip, terms);
        fold<&Loop::param>(columns, scratch.weight_terms, totals.dweight.from(terms_of));
        fold<&Loop::param>(columns, scratch.bias_terms, totals.dbias.from(terms_of));
      }
      clear_terms(terms);
      terms = 0;
    };
    const auto flush = [&]() TENSORNORM_NESTED_LAMBDA {
      fold_tile<A, S, I>(sums.tile, strip.width, sums.plain, sums.centered);
      fold_terms();
      pending = 0;
    };
    if (walk.weights > 0 && !scaled && adds_rows(walk.run_width(strip.width))) {
      weighted_rows<I>(strip, flush, pending);
    } else {
      clear_terms(strip.width + kLine<A>);
      for_each_row(walk, strip, {0, walk.rows_of_group()}, false, [&](const Offsets& at, Index r, Index width, bool fresh) TENSORNORM_NESTED_LAMBDA {
        const Index param = at.param + r * walk.row_param;
        if (fresh) {
          fold_terms();
          expand<&Loop::param>(first_columns(strip, width), args.weight + param, scratch.weight);
          terms_of = param;
        }
        terms = std::max(terms, width);
        const Index step = scaled ? copy.size : width;
        for (Index c = 0; c < width; c += step) {
          const T* x = args.x + at.data[0] + r * walk.row_stride[0] + c;
          const Index n = std::min(step, width - c);
          if (scaled) x = copy.fill(x, 1, 0, n, scratch.column_factor + c);
          const AffineRow<A> row{scratch.column_mean + c,  scratch.column_rstd + c,
                                 scratch.column_shift + c, scratch.weight + c,
                                 sums.tile.from(c),
                                 scratch.weight_terms + c, scratch.bias_terms + c};
          affine_row_gradient_sums<A, I>(x, args.dy + at.data[1] + r * walk.row_stride[1] + c, n, row);
        }
        if (++pending == kTileRows) flush();
        else if (keeps_rest<A, S> && pending % kPlainTerms == 0) fold_terms();
      });
    }
    flush();
    set_folded(strip.columns, sums.plain, scratch.plain, strip.statistics);
    set_folded(strip.columns, sums.centered, scratch.centered, strip.statistics);
  }

  /// Short runs of 16-bit types that are not whole vectors are added beside weights of their own: parts of those go through arrays.
  static bool adds_rows(Index run) { return !Narrow<T> || run >= 2 * virtual_width<A> || run % virtual_width<A> == 0; }

  /// Rows of one weight each: whole ones a few at a time, as far as they are of one group and of one tile, the others singly; those of several
  /// blocks that meet the same weight, too, or the order in which it is given theirs would depend on how many are taken at a time.
  template <class I, class Flush>
  TENSORNORM_NESTED void weighted_rows(const Strip& strip, const Flush& flush, Index& pending) const {
    constexpr Index together = I::bytes / 16;
    const Index run = walk.run_width(strip.width);
    const bool in_order = walk.row_param != 0 || run <= kWeightBlock<A, S>;
    const AffineRow<A> row{scratch.column_mean, scratch.column_rstd, scratch.column_shift, nullptr, scratch.column_sums.tile, nullptr, nullptr};
    GatheredSums<A, S> sums(totals);
    const auto add = [&]<int kRows>(std::integral_constant<int, kRows>, const Offsets& at, Index r, Index width) TENSORNORM_NESTED_LAMBDA {
      const T *x = args.x + at.data[0] + r * walk.row_stride[0], *dy = args.dy + at.data[1] + r * walk.row_stride[1];
      for_each_run(walk, run, width, width, at.param + r * walk.row_param, [&](Index c, Index n, Index param) TENSORNORM_NESTED_LAMBDA {
        weighted_rows_gradient_sums<kRows, A, S, I>(
            x + c, walk.row_stride[0], dy + c, walk.row_stride[1], n, args.weight + param, walk.row_param, row.from(c),
            [&](Index k, const auto& dweight, const auto& dbias) TENSORNORM_NESTED_LAMBDA {
              if (args.gradients) sums.add(param + k * walk.row_param, dweight, dbias);
            });
      });
    };
    Odometer group(walk.groups);
    for (Index g = walk.groups.size(); g > 0; --g, group.next()) {
      const Offsets at = strip.at + group.offsets();
      bool several = false;
      for (Index r = 0; r < walk.rows_of_group(); r += several ? together : 1) {
        several = in_order && r + together <= walk.group_rows && pending + together <= kTileRows;
        if (several) add(std::integral_constant<int, int(together)>(), at, r, strip.width);
        else add(std::integral_constant<int, 1>(), at, r, walk.width_of_row(r, strip.width));
        pending += several ? together : 1;
        if (pending == kTileRows) flush();
      }
    }
    sums.flush();
  }

  template <class I>
  TENSORNORM_NESTED void differentiate(const Strip& strip, bool scaled, Index in_lanes) const {
    const GradientCenterArrays<A, S>& centers = scratch.centers;
    const Scratch arrays = scratch.beside(args.dx + strip.at.data[2]);
    centers.template finish<I>(args, strip.at.statistic, 1, strip.statistics, in_lanes, scratch.plain.sum, scratch.centered.sum);
    expand<&Loop::statistic>(strip.columns, centers.mean, arrays.column_mean);
    if (scaled) expand<&Loop::statistic>(strip.columns, centers.factor, arrays.column_factor);
    expand<&Loop::statistic>(strip.columns, centers.rstd, arrays.column_rstd);
    expand<&Loop::statistic>(strip.columns, centers.slope, arrays.column_slope);
    expand<&Loop::statistic>(strip.columns, centers.offset, arrays.column_offset);
    if (!walk.affine) weigh<I>(arrays, strip.columns, strip.at.param, strip.width);
    write_parts(strip, arrays, scaled);
  }

  void write_parts(const Strip& strip, const Scratch& arrays, bool scaled) const {
    crew.for_each(walk.cuts, [&](Index i) noexcept {
      const RowRange rows = RowRange::cut(walk.rows_of_group(), walk.cuts - 1 - i, walk.cuts);
      dispatch_as<A>([&]<class I>() TENSORNORM_NESTED_LAMBDA { write<I>(strip, rows, arrays, scaled); });
    });
  }

  template <class I>
  TENSORNORM_NESTED void write(const Strip& strip, const RowRange& range, const Scratch& arrays, bool scaled) const {
    using L = HardwareLanes<A, I>;
    using P = PerElement<L, A>;
    ScaledBlock<A, T> copy;
    const ReadAhead ahead{walk.second_pass_stride()};
    const Index run = walk.run_width(strip.width);
    const auto weighted_map = [&]<class J>(J, const T* dy, Index c, Index param) TENSORNORM_NESTED_LAMBDA {
      using Few = HardwareLanes<A, J>;
      return WeightedGradientMap<Few, T, PerElement<Few, A>, Uniform<Few>>(dy, {arrays.column_mean + c}, {arrays.column_rstd + c},
                                                                           {arrays.column_slope + c}, {arrays.column_offset + c},
                                                                           uniform<A, J>(args.weight[param]));
    };
    if (!scaled && store == Store::ordinary) {
      const A* weights = args.weight;
      const auto dy = [&](const Offsets& at, Index r) TENSORNORM_NESTED_LAMBDA { return args.dy + at.data[1] + r * walk.row_stride[1]; };
      const auto x = [&](const Offsets& at, Index r) TENSORNORM_NESTED_LAMBDA {
        return args.constant ? dy(at, r) : args.x + at.data[0] + r * walk.row_stride[0];
      };
      const auto dx = [&](const Offsets& at, Index r) TENSORNORM_NESTED_LAMBDA { return args.dx + at.data[2] + r * walk.row_stride[2]; };
      const auto map = [&](auto isa, const Offsets& at, Index r, Index c, Index param) TENSORNORM_NESTED_LAMBDA {
        return weighted_map(isa, dy(at, r) + c, c, param);
      };
      const auto begin = [&]<class J>(J, auto& of_run, Index param) TENSORNORM_NESTED_LAMBDA { of_run.weight = uniform<A, J>(weights[param]); };
      if (transform_weighted<A, I>(walk, strip, range, true, x, dx, map, begin)) return;
    }
    if (!scaled && store == Store::ordinary) {
      const auto x = [&](const Offsets& at) TENSORNORM_NESTED_LAMBDA { return args.constant ? args.dy + at.data[1] : args.x + at.data[0]; };
      const auto dx = [&](const Offsets& at) TENSORNORM_NESTED_LAMBDA { return args.dx + at.data[2]; };
      const auto map = [&](const Offsets& at, Index c) TENSORNORM_NESTED_LAMBDA {
        return GradientMap<L, T, P>(args.dy + at.data[1], {arrays.column_mean + c}, {arrays.column_scale + c}, {arrays.column_slope + c},
                                    {arrays.column_offset + c});
      };
      if (transform_held<4, A, I>(walk, strip, range, true, x, dx, map)) return;
    }
    if (!scaled && !walk.affine) {
      for_each_plain_row(walk, strip, range, true, [&](const Offsets& at, Index width) TENSORNORM_NESTED_LAMBDA {
        const T* dy = args.dy + at.data[1];
        const GradientMap<L, T, P> map(dy, {arrays.column_mean}, {arrays.column_scale}, {arrays.column_slope}, {arrays.column_offset});
        transform_run<A, I>(args.constant ? dy : args.x + at.data[0], args.dx + at.data[2], width, map, ahead, store);
      });
    } else {
      for_each_row(walk, strip, range, true, [&](const Offsets& at, Index r, Index width, bool fresh) TENSORNORM_NESTED_LAMBDA {
        const Index row_param = at.param + r * walk.row_param;
        if (walk.affine && fresh && walk.weights == 0) weigh<I>(arrays, first_columns(strip, width), row_param, width);
        for_each_run(walk, run, width, scaled ? copy.size : width, row_param, [&](Index c, Index n, Index param) TENSORNORM_NESTED_LAMBDA {
          const T* dy = args.dy + at.data[1] + r * walk.row_stride[1] + c;
          const T* x = args.constant ? dy : args.x + at.data[0] + r * walk.row_stride[0] + c;  // constants: dx does not depend on x
          if (scaled) x = copy.fill(x, 1, 0, n, arrays.column_factor + c);
          T* dx = args.dx + at.data[2] + r * walk.row_stride[2] + c;
          const P mean{arrays.column_mean + c}, slope{arrays.column_slope + c}, offset{arrays.column_offset + c};
          if (walk.weights > 0) {
            transform_run<A, I>(x, dx, n, weighted_map(I(), dy, c, param), ahead, store);
          } else {
            transform_run<A, I>(x, dx, n, GradientMap<L, T, P>(dy, mean, {arrays.column_scale + c}, slope, offset), ahead, store);
          }
        });
      });
    }
    if (store == Store::streaming) fence();
  }

  /// column_scale = rstd * weight, whole vectors: the arrays are padded.
  template <class I>
  TENSORNORM_NESTED void weigh(const Scratch& arrays, const LoopList& columns, Index param, Index width) const {
    using L = HardwareLanes<A, I>;
    if (args.weight != nullptr) expand<&Loop::param>(columns, args.weight + param, arrays.weight);
    else std::fill_n(arrays.weight, width + kLine<A>, A(1));
    for (Index c = 0; c < width; c += L::width)
      (L::load(arrays.column_rstd + c) * L::load(arrays.weight + c)).store(arrays.column_scale + c);
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
