// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/backward.hpp>
#include <tensornorm/ops/functional.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// What the functional backward forms come down to: types and shapes checked, then differentiate with a policy.
template <class Policy, class DY, class X, class Scalar, class W, class DX, class DW, class DB, class Device>
void differentiate_with(const char* function, const Policy& policy, const StatisticsRule& rule, const DY& dy, const X& x,
                        const SavedStats<Scalar>& saved, const W& weight, DX&& dx, DW&& dweight, DB&& dbias, const Device& device) {
  if constexpr (require_gradient_operands<Scalar, X, DY, DX>() && require_parameters<W, DW, DB>() && require_axes<Policy, X>() &&
                require_host_device<Device>()) {
    const Call call{"tensornorm", function};
    check_eps(call, rule.eps);
    const auto in = view_of(x);
    const auto shape = affine_shape<Policy, rank_of<X>>(policy, in.shape);
    const NormalizeContext<Scalar> context{call, rule, {parameter_data<const Scalar>(call, "weight", weight, shape.span()), nullptr}};
    differentiate<traits_of<X>::row_major>(context, policy, view_of(dy), in, saved, gradient_view(in, dx),
                                           parameter_data<Scalar>(call, "dweight", dweight, shape.span()),
                                           parameter_data<Scalar>(call, "dbias", dbias, shape.span()), device);
  }
}

/// Gradients of layer_norm(x, y, saved, weight, bias, options).
///
/// Shapes   dy, x, dx: (..., weight's shape), or else dweight's, or else dbias's; with none of them kNormalizedRank axes, 1 by default.
///          weight, dweight, dbias: as layer_norm's weight, or tn::none; options as in the forward call. saved: the leading axes.
/// Formula  as Normalization::backward.
/// Aliasing dx, which is assigned, may be exactly dy or exactly x. dweight and dbias are added to, last; they may lie on weight, x or dy, not
///          on dx or each other. What is tn::none is not paid for. An empty x adds nothing.
/// Errors   before anything is written. std::invalid_argument: shapes, gaps, overlaps, eps. std::logic_error: `saved` is not what such a
///          forward call on an x of this shape and storage order left.
template <int kNormalizedRank = 0, class DY, class X, class Scalar, class W, class DX, class DW, class DB, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void layer_norm_backward(const DY& dy, const X& x, const SavedStats<Scalar>& saved, const W& weight, DX&& dx, DW&& dweight, DB&& dbias,
                         NormalizeOptions options = {}, const Device& device = {}) {
  constexpr int rank = normalized_rank<X, kNormalizedRank, W, std::conditional_t<is_none<DW>, DB, DW>>();
  differentiate_with("layer_norm_backward", LayerAxes<rank>{}, rule_of(options), dy, x, saved, weight, dx, dweight, dbias, device);
}

/// Gradients of rms_norm(x, y, saved, weight, options).
///
/// Shapes, Aliasing, Errors as layer_norm_backward.
/// Formula  dx = rstd * (g - norm * mean of g * norm) with g = dy * weight; dweight += sum of dy * norm.
template <int kNormalizedRank = 0, class DY, class X, class Scalar, class W, class DX, class DW, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void rms_norm_backward(const DY& dy, const X& x, const SavedStats<Scalar>& saved, const W& weight, DX&& dx, DW&& dweight,
                       RMSNormFunctionOptions options = {}, const Device& device = {}) {
  constexpr int rank = normalized_rank<X, kNormalizedRank, W, DW>();
  differentiate_with("rms_norm_backward", LayerAxes<rank>{}, rms_rule<Scalar>(options), dy, x, saved, weight, dx, dweight, none, device);
}

/// Gradients of group_norm(x, y, saved, num_groups, weight, bias, options).
///
/// Shapes   dy, x, dx: (N, C, ...). weight, dweight, dbias: (C) or tn::none. The rest as layer_norm_backward.
/// Errors   also std::invalid_argument: num_groups < 1, C not divisible by it.
template <class DY, class X, class Scalar, class W, class DX, class DW, class DB, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void group_norm_backward(const DY& dy, const X& x, const SavedStats<Scalar>& saved, Index num_groups, const W& weight, DX&& dx, DW&& dweight,
                         DB&& dbias, GroupNormFunctionOptions options = {}, const Device& device = {}) {
  differentiate_with("group_norm_backward", group_axes("group_norm_backward", x, num_groups), {options.eps}, dy, x, saved, weight, dx,
                     dweight, dbias, device);
}

/// Gradients of instance_norm(x, y, saved, weight, bias, options).
///
/// Shapes   dy, x, dx: (N, C, spatial axes). weight, dweight, dbias: (C) or tn::none. The rest as layer_norm_backward.
template <class DY, class X, class Scalar, class W, class DX, class DW, class DB, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void instance_norm_backward(const DY& dy, const X& x, const SavedStats<Scalar>& saved, const W& weight, DX&& dx, DW&& dweight, DB&& dbias,
                            InstanceNormFunctionOptions options = {}, const Device& device = {}) {
  differentiate_with("instance_norm_backward", InstanceAxes<1>{}, {options.eps}, dy, x, saved, weight, dx, dweight, dbias, device);
}

/// Gradients of batch_norm(x, y, running_mean, running_var, weight, bias, options): the statistics are constants.
///
/// Shapes   dy, x, dx: (N, C, ...). running_mean, running_var: (C), of one scalar type; they are copied, which takes memory in every call.
///          weight, dweight, dbias: (C) or tn::none.
/// Formula  dx = dy * weight / sqrt(running_var + eps); dweight += sum of dy * norm, dbias += sum of dy.
/// Aliasing as layer_norm_backward; dx lies apart from the statistics, too.
/// Errors   std::invalid_argument: shapes, gaps, overlaps, eps; std::bad_alloc.
template <class DY, class X, class M, class V, class W, class DX, class DW, class DB, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void batch_norm_backward(const DY& dy, const X& x, const M& running_mean, const V& running_var, const W& weight, DX&& dx, DW&& dweight,
                         DB&& dbias, BatchNormFunctionOptions options = {}, const Device& device = {}) {
  using Scalar = typename parameter_scalar<X, W, DW, DB>::type;
  if constexpr (require_gradient_operands<Scalar, X, DY, DX>() && require_statistics<M, V>() && require_axes<BatchAxes<1>, X>()) {
    const Call call{"tensornorm", "batch_norm_backward"};
    const StatisticsRule rule{options.eps};
    check_eps(call, rule.eps);
    const auto in = view_of(x);
    const std::span<const Index> channels(&in.shape[1], 1);
    const auto given = running_data(call, running_mean, running_var, channels);
    const auto out = gradient_view(in, dx);
    check_same_shape(call, "dx", in, out);
    if (out.data != nullptr)
      for (const auto* values : given) check_apart(call, "dx", out.data, out.span(), "the given statistics", values, in.shape[1]);
    SavedStats<Scalar> saved;
    keep_given(rule, given[0], given[1], saved, channels, kind_of_statistics<rank_of<X>>(BatchAxes<1>{}, rule));
    differentiate_with("batch_norm_backward", BatchAxes<1>{}, rule, dy, x, saved, weight, dx, dweight, dbias, device);
  }
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
