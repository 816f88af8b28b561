// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/parallel.hpp>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/ops/column_walk.hpp>
#include <tensornorm/ops/short_rows.hpp>

namespace tensornorm {

/// Weight and bias of a caller, dense RowMajor over the affine axes; null where there is none.
template <class Scalar, class Pointer = const Scalar*>
struct Parameters {
  Pointer weight = nullptr;
  Pointer bias = nullptr;
};

inline namespace TENSORNORM_ABI {

/// Parameters as kernels take them: of the accumulator's type, in the order of x's memory, both or none where they change within a
/// statistic (but see leave_bias_out()). They are copied only where they are not so already.
template <class A, class Scalar>
class ParameterOrder {
 public:
  ParameterOrder(const LoopNest& nest, const Parameters<Scalar>& given) : ParameterOrder(nest, given, false, true) {}
  /// For a backward call, which has no use for a bias. gradients: parameters count although none is given.
  ParameterOrder(const LoopNest& nest, const Scalar* weight, bool gradients) : ParameterOrder(nest, {weight, nullptr}, gradients, false) {}
  /// The nest whose parameter strides are those of weight() and bias().
  const LoopNest& nest() const { return nest_; }
  /// Elements that bind() needs, with the line of zeros that expand() ends with; 0 where nothing is copied.
  Index copied() const {
    const Index arrays = (copies_weight_ ? 1 : 0) + (copies_bias_ ? 1 : 0);
    return arrays > 0 ? arrays * affine_.size() + kernels::kLine<A> : 0;
  }
  /// A parameter changes within a statistic.
  bool within() const { return within_; }
  /// The parameters given are one after the other, beside a single loop.
  bool as_given() const { return in_order_ && affine_.depth == 1 && affine_.loops[0].param == 1; }
  /// A bias that is not there stays null, beside a weight that changes within a statistic.
  void leave_bias_out() { copies_bias_ &= given_.bias != nullptr; }
  /// The affine loops, in the order of memory, with the strides of the parameters given.
  const LoopList& affine() const { return affine_; }
  /// Binds the parameters; `memory` has copied() elements.
  Parameters<A> bind(A* memory) const {
    A* const after_weight = memory + (copies_weight_ ? affine_.size() : 0);
    return {copies_weight_ ? gather(given_.weight, memory, A(1)) : given(given_.weight),
            copies_bias_ ? gather(given_.bias, after_weight, A(-0.0)) : given(given_.bias)};
  }

 private:
  ParameterOrder(const LoopNest& nest, const Parameters<Scalar>& given, bool keep, bool biased) : given_(given), nest_(nest) {
    if (given.weight == nullptr && given.bias == nullptr && !keep) {
      nest_ = without_params(nest);
      return;
    }
    Index dense = 1;
    bool within = false;
    for (int i = nest.depth - 1; i >= 0; --i) {
      if (nest.loops[i].param == 0) continue;
      in_order_ &= nest.loops[i].param == dense;
      nest_.loops[i].param = dense;
      dense *= nest.loops[i].extent;
      within |= reduces(nest.loops[i]);
    }
    for (int i = 0; i < nest.depth; ++i)
      if (nest.loops[i].param != 0) affine_.push(nest.loops[i]);
    if (affine_.depth == 0) affine_.push({1, {1, 1, 1}, 0, 1});  // a single parameter: nests have no loop of one step
    const auto copies = [&](const Scalar* values) {
      return values != nullptr ? !std::is_same_v<A, Scalar> || !in_order_ : within;
    };
    copies_weight_ = copies(given.weight);
    copies_bias_ = biased && copies(given.bias);
    within_ = within;
    if (!in_order_) nest_ = merged(nest_);
  }
  static LoopNest merged(const LoopNest& nest) {
    LoopNest result = nest;
    result.depth = 0;
    for (int i = 0; i < nest.depth; ++i) result.append(nest.loops[i]);
    result.close();
    return result;
  }
  static const A* given(const Scalar* values) {
    if constexpr (std::is_same_v<A, Scalar>) return values;
    else return nullptr;
  }
  const A* gather(const Scalar* from, A* to, A missing) const {
    if (from != nullptr) kernels::expand<&Loop::param>(affine_, from, to);
    else kernels::fill(to, affine_.size(), missing);
    return to;
  }

  Parameters<Scalar> given_;
  LoopNest nest_;
  LoopList affine_;
  bool in_order_ = true, copies_weight_ = false, copies_bias_ = false, within_ = false;
};

/// y = (x - mean) * rstd * weight + bias over a nest: the schedule is chosen, memory taken, the kernels run.
///
/// Everything that can fail has failed when the constructor returns; run() cannot.
template <class T, class Scalar, class Device>
class ForwardOp {
 public:
  using A = accumulator_t<T>;
  using S = statistic_t<T>;

  /// y may be null: moments only. frozen: the statistics are given. `statistics_wanted`: room for as many arrays of statistics.
  ForwardOp(const LoopNest& nest, const T* x, T* y, const Parameters<Scalar>& parameters, const StatisticsRule& rule, bool frozen,
            const Device& device, int statistics_wanted = 0)
      : order_(nest, parameters), device_(device), frozen_(frozen) {
    args_.x = x;
    args_.y = y;
    args_.rule = rule;
    args_.samples = nest.samples;
    const LoopNest& walked = order_.nest();
    const LoopNest merged = without_params(walked);
    const Index bytes = nest.size() * Index(sizeof(T));
    walk_ = frozen && long_runs(walked) ? Walk::row : choose_walk(merged, 2 * bytes, Index(sizeof(T)));
    Index pieces, unit, run;
    std::size_t column_bytes = 0;
    if (walk_ == Walk::row) {
      row_ = frozen ? make_frozen_row_walk(walked) : make_row_walk(walked, merged);
      order_.leave_bias_out();
      pieces = row_.kept.size();
      unit = nest.samples * Index(sizeof(T));
      run = row_.run.extent * Index(sizeof(T));
    } else {
      column_ = make_column_walk(walked, merged, Index(sizeof(T)), frozen);
      pieces = column_.problems.size() * column_.strips;
      unit = bytes;
      run = column_.run_width(column_.strip_width()) * Index(sizeof(T));
      kernels::ColumnScratch<A, S> layout;
      column_bytes = layout.lay_out(column_.strip_width(), column_.strip_statistics(), column_.cuts, x, nullptr);
    }
    pieces_ = pieces;
    store_ = choose_store(walk_, 2 * bytes, unit, run, x == y, y, Index(sizeof(T)));
    short_rows_ = walk_ == Walk::row && !frozen && y != nullptr && store_ == kernels::Store::ordinary &&
                  row_.is_short(kernels::kBlock<A>, 2 * bytes, Index(sizeof(T)));
    threads_ = useful_threads(device, pieces, bytes);
    meets_again_ = walk_ == Walk::row && frozen && y != nullptr && store_ == kernels::Store::ordinary && row_.meets_again() &&
                   pieces >= 2 * threads_ * coefficients_made();
    staged_ = meets_again_ && kernels::streams_vectors<A> && row_.gapless(1) > 0 &&
              choose_store(walk_, 2 * bytes, bytes, row_.gapless(1) * Index(sizeof(T)), x == y, y, Index(sizeof(T))) == kernels::Store::streaming;
    if (walk_ == Walk::column) crew_ = crew_for_cuts(device, column_.cuts, bytes, threads_);
    ScratchPlan plan;
    const std::size_t columns_at = plan.reserve<std::byte>(Index(column_bytes) * threads_);
    const std::size_t parameters_at = plan.reserve<A>(order_.copied());
    const std::size_t made_at = plan.reserve<kernels::Coefficients<A>>(meets_again_ ? coefficients_made() * threads_ : 0);
    const std::size_t statistics_at = plan.reserve<S>(nest.statistics * statistics_wanted);
    std::byte* memory = plan.bytes() > 0 ? Scratch::acquire(plan.bytes()) : nullptr;
    column_memory_ = memory + columns_at;
    column_bytes_ = column_bytes;
    made_memory_ = reinterpret_cast<kernels::Coefficients<A>*>(memory + made_at);
    statistics_memory_ = reinterpret_cast<S*>(memory + statistics_at);
    const Parameters<A> bound = order_.bind(reinterpret_cast<A*>(memory + parameters_at));
    args_.weight = bound.weight;
    args_.bias = bound.bias;
  }

  /// The i-th array of statistics asked for, nest.statistics elements.
  S* statistics_memory(int i) const { return statistics_memory_ + i * order_.nest().statistics; }
  void set_statistics(const StatisticsArrays<S>& statistics) { args_.statistics = statistics; }

  void run() noexcept {
    const bool frozen_runs = meets_again_ && kernels::all_near<A, T>(args_.statistics, order_.nest().statistics);
    parallel_for(device_, threads_, pieces_, [this, frozen_runs](Index worker, Index first, Index last) noexcept {
      if (walk_ == Walk::column) {
        kernels::ColumnScratch<A, S> scratch;
        scratch.lay_out(column_.strip_width(), column_.strip_statistics(), column_.cuts, args_.x, column_memory_ + std::size_t(worker) * column_bytes_);
        kernels::dispatch(kernels::ColumnForward<kernels::ForwardArguments<T>>{args_, column_, store_, frozen_, first, last, scratch, crew_});
      } else if (short_rows_) {
        kernels::dispatch(kernels::ShortRowForward<kernels::ForwardArguments<T>>{args_, row_, first, last});
      } else if (frozen_runs) {
        kernels::dispatch(
            kernels::FrozenRunForward<kernels::ForwardArguments<T>>{args_, row_, staged_, first, last, made_memory_ + worker * coefficients_made()});
      } else {
        kernels::dispatch(kernels::RowForward<kernels::ForwardArguments<T>>{args_, row_, store_, frozen_, first, last});
      }
    });
  }

 private:
  /// Given statistics leave the order of the walk free: a run needs only be long enough for coefficients in registers.
  static bool long_runs(const LoopNest& nest) { return reduces(nest.innermost()) && nest.innermost().extent >= kLongRun; }
  /// Sets of coefficients that each thread makes for frozen runs, to use each of them twice or more.
  Index coefficients_made() const { return row_.kept.loops[row_.kept.depth - 1].extent; }

  kernels::ForwardArguments<T> args_;
  ParameterOrder<A, Scalar> order_;
  const Device& device_;
  bool frozen_;
  Walk walk_{};
  RowWalk row_;
  ColumnWalk column_;
  kernels::Store store_{};
  Crew crew_;
  bool short_rows_ = false;  ///< statistics of one short run each
  bool meets_again_ = false;  ///< short runs with given statistics, the same ones again and again
  bool staged_ = false;  ///< those, written past the caches
  Index pieces_ = 0, threads_ = 1;
  kernels::Coefficients<A>* made_memory_ = nullptr;
  std::byte* column_memory_ = nullptr;
  std::size_t column_bytes_ = 0;
  S* statistics_memory_ = nullptr;
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
