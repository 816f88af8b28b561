// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/scratch.hpp>
#include <tensornorm/ops/backward_walks.hpp>

namespace tensornorm::kernels {

/// The arrays a strip of columns works in, backward.
template <class A, class S>
struct ColumnBackwardScratch {
  A *mean, *factor, *rstd, *shift, *slope, *offset;  ///< per statistic
  A *column_mean, *column_factor, *column_rstd, *column_shift, *column_slope, *column_offset, *column_scale, *weight;
  A *weight_terms, *bias_terms;
  TileSums<A> tile;
  S *column_plain, *column_centered, *sum_plain, *sum_centered;

  std::size_t lay_out(Index columns, Index statistics, const void* x, std::byte* memory) {
    ScratchPlan plan;
    columns += 2 * kLine<A>;
    for (S** array : {&column_plain, &column_centered}) plan.place(*array, columns, memory);
    for (S** array : {&sum_plain, &sum_centered}) plan.place(*array, statistics, memory);
    for (A** array : {&mean, &factor, &rstd, &shift, &slope, &offset}) plan.place(*array, statistics, memory);
    for (A** array : {&column_mean, &column_factor, &column_rstd, &column_shift, &column_slope, &column_offset, &column_scale, &weight})
      plan.place(*array, columns, memory);
    plan.place_apart(tile.plain, columns, x, 1, memory);
    plan.place_apart(tile.centered, columns, x, 2, memory);
    for (A** array : {&weight_terms, &bias_terms}) plan.place(*array, columns, memory);
    return plan.bytes();
  }
};

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
  ParameterSums<S> totals;
  bool within;  ///< a parameter changes within a statistic, from column to column
  ColumnBackwardScratch<A, S> scratch;

  template <class I>
  TENSORNORM_INLINE void run() const {
    for (Index i = first; i < last; ++i) {
      const Strip strip(walk, i);
      bool scaled = false;
      for (Index k = 0; k < strip.statistics; ++k) {
        const GradientCenter<A, S> center(args, strip.at.statistic + k);
        scaled |= center.factor != A(1);
        scratch.mean[k] = center.mean;
        scratch.factor[k] = center.factor;
        scratch.rstd[k] = static_cast<A>(center.unit);
        scratch.shift[k] = center.shift();
      }
      expand<&Loop::statistic>(strip.columns, scratch.mean, scratch.column_mean);
      if (scaled) expand<&Loop::statistic>(strip.columns, scratch.factor, scratch.column_factor);
      if (args.gradients || !args.constant) {
        for (S* sums : {scratch.column_plain, scratch.column_centered}) std::fill_n(sums, strip.width + kLine<A>, S(0));
        for (A* sums : {scratch.tile.plain, scratch.tile.centered}) std::fill_n(sums, strip.width + kLine<A>, A(0));
        if (walk.affine) affine_sums<I>(strip, scaled);
        else plain_sums<I>(strip, scaled);
      }
      if (args.dx != nullptr) write<I>(strip, scaled && !args.constant);
    }
    if (store == Store::streaming) fence<Store::streaming>();
  }

 private:
  TENSORNORM_INLINE const T* x_of(const Strip& strip) const { return args.x + strip.at.data[0]; }
  TENSORNORM_INLINE const T* dy_of(const Strip& strip) const { return args.dy + strip.at.data[1]; }

  static constexpr Index kCopiedColumns = std::max<Index>(ScaledBlock<A, T>::size / kTileRows, 1);

  template <class I>
  TENSORNORM_INLINE void plain_sums(const Strip& strip, bool scaled) const {
    ScaledBlock<A, T> copy;
    for (const bool tail : {false, true}) {
      const T* x = x_of(strip) + (tail ? walk.moment_rows * walk.row_stride[0] : 0);
      const T* dy = dy_of(strip) + (tail ? walk.moment_rows * walk.row_stride[1] : 0);
      const Index all = tail ? 1 : walk.moment_rows, end = tail ? walk.moment_tail : strip.width;
      for (Index row = 0; row < all; row += scaled ? kTileRows : all) {
        for (Index c = 0; c < end; c += scaled ? kCopiedColumns : end) {
          const Index rows = scaled ? std::min(kTileRows, all - row) : all, width = scaled ? std::min(kCopiedColumns, end - c) : end;
          const T* source = x + row * walk.row_stride[0] + c;
          Index stride = walk.row_stride[0];
          if (scaled) {
            source = copy.fill(source, rows, stride, width, scratch.column_factor + c);
            stride = width;
          }
          column_gradient_sums<A, S, I>(source, dy + row * walk.row_stride[1] + c, rows, stride, walk.row_stride[1], width,
                                        scratch.column_mean + c, scratch.tile, scratch.column_plain + c, scratch.column_centered + c,
                                        store == Store::streaming);
        }
      }
    }
    std::fill_n(scratch.sum_plain, strip.statistics, S(0));
    std::fill_n(scratch.sum_centered, strip.statistics, S(0));
    if (within) weighted_column_sums(strip);
    else statistic_sums(strip);
  }

  /// One weight for all of a statistic: its columns are folded first.
  void statistic_sums(const Strip& strip) const {
    fold<&Loop::statistic, A>(strip.columns, scratch.column_plain, scratch.sum_plain);
    fold<&Loop::statistic, A>(strip.columns, scratch.column_centered, scratch.sum_centered);
    LoopList kept;
    for (int i = 0; i < strip.columns.depth; ++i)
      if (!reduces(strip.columns.loops[i])) kept.push(strip.columns.loops[i]);
    Odometer at(kept);
    for (Index i = strip.statistics; i > 0; --i, at.next()) {
      const Index k = at.offsets().statistic, p = strip.at.param + at.offsets().param;
      GradientSums<S> sums{scratch.sum_plain[k], scratch.sum_centered[k]};
      if (args.gradients) {
        const GradientCenter<A, S> center(args, strip.at.statistic + k);
        totals.dweight[p] = fused<S>(center.unit, center.centered(sums), totals.dweight[p]);
        totals.dbias[p] = totals.dbias[p] + sums.plain;
      }
      if (args.weight == nullptr) continue;
      scratch.sum_plain[k] = sums.plain * S(args.weight[p]);
      scratch.sum_centered[k] = sums.centered * S(args.weight[p]);
    }
  }

  /// Each column its own weight.
  void weighted_column_sums(const Strip& strip) const {
    S *plain = scratch.column_plain, *centered = scratch.column_centered;
    Odometer at(strip.columns);
    for (Index c = 0; c < strip.width; ++c, at.next()) {
      const Index k = at.offsets().statistic, p = strip.at.param + at.offsets().param;
      const GradientSums<S> sums{plain[c], centered[c]};
      if (args.gradients) {
        const GradientCenter<A, S> center(args, strip.at.statistic + k);
        totals.dweight[p] = fused<S>(center.unit, center.centered(sums), totals.dweight[p]);
        totals.dbias[p] = totals.dbias[p] + sums.plain;
      }
      const S weight = args.weight != nullptr ? S(args.weight[p]) : S(1);
      scratch.sum_plain[k] = fused<S>(weight, sums.plain, scratch.sum_plain[k]);
      scratch.sum_centered[k] = fused<S>(weight, sums.centered, scratch.sum_centered[k]);
    }
  }

  /// Weights that change from row to row: the rows one by one, their sums in A, folded into S every few rows.
  template <class I>
  TENSORNORM_INLINE void affine_sums(const Strip& strip, bool scaled) const {
    expand<&Loop::statistic>(strip.columns, scratch.rstd, scratch.column_rstd);
    expand<&Loop::statistic>(strip.columns, scratch.shift, scratch.column_shift);
    ScaledBlock<A, T> copy;
    Index pending = 0;
    const auto flush = [&]() TENSORNORM_INLINE_LAMBDA {
      fold_tile<A, S, I>(scratch.tile, strip.width, scratch.column_plain, scratch.column_centered);
      pending = 0;
    };
    for_each_row(walk, strip, false, [&](const Offsets& at, Index r, Index width, bool fresh) TENSORNORM_INLINE_LAMBDA {
      const Index param = at.param + r * walk.row_param;
      const LoopList columns = first_columns(strip, width);
      if (fresh) expand<&Loop::param>(columns, args.weight + param, scratch.weight);
      const Index step = scaled ? copy.size : width;
      for (Index c = 0; c < width; c += step) {
        const T* x = args.x + at.data[0] + r * walk.row_stride[0] + c;
        const Index n = std::min(step, width - c);
        if (scaled) x = copy.fill(x, 1, 0, n, scratch.column_factor + c);
        const AffineRow<A> row{scratch.column_mean + c,  scratch.column_rstd + c,
                               scratch.column_shift + c, scratch.weight + c,
                               {scratch.tile.plain + c,  scratch.tile.centered + c},
                               scratch.weight_terms + c, scratch.bias_terms + c};
        affine_row_gradient_sums<A, I>(x, args.dy + at.data[1] + r * walk.row_stride[1] + c, n, row);
      }
      if (args.gradients) {
        fold<&Loop::param, A>(columns, scratch.weight_terms, totals.dweight + param);
        fold<&Loop::param, A>(columns, scratch.bias_terms, totals.dbias + param);
      }
      if (++pending == kTileRows) flush();
    });
    flush();
    std::fill_n(scratch.sum_plain, strip.statistics, S(0));
    std::fill_n(scratch.sum_centered, strip.statistics, S(0));
    fold<&Loop::statistic, A>(strip.columns, scratch.column_plain, scratch.sum_plain);
    fold<&Loop::statistic, A>(strip.columns, scratch.column_centered, scratch.sum_centered);
  }

  template <class I>
  TENSORNORM_INLINE void write(const Strip& strip, bool scaled) const {
    using L = HardwareLanes<A, I>;
    using P = PerElement<L, A>;
    for (Index k = 0; k < strip.statistics; ++k) {
      GradientCenter<A, S> center(args, strip.at.statistic + k);
      if (!args.constant) center.finish(args, {scratch.sum_plain[k], scratch.sum_centered[k]});
      scratch.rstd[k] = static_cast<A>(center.rstd);
      scratch.slope[k] = center.slope;
      scratch.offset[k] = center.offset;
    }
    expand<&Loop::statistic>(strip.columns, scratch.rstd, scratch.column_rstd);
    expand<&Loop::statistic>(strip.columns, scratch.slope, scratch.column_slope);
    expand<&Loop::statistic>(strip.columns, scratch.offset, scratch.column_offset);
    if (!walk.affine) weigh<I>(strip.columns, strip.at.param, strip.width);
    ScaledBlock<A, T> copy;
    for_each_row(walk, strip, true, [&](const Offsets& at, Index r, Index width, bool fresh) TENSORNORM_INLINE_LAMBDA {
      if (walk.affine && fresh) weigh<I>(first_columns(strip, width), at.param + r * walk.row_param, width);
      const Index step = scaled ? copy.size : width;
      for (Index c = 0; c < width; c += step) {
        GradientMap<L, T, P> map(args.dy + at.data[1] + r * walk.row_stride[1] + c, {scratch.column_mean + c}, {scratch.column_scale + c},
                                 {scratch.column_slope + c}, {scratch.column_offset + c});
        const Index n = std::min(step, width - c);
        const T* x = args.constant ? map.dy : args.x + at.data[0] + r * walk.row_stride[0] + c;  // constants: dx does not depend on x
        if (scaled) x = copy.fill(x, 1, 0, n, scratch.column_factor + c);
        transform_run<A, I>(x, args.dx + at.data[2] + r * walk.row_stride[2] + c, n, map, -walk.row_stride[0], store);
      }
    });
  }

  /// column_scale = rstd * weight, whole vectors: the arrays are padded.
  template <class I>
  TENSORNORM_INLINE void weigh(const LoopList& columns, Index param, Index width) const {
    using L = HardwareLanes<A, I>;
    if (args.weight != nullptr) expand<&Loop::param>(columns, args.weight + param, scratch.weight);
    else std::fill_n(scratch.weight, width + kLine<A>, A(1));
    for (Index c = 0; c < width; c += L::width)
      (L::load(scratch.column_rstd + c) * L::load(scratch.weight + c)).store(scratch.column_scale + c);
  }
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
