// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <tensornorm/ops/backward_op.hpp>
#include <tensornorm/ops/normalize.hpp>
#include <tensornorm/ops/transposed_rows.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// check_saved() of what is not such at first sight.
template <class Scalar>
TENSORNORM_RARE void check_other_saved(Call call, const SavedStats<Scalar>& saved, std::span<const Index> shape, unsigned kind, Index size,
                                       bool row_major) {
  const ShapeText expected{shape.data(), int(shape.size())};
  if (saved.empty()) fail<std::logic_error>(call, "backward needs the saved statistics of a forward call: expected shape ", expected, ", got none");
  const auto got = saved.shape();
  if (!std::equal(got.begin(), got.end(), shape.begin(), shape.end()))
    fail<std::logic_error>(call, "backward needs the saved statistics of a forward call: expected shape ", expected, ", got ",
                           ShapeText{got.data(), int(got.size())});
  const bool other_axes = std::bit_width(saved.kind()) == std::bit_width(kind) && saved.kind() / 2 != kind / 2;
  if (other_axes || saved.kind() % 2 != kind % 2)
    fail<std::logic_error>(call, "backward needs the saved statistics of a forward call: expected those of such a layer, got those ",
                           other_axes ? "over other axes" : saved.kind() % 2 != 0 ? "about the mean" : "about 0");
  if (shape.size() > 1 && saved.row_major() != row_major)
    fail<std::logic_error>(call, "backward needs the saved statistics of a forward call: expected those of an x in this storage order, got the other");
  if (!saved.constant() && saved.samples() * saved.size() != size)
    fail<std::logic_error>(call, "backward needs the saved statistics of a forward call: expected each of ", size / saved.size(),
                           " elements of x, got each of ", saved.samples());
}
/// Errors: std::logic_error where `saved` is not of this shape, kind and storage order, of an x of `size` elements. Of x of another rank, with
/// an axis of one element less for example, other axes are not asked for.
template <class Scalar>
TENSORNORM_API void check_saved(const Call& call, const SavedStats<Scalar>& saved, std::span<const Index> shape, unsigned kind, Index size,
                                bool row_major) {
  if (!saved.are(shape, kind, size, row_major)) check_other_saved(call, saved, shape, kind, size, row_major);
}

/// The view of dx; one of x's shape without memory where dx is tn::none.
template <class T, int kRank, class DX>
TensorView<T, kRank> gradient_view(const TensorView<const T, kRank>& x, DX&& dx) {
  if constexpr (is_none<DX>) return {nullptr, x.shape, x.stride};
  else return view_of(dx);
}

/// x's and dy's rows are read forwards, and dx's are apart from each other; see check_layout().
template <class T, int kRank>
void check_gradient_layout(const Call& call, const TensorView<const T, kRank>& dy, const TensorView<const T, kRank>& x,
                           const TensorView<T, kRank>& dx) {
  check_strides(call, "x", x);
  check_strides(call, "dy", dy);
  if (dx.data != nullptr || dx.size() == 0) check_rows_apart(call, "dx", dx);
}

/// The plan of a backward call; dy and dx are of x's shape, dx without memory where nobody asks for it. x is not empty.
/// Errors: check_gradient_layout()'s.
template <class Plan, bool kRowMajor, int kSlowest, AxisPolicy P, class T, int kRank>
const Plan& backward_plan(const Call& call, const P& policy, const TensorView<const T, kRank>& dy, const TensorView<const T, kRank>& x,
                          const TensorView<T, kRank>& dx, const typename Plan::Options& options) {
  return plan_of<Plan, kRowMajor, kSlowest>(policy, x.shape, {&x.stride, &dy.stride, &dx.stride}, options, [&] { check_gradient_layout(call, dy, x, dx); });
}

/// What kernels are told of a call, but for the parameters.
template <class T, int kRank, class Scalar>
TENSORNORM_API kernels::BackwardArguments<T> backward_arguments(const NormalizeContext<Scalar>& context, const TensorView<const T, kRank>& dy,
                                                                const TensorView<const T, kRank>& x, const SavedStats<Scalar>& saved,
                                                                const TensorView<T, kRank>& dx, Index samples, bool gradients) {
  kernels::BackwardArguments<T> args;
  args.x = x.data;
  args.dy = dy.data;
  args.dx = dx.data;
  args.rule = context.rule;
  args.samples = samples;
  args.statistics = saved.arrays();
  args.constant = saved.constant();
  args.gradients = gradients;
  return args;
}

/// differentiate() of any x, or of the norm itself: `normalized`.
///
/// run: false only checks, and takes the memory that the same call will then not ask for.
template <bool kRowMajor, AxisPolicy P, class T, int kRank, class Scalar, class Device>
void differentiate_by_plan(const NormalizeContext<Scalar>& context, const P& policy, const TensorView<const T, kRank>& dy,
                           const TensorView<const T, kRank>& x, const SavedStats<Scalar>& saved, const TensorView<T, kRank>& dx,
                           Scalar* dweight, Scalar* dbias, bool normalized, const Device& device, bool run = true) {
  check_same_shape(context.call, "dx", x, dx);
  check_same_shape(context.call, "dy", x, dy);
  if (x.size() == 0) check_gradient_layout(context.call, dy, x, dx);
  const auto kept = kept_shape<P, kRank>(policy, x.shape);
  check_saved(context.call, saved, kept.span(), kind_of_statistics<kRank>(policy, context.rule), x.size(), kRowMajor);
  const bool gradients = dweight != nullptr || dbias != nullptr;
  const auto plan_for = [&]<class Of, int kSlowest>(const auto& of_dy, const auto& of_x, const auto& of_dx) -> const Of& {
    return backward_plan<Of, kRowMajor, kSlowest>(
        context.call, policy, of_dy, of_x, of_dx,
        {.weight = context.parameters.weight != nullptr, .gradients = gradients, .writes = of_dx.data != nullptr, .constant = saved.constant(),
         .in_place = of_dx.data == of_x.data || of_dx.data == of_dy.data, .aligned = is_aligned(of_dx.data)});
  };
  using Plan = BackwardPlan<T, Scalar, reduces_rows<P, kRank, kRowMajor>()>;
  const Plan* const plan = x.size() == 0 ? nullptr : &plan_for.template operator()<Plan, 0>(dy, x, dx);
  const Index params = plan != nullptr ? plan->params : affine_shape<P, kRank>(policy, x.shape).size();
  if (dweight != nullptr && dbias != nullptr && ranges_overlap(dweight, params, dbias, params))
    fail(context.call, "dweight overlaps dbias: expected no memory in common, got some");
  if (plan == nullptr) return;
  if (dx.data != nullptr) {
    const Footprint& footprint = plan->footprint;
    check_in_place_or_apart(footprint, 1, context.call, "dx", dx, "dy", dy);
    check_in_place_or_apart(footprint, 0, context.call, "dx", dx, "x", x);
    const Scalar* const others[] = {context.parameters.weight, context.parameters.bias, dweight, dbias};
    for (const Scalar* values : others)
      check_apart(context.call, "dx", dx.data, footprint.written(), "a parameter or its gradient", values, params);
  }
  auto args = backward_arguments(context, dy, x, saved, dx, plan->samples, gradients);
  args.normalized = normalized;
  const auto differentiate_by = [&](const auto& chosen) TENSORNORM_INLINE_LAMBDA {
    BackwardOp op(chosen, args, context.parameters.weight, {dweight, dbias}, device);
    if (run) op.run();
  };
  if constexpr (may_transpose_rows<P, T, kRank, kRowMajor>()) {
    TransposedRows<T, P, kRank> memory(policy, x.shape);
    if (memory.pays(memory.kMostBackward, x.stride, dy.stride, dx.stride)) {
      memory.take(2);
      const auto rows_of_x = memory.view(0), rows_of_dy = memory.view(1);
      const TensorView<T, kRank> rows_of_dx{dx.data != nullptr ? rows_of_dy.data : nullptr, x.shape, rows_of_dy.stride};
      if (run) {
        memory.copy_from(0, x.data);
        memory.copy_from(1, dy.data);
      }
      args.x = rows_of_x.data;
      args.dy = rows_of_dy.data;
      args.dx = rows_of_dx.data;
      using RowsPlan = BackwardPlan<T, Scalar, true>;
      differentiate_by(plan_for.template operator()<RowsPlan, memory.kLeading>(rows_of_dy.as_const(), rows_of_x.as_const(), rows_of_dx));
      if (run && dx.data != nullptr) memory.copy_to(1, dx.data);
      return;
    }
  }
  differentiate_by(*plan);
}

/// differentiate() of one row, which needs no plan. Returns false, and has done nothing, where the call is another one, or to be refused: by plan.
/// Errors: check_saved()'s.
template <bool kRowMajor, AxisPolicy P, class T, int kRank, class Scalar>
TENSORNORM_API bool differentiate_one_row(const NormalizeContext<Scalar>& context, const P& policy, const TensorView<const T, kRank>& dy,
                                          const TensorView<const T, kRank>& x, const SavedStats<Scalar>& saved,
                                          const TensorView<T, kRank>& dx, Scalar* dweight, Scalar* dbias) {
  const auto [weight, bias] = context.parameters;
  const Index n = short_row<P, kRowMajor>(x, dy, dx);
  if (n == 0 || weight == nullptr || (dweight == nullptr && dbias != nullptr)) return false;
  if (!lie_in_place_or_apart(n, dx.data, dy.data, x.data) || !lie_apart(n, dx.data, weight, bias, dweight, dbias)) return false;
  if (!lie_apart(n, dweight, weight, x.data, dy.data, dbias) || !lie_apart(n, dbias, weight, x.data, dy.data)) return false;
  check_saved(context.call, saved, kept_shape_of_one_row<P, kRank>.span(), kind_of_statistics<kRank>(policy, context.rule), n, kRowMajor);
  auto args = backward_arguments(context, dy, x, saved, dx, n, dweight != nullptr);
  args.weight = weight;
  kernels::dispatch(kernels::OneRowBackward<kernels::BackwardArguments<T>>{args, n, dweight, dbias});
  return true;
}

/// dx and the parameters' gradients of one normalization, from x.
///
/// dx = rstd * (g - mean of g - norm * mean of g * norm) with g = dy * weight; dx = dy * weight * rstd where the statistics are constants.
/// This is of a biased variance with eps added to it, and a mean of its own; else see StatisticsRule::slope() and offset().
///
/// Aliasing dx may be exactly dy or exactly x.
/// Errors   before anything is written: std::invalid_argument for shapes and overlaps, std::logic_error for foreign statistics.
template <bool kRowMajor, AxisPolicy P, class T, int kRank, class Scalar, class Device>
TENSORNORM_API void differentiate(const NormalizeContext<Scalar>& context, const P& policy, const TensorView<const T, kRank>& dy,
                                  const TensorView<const T, kRank>& x, const SavedStats<Scalar>& saved, const TensorView<T, kRank>& dx,
                                  Scalar* dweight, Scalar* dbias, const Device& device) {
  if constexpr (may_be_one_row<P, T, kRank, Scalar, kRowMajor>()) {
    if (differentiate_one_row<kRowMajor>(context, policy, dy, x, saved, dx, dweight, dbias)) return;
    const NormalizeContext<Scalar> its_context = context.copy();  // copies, as in normalize_by_batch()
    const TensorView<const T, kRank> its_dy = dy.copy(), its_x = x.copy();
    const TensorView<T, kRank> its_dx = dx.copy();
    differentiate_by_plan<kRowMajor>(its_context, policy, its_dy, its_x, saved, its_dx, dweight, dbias, false, device);
  } else {
    differentiate_by_plan<kRowMajor>(context, policy, dy, x, saved, dx, dweight, dbias, false, device);
  }
}

/// differentiate() with y in the place of x: norm = (y - bias) / weight is formed first, in dx where it can be, else in memory of its own,
/// which the thread keeps.
///
/// Errors   as differentiate(); std::invalid_argument for a weight too close to 0 to divide by, with its index and value.
template <bool kRowMajor, AxisPolicy P, class T, int kRank, class Scalar, class Device>
void differentiate_from_output(const NormalizeContext<Scalar>& context, const P& policy, const TensorView<const T, kRank>& dy,
                               const TensorView<const T, kRank>& y, const SavedStats<Scalar>& saved, const TensorView<T, kRank>& dx,
                               Scalar* dweight, Scalar* dbias, const Device& device) {
  check_same_shape(context.call, "dx", y, dx);
  check_same_shape(context.call, "dy", y, dy);
  check_rows_apart(context.call, "y", y);  // as forward wrote it
  if (dx.data != nullptr) check_rows_apart(context.call, "dx", dx);  // where the norm may be written
  const auto kept = kept_shape<P, kRank>(policy, y.shape);
  check_saved(context.call, saved, kept.span(), kind_of_statistics<kRank>(policy, context.rule), y.size(), kRowMajor);
  const Index params = affine_shape<P, kRank>(policy, y.shape).size(), statistics = saved.size();
  using A = accumulator_t<Scalar>;
  using S = statistic_t<T>;
  const auto weight_of = [&](Index p) { return context.parameters.weight != nullptr ? A(context.parameters.weight[p]) : A(1); };
  const auto bias_of = [&](Index p) { return context.parameters.bias != nullptr ? A(context.parameters.bias[p]) : A(0); };
  const A least = A(std::sqrt(epsilon_of<T>()));  // y then has half of its digits for the norm
  using kernels::magnitude;
  for (Index p = 0; p < params; ++p)
    if (!(magnitude(weight_of(p)) > least * magnitude(bias_of(p))) || !(magnitude(weight_of(p)) > A(1e-30)))
      fail(context.call, "expected weights that can be divided by, got ", weight_of(p), " at index ", p, " beside the bias ", bias_of(p));
  const bool into_dx = dx.data != nullptr && static_cast<const void*>(dx.data) != static_cast<const void*>(dy.data);
  ScratchPlan memory_plan;
  const std::size_t inverse_at = memory_plan.reserve<A>(2 * params);
  const std::size_t unit_at = memory_plan.reserve<S>(2 * statistics);
  const std::size_t norm_at = memory_plan.reserve<T>(into_dx ? 0 : y.size());
  std::byte* const memory = Scratch::acquire(memory_plan.bytes(), Scratch::Of::call);
  A* const inverse = reinterpret_cast<A*>(memory + inverse_at);
  for (Index p = 0; p < params; ++p) {
    inverse[p] = A(1) / weight_of(p);
    inverse[params + p] = A(0) - bias_of(p) / weight_of(p);
  }
  TensorView<T, kRank> norm{into_dx ? dx.data : reinterpret_cast<T*>(memory + norm_at), y.shape, dx.stride};
  if (!into_dx) set_strides_without_gaps<kRowMajor>(y.shape, norm.stride);
  if (dx.data != nullptr) {
    check_in_place_or_apart(context.call, "dx", dx, "dy", dy);
    check_in_place_or_apart(context.call, "dx", dx, "y", y);
  }
  // Whatever can fail does so before norm is written, which may be in dx.
  differentiate_by_plan<kRowMajor>(context, policy, dy, norm.as_const(), saved, dx, dweight, dbias, true, device, false);
  if (y.size() == 0) return;
  {
    const Parameters<A> inverted{inverse, inverse + params};
    const auto& plan = forward_plan<StatisticsSource::given, kRowMajor>(context.call, policy, y, norm, inverted);
    S* const unit = reinterpret_cast<S*>(memory + unit_at);  // mean 0, rstd 1
    std::fill_n(unit, statistics, S(0));
    std::fill_n(unit + statistics, statistics, S(1));
    ForwardOp op(plan, y.data, norm.data, inverted, context.rule, device);
    op.set_given({unit, nullptr, unit + statistics, nullptr}, true);
    op.run();
  }
  differentiate_by_plan<kRowMajor>(context, policy, dy, norm.as_const(), saved, dx, dweight, dbias, true, device);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
