// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <optional>
#include <tensornorm/axes/role_shapes.hpp>
#include <tensornorm/core/tensor.hpp>
#include <tensornorm/ops/forward_op.hpp>
#include <tensornorm/ops/one_row.hpp>
#include <tensornorm/ops/remembered_plan.hpp>
#include <tensornorm/ops/transposed_rows.hpp>
#include <tensornorm/stats/running_stats.hpp>
#include <tensornorm/stats/saved_stats.hpp>
#include <type_traits>
#ifdef TENSORNORM_COMPILED_KERNELS  // defined for what links TensorNorm::Kernels of CMake
#include <tensornorm/kernels_once.hpp>
#endif

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// What a layer brings to every call: whose call it is, its rule and its parameters.
template <class Scalar>
struct NormalizeContext {
  Call call;
  StatisticsRule rule;
  Parameters<Scalar> parameters;

  /// As TensorView::copy(); the rule, which is the layer's, whole.
  NormalizeContext copy() const { return {{call.layer, call.function}, rule, {parameters.weight, parameters.bias}}; }
};

/// x has the axes that the policy names.
template <class P, class X>
constexpr bool require_axes() {
  if constexpr (traits_of<X>::readable) {
    static_assert(rank_of<X> >= least_rank<P>, "tensornorm: x has fewer axes than are normalized");
    return rank_of<X> >= least_rank<P>;
  } else {
    return false;
  }
}

/// x's rows are read forwards, and those of y are apart from each other; of one without memory only if it is empty: else nobody asks for it.
template <class T, class U, int kRank>
void check_layout(const Call& call, const TensorView<T, kRank>& x, const TensorView<U, kRank>& y) {
  check_strides(call, "x", x);
  if (y.data != nullptr || y.size() == 0) check_rows_apart(call, "y", y);
}

/// The plan of a forward call; y is of x's shape, without memory: moments only. x is not empty. Errors: check_layout()'s.
template <StatisticsSource kSource, bool kRowMajor, int kSlowest = 0, AxisPolicy P, class T, class Scalar, int kRank>
const ForwardPlan<T, Scalar, kSource>& forward_plan(const Call& call, const P& policy, const TensorView<const T, kRank>& x,
                                                    const TensorView<T, kRank>& y, const Parameters<Scalar>& parameters) {
  return plan_of<ForwardPlan<T, Scalar, kSource>, kRowMajor, kSlowest>(
      policy, x.shape, {&x.stride, &y.stride, &y.stride},
      {.weight = parameters.weight != nullptr, .bias = parameters.bias != nullptr, .writes = y.data != nullptr, .in_place = x.data == y.data,
       .aligned = is_aligned(y.data)},
      [&] { check_layout(call, x, y); });
}

/// The source of statistics of x itself.
template <AxisPolicy P, int kRank, bool kRowMajor>
inline constexpr StatisticsSource kStatisticsOfX = reduces_rows<P, kRank, kRowMajor>() ? StatisticsSource::rows : StatisticsSource::any;

/// What a backward call can tell of the normalization that saved statistics: averaged_axes(), and whether the variance is about the mean.
/// Neither eps nor the estimator.
template <int kRank, AxisPolicy P>
TENSORNORM_API unsigned kind_of_statistics(const P& policy, const StatisticsRule& rule) {
  return 2 * averaged_axes<P, kRank>(policy) + (rule.centered ? 1 : 0);
}

/// y may be x, or apart from it and from the parameters.
template <class Plan, class Scalar, class T, class U, int kRank>
TENSORNORM_API void check_memory(const NormalizeContext<Scalar>& context, const Plan& plan, const TensorView<T, kRank>& x,
                                 const TensorView<U, kRank>& y) {
  const Index span = plan.footprint.written();
  check_in_place_or_apart(plan.footprint, 0, context.call, "y", y, "x", x);
  check_apart(context.call, "y", y.data, span, "weight", context.parameters.weight, plan.params);
  check_apart(context.call, "y", y.data, span, "bias", context.parameters.bias, plan.params);
}

/// normalize_by_batch() of any x.
template <bool kRowMajor, AxisPolicy P, class T, int kRank, class Scalar, class Running, class Device>
void normalize_by_plan(const NormalizeContext<Scalar>& context, const P& policy, const TensorView<const T, kRank>& x,
                       const TensorView<T, kRank>& y, const char* lone_sample, SavedStats<Scalar>* saved, Running running, const Device& device) {
  using S = statistic_t<T>;
  static_assert(std::is_same_v<S, statistic_t<Scalar>>, "tensornorm: the layer's scalar and x's need the same statistic type");
  static_assert(std::is_null_pointer_v<Running> || std::is_same_v<Running, RunningStats<Scalar>*>);
  check_same_shape(context.call, "y", x, y);
  const auto prepare = [&](Index samples) TENSORNORM_INLINE_LAMBDA {
    return saved->prepare(kept_shape<P, kRank>(policy, x.shape).span(), samples, kind_of_statistics<kRank>(policy, context.rule), kRowMajor);
  };
  if (x.size() == 0) {
    check_layout(context.call, x, y);
    if (saved != nullptr) {
      S* const values = prepare(0).mean;
      std::fill_n(values, 3 * saved->size(), S(0));
    }
    return;
  }
  const auto& plan = forward_plan<kStatisticsOfX<P, kRank, kRowMajor>, kRowMajor>(context.call, policy, x, y, context.parameters);
  check_memory(context, plan, x, y);
  if (plan.samples == 1 && context.rule.estimator == VarianceEstimator::unbiased)
    lone_sample = "expected more than 1 value for an unbiased variance";
  if (plan.samples == 1 && lone_sample != nullptr) fail(context.call, lone_sample, ", got input size ", x.text());
  const auto run = [&](const auto& chosen, const T* from, T* to) TENSORNORM_INLINE_LAMBDA {
    ForwardOp op(chosen, from, to, context.parameters, context.rule, device, running != nullptr ? 2 : 0);
    StatisticsArrays<S> statistics;
    if (saved != nullptr) statistics = prepare(plan.samples);
    if (running != nullptr) {
      if (saved == nullptr) statistics.mean = op.statistics_memory(0);
      statistics.variance = op.statistics_memory(1);
    }
    op.set_statistics(statistics);
    op.run();
    if constexpr (!std::is_null_pointer_v<Running>) {
      if (running == nullptr) return;
      const Index repeats = plan.statistics / running->num_features();
      running->update(statistics.mean, statistics.variance, plan.samples, repeats, kRowMajor);
    }
  };
  if constexpr (may_transpose_rows<P, T, kRank, kRowMajor>()) {
    TransposedRows<T, P, kRank> memory(policy, x.shape);
    if (memory.pays(memory.kMostForward, x.stride, y.stride)) {
      memory.take(1);
      const auto rows = memory.view(0);
      memory.copy_from(0, x.data);
      run(forward_plan<StatisticsSource::rows, false, memory.kLeading>(context.call, policy, rows.as_const(), rows, context.parameters), rows.data,
          rows.data);
      return memory.copy_to(0, y.data);
    }
  }
  run(plan, x.data, y.data);
}

/// normalize_by_batch() of one row, which needs no plan. Returns false, and has done nothing, where the call is another one, or to be
/// refused: by plan. Errors: std::bad_alloc, of `saved`.
template <bool kRowMajor, AxisPolicy P, class T, int kRank, class Scalar>
TENSORNORM_API bool normalize_one_row(const NormalizeContext<Scalar>& context, const P& policy, const TensorView<const T, kRank>& x,
                                      const TensorView<T, kRank>& y, SavedStats<Scalar>* saved) {
  const auto [weight, bias] = context.parameters;
  const Index n = short_row<P, kRowMajor>(x, y);
  if (n == 0 || y.data == nullptr || (weight == nullptr && bias != nullptr)) return false;
  if (!lie_in_place_or_apart(n, y.data, x.data) || !lie_apart(n, y.data, weight, bias)) return false;
  kernels::ForwardArguments<T> args;
  args.x = x.data;
  args.y = y.data;
  args.weight = weight;
  args.bias = bias;
  args.rule = context.rule;
  args.samples = n;
  if (saved != nullptr)
    args.statistics = saved->prepare(kept_shape_of_one_row<P, kRank>.span(), n, kind_of_statistics<kRank>(policy, context.rule), kRowMajor);
  kernels::dispatch(kernels::OneRowForward<kernels::ForwardArguments<T>>{args, n, weight != nullptr});
  return true;
}

/// Normalizes by the statistics of x itself; they go to `saved` and move `running` where those are not null. A `running` that is nullptr by its
/// type brings nothing along that would move it.
///
/// Errors   std::invalid_argument before anything is written: shapes, overlaps, a single element behind each statistic where
///          `lone_sample` says that this is one. An empty x changes nothing but `saved`, whose
///          mean and rstd become 0.
template <bool kRowMajor, AxisPolicy P, class T, int kRank, class Scalar, class Running, class Device>
TENSORNORM_API void normalize_by_batch(const NormalizeContext<Scalar>& context, const P& policy, const TensorView<const T, kRank>& x,
                                       const TensorView<T, kRank>& y, const char* lone_sample, SavedStats<Scalar>* saved, Running running,
                                       const Device& device) {
  if constexpr (std::is_null_pointer_v<Running> && may_be_one_row<P, T, kRank, Scalar, kRowMajor>()) {
    if (normalize_one_row<kRowMajor>(context, policy, x, y, saved)) return;
    // Copies: of what is referred to nothing would stay in registers, though a call of one row has no use for more.
    const NormalizeContext<Scalar> its_context = context.copy();
    const TensorView<const T, kRank> its_x = x.copy();
    const TensorView<T, kRank> its_y = y.copy();
    normalize_by_plan<kRowMajor>(its_context, policy, its_x, its_y, lone_sample, saved, running, device);
  } else {
    normalize_by_plan<kRowMajor>(context, policy, x, y, lone_sample, saved, running, device);
  }
}

/// Saves given statistics as constants.
template <class Scalar, class Value>
void keep_given(const StatisticsRule& rule, const Value* mean, const Value* variance, SavedStats<Scalar>& saved, std::span<const Index> shape,
                unsigned kind) {
  using S = statistic_t<Scalar>;
  const auto kept = saved.prepare(shape, std::nullopt, kind);
  kernels::dispatch(kernels::GivenStatistics<S, Value>{rule, mean, variance, S(1), kept, saved.size()});
}

/// Normalizes by given statistics, which count as constants: `mean` and `variance` are flat, in x's storage order.
template <bool kRowMajor, AxisPolicy P, class T, int kRank, class Scalar, class Value, class Device>
void normalize_by_given(const NormalizeContext<Scalar>& context, const P& policy, const TensorView<const T, kRank>& x,
                        const TensorView<T, kRank>& y, const Value* mean, const Value* variance, SavedStats<Scalar>* saved,
                        const Device& device) {
  using S = statistic_t<T>;
  check_same_shape(context.call, "y", x, y);
  const bool unbiased = context.rule.estimator == VarianceEstimator::unbiased;
  const auto check_samples = [&](Index samples) {
    if (unbiased && samples == 1) fail(context.call, "expected more than 1 value for an unbiased variance, got input size ", x.text());
  };
  const auto keep = [&] {
    if (saved == nullptr) return;
    keep_given(context.rule, mean, variance, *saved, kept_shape<P, kRank>(policy, x.shape).span(), kind_of_statistics<kRank>(policy, context.rule));
  };
  if (x.size() == 0) {
    check_samples(make_loop_nest<kRank, kRowMajor>(x.shape, {x.stride, y.stride, y.stride}, policy).samples);
    check_layout(context.call, x, y);
    return keep();
  }
  const auto& plan = forward_plan<StatisticsSource::given, kRowMajor>(context.call, policy, x, y, context.parameters);
  check_samples(plan.samples);
  check_memory(context, plan, x, y);
  for (const Value* given : {mean, variance})
    check_apart(context.call, "y", y.data, plan.footprint.written(), "the given statistics", given, plan.statistics);
  ForwardOp op(plan, x.data, y.data, context.parameters, context.rule, device, 2);
  const StatisticsArrays<S> statistics{op.statistics_memory(0), nullptr, op.statistics_memory(1), nullptr};
  const S correction = unbiased ? S(plan.samples) / S(plan.samples - 1) : S(1);
  bool near = true;
  kernels::dispatch(kernels::GivenStatistics<S, Value, T>{context.rule, mean, variance, correction, statistics, plan.statistics, &near});
  keep();
  op.set_given(statistics, near);
  op.run();
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
