// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/parallel.hpp>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/ops/column_walk.hpp>
#include <tensornorm/ops/footprint.hpp>
#include <tensornorm/ops/frozen_rows.hpp>
#include <tensornorm/ops/frozen_runs.hpp>
#include <tensornorm/ops/parameter_order.hpp>
#include <tensornorm/ops/short_rows.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// Where the statistics of a forward call come from, as far as it is known when it is compiled: the kernels for anything else need not be.
enum class StatisticsSource {
  rows,  ///< x; reduces_rows()
  any,   ///< x
  given,
};

/// How a forward call walks its elements: all that does not depend on where these and the parameters lie.
template <class T, class Scalar, StatisticsSource kSource>
struct ForwardPlan {
  using Element = T;
  using Parameter = Scalar;
  using A = accumulator_t<T>;
  using S = statistic_t<T>;

  /// What it depends on beside the nest.
  struct Options {
    bool weight, bias;  ///< which parameters there are
    bool writes;        ///< a y is wanted
    bool in_place;      ///< y is x
    bool aligned;       ///< y lies at a multiple of the size of its elements
    friend bool operator==(const Options&, const Options&) = default;
  };

  static constexpr bool frozen = kSource == StatisticsSource::given;
  static constexpr bool rows_only = kSource == StatisticsSource::rows;

  Index statistics, samples, params;  ///< as LoopNest has them
  Index bytes;                        ///< of x
  Footprint footprint;
  ParameterOrder<A, Scalar> order;
  Walk walk;
  RowWalk row;
  ColumnWalk column;
  FrozenRows frozen_rows;  ///< columns with given statistics, in the caches
  kernels::Store store;
  bool one_row;      ///< a single statistic of one short run
  bool short_rows = false;    ///< statistics of one short run each, or of joined slices
  bool fetches_rows = false;  ///< the runs of those, or slices, ask for the next ones
  bool meets_again;  ///< short runs with given statistics, the same ones again and again
  bool staged;       ///< those, written past the caches
  bool as_given = false;  ///< few rows of a 16-bit type beside parameters of it
  Index fetched_of_next = 0;  ///< elements of the next row to fetch before one is written
  Index pieces;      ///< parts of the work that do not depend on each other
  std::size_t column_bytes = 0;  ///< memory of each thread in a walk of columns

  ForwardPlan(const LoopNest& nest, const Options& options);

  /// Sets of coefficients that each thread makes where runs meet them again, to use each of them twice or more.
  Index coefficients_made() const { return row.kept.loops[row.kept.depth - 1].extent; }

 private:
  /// Given statistics leave the order of the walk free: a run needs only be long enough for coefficients in registers.
  static bool long_runs(const LoopNest& nest) { return reduces(nest.innermost()) && nest.innermost().extent >= kLongRun; }
};

// Not in the class: what is there may be inlined, and would be compiled for that where kernels are not (kernels_once.hpp).
template <class T, class Scalar, StatisticsSource kSource>
ForwardPlan<T, Scalar, kSource>::ForwardPlan(const LoopNest& nest, const Options& options)
    : statistics(nest.statistics), samples(nest.samples), params(nest.params), bytes(nest.size() * Index(sizeof(T))), footprint(nest),
      order(nest, options.weight, options.bias) {
  constexpr Index element = Index(sizeof(T));
  const Index traffic = traffic_of(2, bytes);
  const LoopNest& walked = order.nest();
  const LoopNest merged = rows_only ? without_params(walked) : nest_of_statistics(walked, traffic, element, true);
  const JoinedSlices joined = frozen || order.within() ? JoinedSlices() : kernels::joined_slices<A>;
  Index cache = lasting_cache();
  const auto store_of = [&](Index unit, bool streamed) {
    return choose_store(walk, traffic, unit, streamed, options.in_place, options.aligned, !frozen, cache);
  };
  walk = rows_only || (frozen && long_runs(walked)) ? Walk::row : choose_walk(merged, traffic, element, true, joined);
  if (rows_only || walk == Walk::row) {  // where the first is true, the rest need not be compiled
    row = frozen ? make_frozen_row_walk(walked) : make_row_walk(walked, merged);
    order.leave_bias_out();
    as_given = takes_narrow<T, Scalar> && options.weight && row.run.param == 1 && order.in_one_run() &&
               row.kept.size() * row.runs.size() <= kRowsAsGiven;
    if (as_given) order.leave_as_given();
    pieces = row.kept.size();
    // Runs that meet coefficients again are as fast within the cache: a reader of y gains by what of it is there.
    if (frozen && row.meets_again()) cache = last_level_cache();
    const Index run = row.run.extent * element;
    store = store_of(samples * element, frozen ? is_streamed_run(run, element) : is_streamed_row(run, element, row.runs.size() > 1));
  } else {
    const HeldLines held = HeldLines::of<A, S>(kernels::kHeldMomentLines);
    column = make_column_walk(walked, merged, {.bytes = element, .tile = kTileColumns<A>, .held = held, .once = frozen});
    pieces = column.problems.size() * column.strips;
    store = store_of(bytes, column.is_streamed(element));
    if (frozen && options.writes && store == kernels::Store::ordinary) frozen_rows = FrozenRows(walked, options.weight || options.bias);
    column_bytes = kernels::ColumnScratch<A, S>().template lay_out<T>(column, nullptr, nullptr);
  }
  if (!frozen && walk == Walk::row && store == kernels::Store::ordinary && row.is_one_run(row.length))
    fetched_of_next = fetched_of_next_row(row.length * element, options.in_place ? bytes : traffic) / element;
  one_row = !frozen && walk == Walk::row && store == kernels::Store::ordinary && row.kept.size() == 1 && row.is_one_run(kernels::kBlock<A>);
  const bool in_caches = walk == Walk::row && options.writes && store == kernels::Store::ordinary;
  if (!frozen && walk == Walk::row) {
    const bool streams = store == kernels::Store::streaming;
    const Index longest = longest_row_together(traffic, streams, kernels::Narrow<T>) / element;
    short_rows = options.writes && row.is_short(std::min(longest, kernels::kLongestTogether<A, S>));
    fetches_rows = short_rows && (streams || fetches_rows_together(traffic));
    if (row.has_joined_slices(joined)) {
      short_rows = true;
      store = kernels::Store::ordinary;
    }
    if (row.slices.size() > 1) fetches_rows = fetches_slices(row.length * element, traffic, true);
    if (options.writes && !as_given && keeps_in_step<A>(row, 1, order.affine().size())) order.keep_in_step();
  }
  meets_again = in_caches && frozen && row.meets_again();
  staged = meets_again && kernels::streams_vectors<A> && row.gapless(1) > 0 &&
           store_of(bytes, is_streamed_run(row.gapless(1) * element, element)) == kernels::Store::streaming;
}

/// y = (x - mean) * rstd * weight + bias by a plan, which is to outlive it: memory is taken, the kernels run.
///
/// Everything that can fail has failed when the constructor returns; run() cannot.
template <class Plan, class Device>
class ForwardOp {
 public:
  using T = typename Plan::Element;
  using Scalar = typename Plan::Parameter;
  using A = typename Plan::A;
  using S = typename Plan::S;

  /// y may be null: moments only. `statistics_wanted`: room for as many arrays of statistics.
  ForwardOp(const Plan& plan, const T* x, T* y, const Parameters<Scalar>& parameters, const StatisticsRule& rule,
            const Device& device, int statistics_wanted = 0)
      : plan_(plan), device_(device) {
    args_.x = x;
    args_.y = y;
    args_.rule = rule;
    args_.samples = plan.samples;
    threads_ = useful_threads(device, plan.pieces, plan.bytes);
    meets_again_ = plan.meets_again && plan.pieces / (2 * threads_) >= plan.coefficients_made();
    if (plan.walk == Walk::column) crew_ = crew_for_cuts(device, plan.column.cuts, plan.bytes, threads_);
    ScratchPlan memory_plan;
    const std::size_t columns_at = memory_plan.reserve<std::byte>(Index(plan.column_bytes), threads_);
    const std::size_t parameters_at = memory_plan.reserve<A>(plan.order.copied());
    const std::size_t made_at = memory_plan.reserve<kernels::Coefficients<A>>(meets_again_ ? plan.coefficients_made() : 0, threads_);
    const std::size_t statistics_at = memory_plan.reserve<S>(plan.statistics, statistics_wanted);
    std::byte* memory = memory_plan.bytes() > 0 ? Scratch::acquire(memory_plan.bytes()) : nullptr;
    column_memory_ = memory + columns_at;
    made_memory_ = reinterpret_cast<kernels::Coefficients<A>*>(memory + made_at);
    statistics_memory_ = reinterpret_cast<S*>(memory + statistics_at);
    const Parameters<A> bound = plan.order.bind(parameters, reinterpret_cast<A*>(memory + parameters_at), y);
    args_.weight = bound.weight;
    args_.bias = bound.bias;
    if constexpr (takes_narrow<T, Scalar>)
      if (plan.as_given) {
        args_.given_weight = parameters.weight;
        args_.given_bias = parameters.bias;
      }
  }

  /// The i-th array of statistics asked for, one value for each of them.
  S* statistics_memory(int i) const { return statistics_memory_ + i * plan_.statistics; }
  void set_statistics(const StatisticsArrays<S>& statistics) { args_.statistics = statistics; }
  /// Those of a plan that is frozen; `near`: none of them asks for a scale.
  void set_given(const StatisticsArrays<S>& statistics, bool near) {
    args_.statistics = statistics;
    near_ = near;
  }

  void run() noexcept {
    using Arguments = kernels::ForwardArguments<T>;
    if constexpr (Plan::frozen) {
      if (near_ && plan_.frozen_rows.rows > 0) return kernels::dispatch(kernels::FrozenRowsForward<Arguments>{args_, plan_.frozen_rows});
      meets_again_ = meets_again_ && near_;
    }
    parallel_for(device_, threads_, plan_.pieces, [this](Index worker, Index first, Index last) noexcept {
      if constexpr (!Plan::rows_only)
        if (plan_.walk == Walk::column) {
          const ColumnWalk& column = plan_.column;
          kernels::ColumnForward<Arguments> job{args_, column, plan_.store, Plan::frozen, near_, first, last, {}, crew_};
          job.scratch.lay_out(column, args_.x, column_memory_ + std::size_t(worker) * plan_.column_bytes);  // there: a copy of it would wait
          return kernels::dispatch(job);
        }
      if constexpr (Plan::frozen) {
        if (meets_again_)
          return kernels::dispatch(kernels::FrozenRunForward<Arguments>{args_, plan_.row, plan_.staged, first, last,
                                                                        made_memory_ + worker * plan_.coefficients_made()});
      } else {
        if (plan_.one_row) return kernels::dispatch(kernels::OneRowForward<Arguments>{args_, plan_.row.length, plan_.row.run.param != 0});
        if (plan_.short_rows)
          return kernels::dispatch(kernels::ShortRowForward<Arguments>{args_, plan_.row, plan_.store, plan_.fetches_rows, first, last});
      }
      kernels::dispatch(kernels::RowForward<Arguments>{args_, plan_.row, plan_.store, Plan::frozen, first, last, plan_.fetched_of_next,
                                                      plan_.fetches_rows});
    });
  }

 private:
  kernels::ForwardArguments<T> args_;
  const Plan& plan_;
  const Device& device_;
  bool near_ = false;  ///< given statistics none of which asks for a scale
  bool meets_again_;   ///< plan.meets_again, often enough for each thread; once it runs, of such
  Index threads_;
  Crew crew_;
  kernels::Coefficients<A>* made_memory_;
  std::byte* column_memory_;
  S* statistics_memory_;
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
