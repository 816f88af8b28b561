// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/core/parallel.hpp>
#include <tensornorm/ops/column_backward.hpp>
#include <tensornorm/ops/short_rows_backward.hpp>
#include <tensornorm/ops/forward_op.hpp>
#include <tensornorm/ops/one_row.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// How a backward call walks its elements: all that does not depend on where these and the parameters lie.
///
/// Work is cut into chunks by the data's shape; each has its own parameter sums, merged in their order: the same bits for any number
/// of threads.
///
/// kRowsOnly: reduces_rows(); the kernels for anything else need not be compiled.
template <class T, class Scalar, bool kRowsOnly>
struct BackwardPlan {
  static constexpr bool rows_only = kRowsOnly;
  using Element = T;
  using Parameter = Scalar;
  using A = accumulator_t<T>;
  using S = statistic_t<T>;

  /// What it depends on beside the nest, whose operands are x, dy, dx.
  struct Options {
    bool weight;     ///< there is one
    bool gradients;  ///< weight and bias gradients are wanted
    bool writes;     ///< a dx is wanted
    bool constant;   ///< the statistics do not depend on x
    bool in_place;   ///< dx is x or dy
    bool aligned;    ///< dx lies at a multiple of the size of its elements
    friend bool operator==(const Options&, const Options&) = default;
  };

  Index size, statistics, samples, params;  ///< as LoopNest has them
  Footprint footprint;
  ParameterOrder<A, Scalar> order;
  Walk walk;
  RowWalk row;
  ColumnWalk column;
  kernels::Store store;
  bool beside_next = false;   ///< see writes_beside_next()
  bool short_rows;            ///< statistics of one short run each, or of joined slices; beside parameters only where all are differentiated by
  bool fetches_rows;          ///< as in ForwardPlan
  bool one_row;               ///< a single run beside its parameters, whose gradients are as many terms
  Index pieces;               ///< strips of columns, or statistics
  Index chunks;               ///< parts of the work that do not depend on each other
  Index sums;                 ///< arrays of totals; none where so few rows lie beside parameters that a worker's own arrays are the result
  Index differentiated;       ///< parameters with a gradient
  Index beside = 0;           ///< those of them that lie beside a run
  bool in_step = false;       ///< all runs of x, and those of dy, begin as far past a line, and their sums may begin at one
  std::size_t column_bytes = 0;  ///< memory of each thread in a walk of columns

  BackwardPlan(const LoopNest& nest, const Options& options);

 private:
  static constexpr Index kMostChunks = 16;
};

// Not in the class: see ForwardPlan's.
template <class T, class Scalar, bool kRowsOnly>
BackwardPlan<T, Scalar, kRowsOnly>::BackwardPlan(const LoopNest& nest, const Options& options)
    : size(nest.size()), statistics(nest.statistics), samples(nest.samples), params(nest.params), footprint(nest),
      order(ParameterOrder<A, Scalar>::of_gradients(nest, options.weight, options.gradients)) {
  constexpr Index element = Index(sizeof(T));
  const LoopNest& walked = order.nest();
  const Index bytes = size * element, traffic = traffic_of(3, bytes);
  const LoopNest merged = kRowsOnly ? without_params(walked) : nest_of_statistics(walked, traffic, element, false);
  const JoinedSlices joined = options.constant || order.within() ? JoinedSlices() : kernels::joined_slices<A>;
  walk = kRowsOnly ? Walk::row : choose_walk(merged, traffic, element, false, joined);
  Index unit = traffic_of(3, samples * element);
  bool streamed = false;
  if (kRowsOnly || walk == Walk::row) {
    row = make_row_walk(walked, merged);
    pieces = row.kept.size();
    const Index run = row.run.extent * element;
    streamed = is_streamed_row(run, element, false);
    beside = options.gradients && row.run.param != 0 ? order.affine().size() : 0;
    constexpr Index w = kernels::virtual_width<A>;
    in_step = std::is_same_v<A, T> && kernels::kMasks && row.run.extent >= kernels::kTurnedVectors * w && row.is_in_step(0, w) &&
              row.is_in_step(1, w);
  } else {
    const HeldLines held = HeldLines::of<A, S>(kernels::kHeldGradientLines);
    column = make_column_walk(walked, merged, {.bytes = element, .operands = 2, .tile = kTileColumns<A>, .held = held});
    pieces = column.problems.size() * column.strips;
    unit = traffic;
    streamed = column.is_streamed(element);
    column_bytes = kernels::ColumnBackwardScratch<A, S>().template lay_out<T>(column, nullptr, nullptr);
  }
  const bool own = walk == Walk::row && !options.constant;
  store = choose_store(walk, traffic, unit, streamed, options.in_place, options.aligned, own);
  const bool writes_rows = own && options.writes;
  if constexpr (kernels::may_write_beside_next<A, T>) {
    constexpr Index kArrays = 4;  // weight, dweight, dbias, and once more the weight, which is read at another place by then
    beside_next = writes_rows && store == kernels::Store::streaming &&
                  writes_beside_next(traffic_of(2, samples * element), traffic_of(kArrays, beside * Index(sizeof(A))));
  }
  if (walk == Walk::row && options.writes && keeps_in_step<A>(row, 2, order.affine().size())) order.keep_in_step();
  const Index longest = std::min(longest_row_together(traffic, false, kernels::Narrow<T>) / element, kernels::kBlock<A>);
  const bool short_run = writes_rows && store == kernels::Store::ordinary && row.is_short(longest);
  short_rows = own && (row.run.param != 0 ? beside > 0 && short_run : short_run || row.has_joined_slices(joined));
  const bool sliced = walk == Walk::row && row.slices.size() > 1;
  fetches_rows = sliced ? fetches_slices(row.length * element, traffic, false) : short_run && fetches_rows_together(traffic);
  differentiated = options.gradients ? order.affine().size() : 0;
  // Where every statistic has its own parameters, chunks do not meet; elsewhere their sums are to be small beside the data.
  const bool apart = differentiated == statistics && !order.within();
  const Index fitting = apart || differentiated == 0 ? kMostChunks : bytes / (16 * Index(sizeof(S))) / differentiated;
  chunks = std::clamp<Index>(std::min(bytes / kBytesPerThread, fitting), 1, std::min(pieces, kMostChunks));
  const bool few = beside > 0 && chunks == 1 && pieces * row.runs.size() <= kernels::kRowsPerFold * row.runs_apart();
  sums = few ? 0 : apart ? 1 : chunks;
  one_row = few && pieces * row.runs.size() == 1;
}

/// dx, and the sums of dy * norm and dy per parameter, by a plan, which is to outlive it.
///
/// Everything that can fail has failed when the constructor returns; run() cannot.
template <class Plan, class Device>
class BackwardOp {
 public:
  using T = typename Plan::Element;
  using Scalar = typename Plan::Parameter;
  using A = typename Plan::A;
  using S = typename Plan::S;

  /// gradients: the caller's arrays, which run() adds to; null where nobody asks.
  BackwardOp(const Plan& plan, const kernels::BackwardArguments<T>& args, const Scalar* weight, const Parameters<Scalar, Scalar*>& gradients,
             const Device& device)
      : args_(args), plan_(plan), gradients_(gradients), device_(device) {
    const Index traffic = traffic_of(3, plan.size * Index(sizeof(T)));
    constexpr bool narrow = takes_narrow<T, Scalar>;
    if constexpr (std::is_same_v<A, Scalar> || narrow) direct_ = plan.one_row && (!narrow || weight != nullptr) && adds_directly(weight);
    threads_ = useful_threads(device, plan.chunks, traffic);
    if (plan.walk == Walk::column) crew_ = crew_for_cuts(device, plan.column.cuts, traffic, threads_);
    worker_bytes_ = plan.walk == Walk::column ? plan.column_bytes : direct_ ? 0 : RowScratch().lay_out(plan, args, nullptr);
    ScratchPlan memory_plan;
    const std::size_t workers_at = memory_plan.reserve<std::byte>(Index(worker_bytes_), threads_);
    const std::size_t sums_at = memory_plan.reserve<S>(stride(), plan.sums);
    const bool as_given = narrow && direct_;
    const std::size_t parameters_at = memory_plan.reserve<A>(as_given ? 0 : plan.order.copied());
    std::byte* memory = memory_plan.bytes() > 0 ? Scratch::acquire(memory_plan.bytes()) : nullptr;
    workers_ = memory + workers_at;
    totals_ = reinterpret_cast<S*>(memory + sums_at);
    if (!as_given) {
      args_.weight = plan.order.bind({weight, nullptr}, reinterpret_cast<A*>(memory + parameters_at), args.dx).weight;
    } else if constexpr (narrow) {
      args_.given_weight = weight;
      args_.given_dweight = gradients.weight;
      args_.given_dbias = gradients.bias;
    }
  }

  void run() noexcept {
    kernels::fill(totals_, stride() * plan_.sums, S(0));
    parallel_for(device_, threads_, plan_.chunks, [this](Index worker, Index first, Index last) noexcept {
      for (Index chunk = first; chunk < last; ++chunk) run_chunk(chunk, workers_ + std::size_t(worker) * worker_bytes_);
    });
    for (Index i = 1; i < plan_.sums; ++i)
      for (Index p = 0; p < 2 * plan_.differentiated; ++p) sums_of(0).add(p, totals_[stride() * i + p]);
    if (plan_.sums == 0) {  // one chunk: the arrays of the first worker
      if (direct_) return;
      RowScratch sums;
      sums.lay_out(plan_, args_, workers_);
      add_in_order(sums.dweight, gradients_.weight);
      add_in_order(sums.dbias, gradients_.bias);
    } else {
      add_in_order(totals_, gradients_.weight);
      add_in_order(totals_ + plan_.differentiated, gradients_.bias);
    }
  }

 private:
  static constexpr Index kPadding = 16;  ///< elements after an array, those of rows before it too, for whole vectors

  /// From the sums of one chunk to those of the next.
  Index stride() const { return (kernels::keeps_rest<A, S> ? 4 : 2) * plan_.differentiated + kPadding; }
  /// Those of a chunk: dweight, dbias, and their rests.
  kernels::SumArray<A, S> sums_of(Index chunk) const {
    S* sums = totals_ + stride() * chunk;
    return {sums, kernels::keeps_rest<A, S> ? sums + 2 * plan_.differentiated : sums};
  }

  template <class Sum>
  void add_in_order(const Sum* sums, Scalar* to) const {
    if (plan_.differentiated == 0 || to == nullptr) return;
    const LoopList& loops = plan_.order.affine();
    const Loop inner = loops.loops[loops.depth - 1];
    Odometer at(loops, 0, loops.depth - 1);
    for (Index i = 0; i < plan_.differentiated; i += inner.extent, at.next()) {
      Scalar* target = to + at.offsets().param;
      if (inner.param == 1) kernels::dispatch(kernels::AddRounded<S, Scalar, Sum>{target, sums + i, inner.extent});
      else for (Index k = 0; k < inner.extent; ++k) target[k * inner.param] = static_cast<Scalar>(S(target[k * inner.param]) + S(sums[i + k]));
    }
  }

  /// The gradients of one row, beside it, are as many terms: they are added where the caller has them. Not where that is memory still
  /// to be read.
  bool adds_directly(const Scalar* weight) const {
    const auto is_apart = [&](const Scalar* to) { return lie_apart(plan_.params, to, weight, args_.x, args_.dy); };  // as many of each
    return gradients_.weight != nullptr && plan_.order.in_one_run() && is_apart(gradients_.weight) && is_apart(gradients_.bias);
  }

  /// Arrays of a worker of the row form, one value per parameter.
  struct RowScratch {
    A *dweight = nullptr, *dbias = nullptr;
    /// They are aligned where vectors of rows are, if x and dy are so together.
    std::size_t lay_out(const Plan& of, const kernels::BackwardArguments<T>& args, std::byte* memory) {
      static_assert(kPadding >= kernels::virtual_width<A>);
      const Index from_line = kernels::elements_past_line(args.x);
      const Index past = of.in_step && from_line == kernels::elements_past_line(args.dy) ? from_line % kPadding : 0;
      ScratchPlan plan;
      for (int third : {1, 2}) {
        A*& array = third == 1 ? dweight : dbias;
        plan.place_apart(array, of.beside + 3 * kPadding, args.x, std::size_t(third), memory);
        if (memory != nullptr) array += kPadding + past;
      }
      return plan.bytes();
    }
    static void clear(A* array, Index params) { kernels::fill(array - kPadding, params + 2 * kPadding, A(0)); }
  };

  void run_chunk(Index chunk, std::byte* memory) const noexcept {
    const Index first = first_of_share(plan_.pieces, chunk, plan_.chunks), last = first_of_share(plan_.pieces, chunk + 1, plan_.chunks);
    kernels::ParameterSums<A, S> totals;
    if (plan_.sums > 0) {
      const auto sums = sums_of(plan_.sums > 1 ? chunk : 0);
      totals = {sums, sums.from(plan_.differentiated)};
    }
    using Arguments = kernels::BackwardArguments<T>;
    if constexpr (!Plan::rows_only)
      if (plan_.walk == Walk::column) {
        kernels::ColumnBackward<Arguments> job{args_, plan_.column, plan_.store, first, last, totals, plan_.order.within(), {}, crew_};
        job.scratch.lay_out(plan_.column, args_.x, memory);
        return kernels::dispatch(job);
      }
    RowScratch scratch;
    if constexpr (std::is_same_v<A, Scalar>)
      if (direct_) scratch = {gradients_.weight, gradients_.bias};
    if constexpr (std::is_same_v<A, Scalar> || takes_narrow<T, Scalar>)
      if (direct_ && plan_.store == kernels::Store::ordinary)
        return kernels::dispatch(kernels::OneRowBackward<Arguments>{args_, plan_.row.run.extent, scratch.dweight, scratch.dbias});
    if (!direct_) {
      scratch.lay_out(plan_, args_, memory);
      RowScratch::clear(scratch.dweight, plan_.beside);
      if (gradients_.bias != nullptr) RowScratch::clear(scratch.dbias, plan_.beside);
      else scratch.dbias = nullptr;
    }
    if (plan_.short_rows)
      kernels::dispatch(kernels::ShortRowBackward<Arguments>{args_, plan_.row, first, last, totals, scratch.dweight, scratch.dbias, plan_.beside,
                                                              !direct_, plan_.fetches_rows});
    else if (plan_.store == kernels::Store::ordinary && plan_.row.run.param == 0)
      kernels::dispatch(kernels::CachedRowBackward<Arguments>{args_, plan_.row, plan_.fetches_rows, first, last, totals});
    else
      kernels::dispatch(kernels::RowBackward<Arguments>{args_, plan_.row, plan_.store, plan_.beside_next, first, last, totals, scratch.dweight,
                                                        scratch.dbias, plan_.beside, !direct_});
  }

  kernels::BackwardArguments<T> args_;
  const Plan& plan_;
  Parameters<Scalar, Scalar*> gradients_;
  const Device& device_;
  Crew crew_;
  bool direct_ = false;  ///< the arrays of the only worker are the caller's own
  Index threads_;
  std::size_t worker_bytes_;
  std::byte* workers_;
  S* totals_;
};

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
