// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/parallel.hpp>
#include <tensornorm/ops/column_backward.hpp>
#include <tensornorm/ops/short_rows_backward.hpp>
#include <tensornorm/ops/forward_op.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// dx, and the sums of dy * norm and dy per parameter, over a nest whose operands are x, dy, dx.
///
/// Work is cut into chunks by the data's shape; each has its own parameter sums, merged in their order: the same bits for any number
/// of threads. Everything that can fail has failed when the constructor returns; run() cannot.
template <class T, class Scalar, class Device>
class BackwardOp {
 public:
  using A = accumulator_t<T>;
  using S = statistic_t<T>;

  /// gradients: the caller's arrays, which run() adds to; null where nobody asks.
  BackwardOp(const LoopNest& nest, const kernels::BackwardArguments<T>& args, const Scalar* weight, const Parameters<Scalar, Scalar*>& gradients,
             const Device& device)
      : args_(args), order_(nest, weight, args.gradients), gradients_(gradients), device_(device) {
    const LoopNest& walked = order_.nest();
    const LoopNest merged = without_params(walked);
    const Index bytes = nest.size() * Index(sizeof(T));
    walk_ = choose_walk(merged, 3 * bytes, Index(sizeof(T)));
    Index unit = 3 * nest.samples * Index(sizeof(T)), run = 0;
    if (walk_ == Walk::row) {
      row_ = make_row_walk(walked, merged);
      pieces_ = row_.kept.size();
      run = row_.run.extent * Index(sizeof(T));
      beside_ = args.gradients && row_.run.param != 0 ? order_.affine().size() : 0;
    } else {
      column_ = make_column_walk(walked, merged, 2 * Index(sizeof(T)));
      pieces_ = column_.problems.size() * column_.strips;
      unit = 3 * bytes;
      run = column_.run_width(column_.strip_width()) * Index(sizeof(T));
    }
    const bool in_place = args.dx == args.x || args.dx == args.dy;
    store_ = choose_store(walk_, 3 * bytes, unit, run, in_place, args.dx, Index(sizeof(T)));
    if constexpr (kernels::may_write_beside_next<A, T>) {
      constexpr Index kArrays = 4;  // weight, dweight, dbias, and once more the weight, which is read at another place by then
      beside_next_ = walk_ == Walk::row && store_ == kernels::Store::streaming && args.dx != nullptr && !args.constant &&
                     writes_beside_next(2 * nest.samples * Index(sizeof(T)), kArrays * beside_ * Index(sizeof(A)));
    }
    short_rows_ = beside_ > 0 && args.dx != nullptr && !args.constant && store_ == kernels::Store::ordinary &&
                  row_.is_short(kernels::kBlock<A>, 3 * bytes, Index(sizeof(T)));
    params_ = args.gradients ? order_.affine().size() : 0;
    // Where every statistic has its own parameters, chunks do not meet; elsewhere their sums are to be small beside the data.
    const bool apart = params_ == nest.statistics && !order_.within();
    const Index fitting = apart || params_ == 0 ? kMostChunks : bytes / (8 * params_ * 2 * Index(sizeof(S)));
    chunks_ = std::clamp<Index>(std::min(bytes / kBytesPerThread, fitting), 1, std::min(pieces_, kMostChunks));
    const bool few = beside_ > 0 && chunks_ == 1 && pieces_ * row_.runs.size() <= kernels::kRowsPerFold * row_.runs_apart();
    sums_ = few ? 0 : apart ? 1 : chunks_;
    if constexpr (std::is_same_v<A, Scalar>) direct_ = few && pieces_ * row_.runs.size() == 1 && adds_directly(nest, weight);
    threads_ = useful_threads(device, chunks_, 3 * bytes);
    if (walk_ == Walk::column) crew_ = crew_for_cuts(device, column_.cuts, 3 * bytes, threads_);

    kernels::ColumnBackwardScratch<A, S> layout;
    worker_bytes_ = direct_               ? 0
                    : walk_ == Walk::row ? RowScratch().lay_out(beside_, args.x, nullptr)
                                       : layout.lay_out(column_.strip_width(), column_.strip_statistics(), column_.cuts, args.x, nullptr);
    ScratchPlan plan;
    const std::size_t workers_at = plan.reserve<std::byte>(Index(worker_bytes_) * threads_);
    const std::size_t sums_at = plan.reserve<S>(stride() * sums_);
    const std::size_t parameters_at = plan.reserve<A>(order_.copied());
    std::byte* memory = plan.bytes() > 0 ? Scratch::acquire(plan.bytes()) : nullptr;
    workers_ = memory + workers_at;
    totals_ = reinterpret_cast<S*>(memory + sums_at);
    args_.weight = order_.bind(reinterpret_cast<A*>(memory + parameters_at)).weight;
  }

  void run() noexcept {
    kernels::fill(totals_, stride() * sums_, S(0));
    parallel_for(device_, threads_, chunks_, [this](Index worker, Index first, Index last) noexcept {
      for (Index chunk = first; chunk < last; ++chunk) run_chunk(chunk, workers_ + std::size_t(worker) * worker_bytes_);
    });
    for (Index i = 1; i < sums_; ++i)
      for (Index p = 0; p < 2 * params_; ++p) sums_of(0).add(p, totals_[stride() * i + p]);
    if (sums_ == 0) {  // one chunk: the arrays of the first worker
      if (direct_) return;
      RowScratch sums;
      sums.lay_out(beside_, args_.x, workers_);
      add_in_order(sums.dweight, gradients_.weight);
      add_in_order(sums.dbias, gradients_.bias);
    } else {
      add_in_order(totals_, gradients_.weight);
      add_in_order(totals_ + params_, gradients_.bias);
    }
  }

 private:
  static constexpr Index kMostChunks = 16;
  static constexpr Index kPadding = 16;  ///< elements after an array, for whole vectors

  /// From the sums of one chunk to those of the next.
  Index stride() const { return (kernels::keeps_rest<A, S> ? 4 : 2) * params_ + kPadding; }
  /// Those of a chunk: dweight, dbias, and their rests.
  kernels::SumArray<A, S> sums_of(Index chunk) const {
    S* sums = totals_ + stride() * chunk;
    return {sums, kernels::keeps_rest<A, S> ? sums + 2 * params_ : sums};
  }

  template <class Sum>
  void add_in_order(const Sum* sums, Scalar* to) const {
    if (params_ == 0 || to == nullptr) return;
    LoopList outer = order_.affine();
    const Loop inner = outer.loops[--outer.depth];
    Odometer at(outer);
    for (Index i = 0; i < params_; i += inner.extent, at.next()) {
      Scalar* target = to + at.offsets().param;
      if (inner.param == 1) kernels::dispatch(kernels::AddRounded<S, Scalar, Sum>{target, sums + i, inner.extent});
      else for (Index k = 0; k < inner.extent; ++k) target[k * inner.param] = static_cast<Scalar>(S(target[k * inner.param]) + S(sums[i + k]));
    }
  }

  /// The gradients of one row, beside it, are as many terms: they are added where the caller has them. Not where that is memory still
  /// to be read.
  bool adds_directly(const LoopNest& nest, const Scalar* weight) const {
    const auto apart = [&](const auto* values, Index size) {
      return !ranges_overlap(gradients_.weight, nest.params, values, size) &&
             (gradients_.bias == nullptr || !ranges_overlap(gradients_.bias, nest.params, values, size));
    };
    return gradients_.weight != nullptr && order_.as_given() && apart(weight, weight != nullptr ? nest.params : 0) &&
           apart(args_.x, nest.size()) && apart(args_.dy, nest.size());
  }

  /// Arrays of a worker of the row form, one value per parameter.
  struct RowScratch {
    A *dweight = nullptr, *dbias = nullptr;
    std::size_t lay_out(Index params, const T* x, std::byte* memory) {
      ScratchPlan plan;
      plan.place_apart(dweight, params + kPadding, x, 1, memory);
      plan.place_apart(dbias, params + kPadding, x, 2, memory);
      return plan.bytes();
    }
  };

  void run_chunk(Index chunk, std::byte* memory) const noexcept {
    const Index first = pieces_ * chunk / chunks_, last = pieces_ * (chunk + 1) / chunks_;
    kernels::ParameterSums<A, S> totals;
    if (sums_ > 0) {
      const auto sums = sums_of(sums_ > 1 ? chunk : 0);
      totals = {sums, sums.from(params_)};
    }
    using Arguments = kernels::BackwardArguments<T>;
    if (walk_ == Walk::column) {
      kernels::ColumnBackwardScratch<A, S> scratch;
      scratch.lay_out(column_.strip_width(), column_.strip_statistics(), column_.cuts, args_.x, memory);
      kernels::dispatch(kernels::ColumnBackward<Arguments>{args_, column_, store_, first, last, totals, order_.within(), scratch, crew_});
    } else {
      RowScratch scratch;
      if constexpr (std::is_same_v<A, Scalar>)
        if (direct_) scratch = {gradients_.weight, gradients_.bias};
      if (!direct_) {
        scratch.lay_out(beside_, args_.x, memory);
        kernels::fill(scratch.dweight, beside_ + kPadding, A(0));
        if (gradients_.bias != nullptr) kernels::fill(scratch.dbias, beside_ + kPadding, A(0));
        else scratch.dbias = nullptr;
      }
      if (short_rows_)
        kernels::dispatch(kernels::ShortRowBackward<Arguments>{args_, row_, first, last, totals, scratch.dweight, scratch.dbias, beside_});
      else
        kernels::dispatch(
            kernels::RowBackward<Arguments>{args_, row_, store_, beside_next_, first, last, totals, scratch.dweight, scratch.dbias, beside_});
    }
  }

  kernels::BackwardArguments<T> args_;
  ParameterOrder<A, Scalar> order_;
  Parameters<Scalar, Scalar*> gradients_;
  const Device& device_;
  Walk walk_{};
  RowWalk row_;
  ColumnWalk column_;
  kernels::Store store_{};
  Crew crew_;
  Index sums_ = 1;  ///< arrays of totals; none where so few rows lie beside parameters that a worker's own arrays are the result
  bool direct_ = false;      ///< those arrays are the caller's own
  bool beside_next_ = false;  ///< see writes_beside_next()
  bool short_rows_ = false;  ///< statistics of one short run each, beside parameters that are all differentiated by
  Index pieces_ = 0, chunks_ = 1, threads_ = 1, params_ = 0, beside_ = 0;
  std::size_t worker_bytes_ = 0;
  std::byte* workers_ = nullptr;
  S* totals_ = nullptr;
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
