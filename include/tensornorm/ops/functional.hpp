// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <tensornorm/ops/moments.hpp>

namespace tensornorm {

// The layers without a layer: the parameters are the caller's, a tensor, a map of a flat buffer, an Eigen vector, or tn::none.

/// Options of group_norm().
struct GroupNormFunctionOptions {
  double eps = 1e-5;  ///< finite and >= 0, in units of x^2; so in the other forms
};
/// Options of instance_norm().
struct InstanceNormFunctionOptions {
  double eps = 1e-5;  ///< as group_norm()'s
};
/// Options of batch_norm().
struct BatchNormFunctionOptions {
  double eps = 1e-5;  ///< as group_norm()'s
};
/// Options of rms_norm().
struct RMSNormFunctionOptions {
  /// Finite and >= 0, in units of x^2; nullopt: the epsilon of the accumulator of weight's type, of x's without one.
  std::optional<double> eps = std::nullopt;
};

/// The rank of a parameter as the layers count it: an Eigen vector is of rank 1, nothing at all of rank 0.
template <class W>
constexpr int parameter_rank() {
  if constexpr (!traits_of<W>::readable) return 0;
  else if constexpr (EigenMatrix<std::remove_cvref_t<W>>) return std::remove_cvref_t<W>::IsVectorAtCompileTime ? 1 : 2;
  else return rank_of<W>;
}

/// The scalar type of the parameters of a call, x's where there are none; float where that is none either, as the call will say.
template <class X, class... W>
struct parameter_scalar {
  static auto pick() {
    if constexpr (traits_of<X>::readable) return scalar_of<X>{};
    else return float{};
  }
  using type = decltype(pick());
};
template <class X, class W, class... Rest>
struct parameter_scalar<X, W, Rest...> {
  using type = typename std::conditional_t<traits_of<W>::readable, parameter_scalar<W>, parameter_scalar<X, Rest...>>::type;
};

/// What is given for parameters, their gradients or statistics can be read, or is tn::none.
template <class... W>
constexpr bool require_parameters() {
  static_assert(((traits_of<W>::readable || is_none<W>) && ...),
                "tensornorm: expected weight, bias and their gradients as an Eigen Tensor, TensorMap, Matrix, Array, Map or Ref, or as tn::none "
                "(and saved statistics that are not const)");
  return ((traits_of<W>::readable || is_none<W>) && ...);
}

/// W is written where Scalar is not const.
template <class Scalar, class W>
constexpr bool may_be_written() {
  if constexpr (std::is_const_v<Scalar>) return true;
  else return require_writable<W>();
}

/// The memory of a parameter after its shape was checked; null for none. Scalar, the parameters' type, is const for what is only read.
template <class Scalar, class W>
Scalar* parameter_data(const Call& call, const char* name, W&& parameter, std::span<const Index> shape) {
  if constexpr (is_none<W>) {
    return nullptr;
  } else {
    constexpr bool scalar = std::is_same_v<scalar_of<W>, std::remove_const_t<Scalar>>;
    constexpr bool order = parameter_rank<W>() < 2 || traits_of<W>::row_major;
    static_assert(scalar,
                  "tensornorm: weight and bias must have the same scalar type, likewise their gradients and saved statistics, "
                  "and running_mean and running_var");
    static_assert(order, "tensornorm: weight and bias of rank 2 and more must be RowMajor");
    if constexpr (!scalar || !order || !may_be_written<Scalar, W>()) {
      return nullptr;
    } else {
      const auto view = view_of(parameter);
      const Index size = view.size();
      const bool flat = parameter_rank<W>() == 1;
      const std::span<const Index> got(flat ? &size : view.shape.data(), flat ? std::size_t{1} : std::size_t(rank_of<W>));
      if (!std::equal(got.begin(), got.end(), shape.begin(), shape.end()))
        fail(call, name, ": expected ", ShapeText{shape.data(), int(shape.size())}, ", got ", ShapeText{got.data(), int(got.size())});
      if (view.span() != view.size()) fail(call, name, ": expected elements without gaps");
      return view.data;
    }
  }
}

/// The memory of a running mean and variance, of one scalar type, after their shapes were checked.
template <class M, class V>
std::array<const scalar_of<M>*, 2> running_data(const Call& call, const M& mean, const V& variance, std::span<const Index> shape) {
  using Value = const scalar_of<M>;
  return {parameter_data<Value>(call, "running_mean", mean, shape), parameter_data<Value>(call, "running_var", variance, shape)};
}

inline namespace TENSORNORM_ABI {

/// What every functional form comes down to: types and parameters checked, then normalize_by_batch with a policy.
template <class Policy, class X, class Y, class W, class B, class Saved, class Device>
void normalize_with(const char* function, const Policy& policy, const StatisticsRule& rule, const char* lone_sample, const X& x, Y&& y,
                    Saved* saved, const W& weight, const B& bias, const Device& device) {
  using Scalar = typename parameter_scalar<X, W, B>::type;
  if constexpr (require_like<Scalar, X, Y>() && require_parameters<W, B>() && require_axes<Policy, X>() && require_host_device<Device>()) {
    const Call call{"tensornorm", function};
    check_eps(call, rule.eps);
    const auto in = view_of(x);
    const auto shape = affine_shape<Policy, rank_of<X>>(policy, in.shape);
    const NormalizeContext<Scalar> context{call,
                                           rule,
                                           {parameter_data<const Scalar>(call, "weight", weight, shape.span()),
                                            parameter_data<const Scalar>(call, "bias", bias, shape.span())}};
    SavedStats<Scalar>* kept = nullptr;
    if constexpr (!std::is_same_v<Saved, None>) {
      static_assert(std::is_same_v<Saved, SavedStats<Scalar>>,
                    "tensornorm: expected SavedStats of the scalar type of weight and bias, of x's where there are neither");
      if constexpr (std::is_same_v<Saved, SavedStats<Scalar>>) kept = saved;
    }
    normalize_by_batch<traits_of<X>::row_major>(context, policy, in, view_of(y), lone_sample, kept, nullptr, device);
  }
}

/// As many rows of one number whatever its size is: an Eigen::VectorX.
template <class X>
constexpr bool is_column_vector() {
  if constexpr (EigenMatrix<std::remove_cvref_t<X>>) return X::ColsAtCompileTime == 1 && X::RowsAtCompileTime != 1;
  else return false;
}

/// The number of normalized axes: the parameters' rank, or the one asked for.
template <class X, int kNormalizedRank, class W, class B>
constexpr int normalized_rank() {
  constexpr int given = parameter_rank<W>() > 0 ? parameter_rank<W>() : parameter_rank<B>();
  static_assert(kNormalizedRank == 0 || given == 0 || kNormalizedRank == given, "tensornorm: weight and bias have the rank of normalized_shape");
  constexpr int rank = given > 0 ? given : kNormalizedRank > 0 ? kNormalizedRank : 1;
  static_assert(!is_column_vector<X>() || given > 0 || rank > 1,
                "tensornorm: a column vector is as many rows of one number, each normalized by itself: pass x.transpose(), or a RowVector");
  return rank;
}

/// y = (x - mean) * rstd * weight + bias over the last axes, as many as weight, or else bias, has.
///
/// Shapes   x, y: (..., weight's shape). weight, bias: one scalar type, not narrower than x's, without gaps, RowMajor if of rank 2 and
///          more, or tn::none; an Eigen vector is of rank 1. With neither, kNormalizedRank axes, 1 by default. An Eigen column
///          vector is as many rows of one number: x may not be one by its type where one axis is normalized and there is neither parameter.
/// Aliasing y may be exactly x; any other overlap with x, weight or bias is an error.
/// Errors   std::invalid_argument before anything is written: shapes, gaps, overlaps, eps, n = 1 with an unbiased variance. An empty x is
///          no error.
/// Source   Ba, Kiros & Hinton 2016, arXiv:1607.06450; PyTorch's F.layer_norm.
template <int kNormalizedRank = 0, class X, class Y, class W = None, class B = None, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void layer_norm(const X& x, Y&& y, const W& weight = {}, const B& bias = {}, NormalizeOptions options = {}, const Device& device = {}) {
  normalize_with("layer_norm", LayerAxes<normalized_rank<X, kNormalizedRank, W, B>()>{}, rule_of(options), nullptr, x, y,
                 static_cast<None*>(nullptr), weight, bias, device);
}
/// As layer_norm(x, y, weight, bias), and keeps mean and rstd for layer_norm_backward. Scalar: weight's and bias's, x's with neither.
template <int kNormalizedRank = 0, class X, class Y, class Scalar, class W = None, class B = None, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void layer_norm(const X& x, Y&& y, SavedStats<Scalar>& saved, const W& weight = {}, const B& bias = {}, NormalizeOptions options = {},
                const Device& device = {}) {
  normalize_with("layer_norm", LayerAxes<normalized_rank<X, kNormalizedRank, W, B>()>{}, rule_of(options), nullptr, x, y, &saved, weight, bias,
                 device);
}

/// y = x / sqrt(mean of x^2 + eps) * weight over the last axes, as many as weight has; without one kNormalizedRank, 1 by default.
///
/// Shapes, Aliasing, Errors   as layer_norm. Source   Zhang & Sennrich 2019, arXiv:1910.07467; PyTorch's F.rms_norm.
template <int kNormalizedRank = 0, class X, class Y, class W = None, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void rms_norm(const X& x, Y&& y, const W& weight = {}, RMSNormFunctionOptions options = {}, const Device& device = {}) {
  using Scalar = typename parameter_scalar<X, W>::type;
  normalize_with("rms_norm", LayerAxes<normalized_rank<X, kNormalizedRank, W, None>()>{}, rms_rule<Scalar>(options), nullptr, x, y,
                 static_cast<None*>(nullptr), weight, none, device);
}
/// As rms_norm(x, y, weight), and keeps rstd (mean is 0), one for each index of the leading axes, for rms_norm_backward.
template <int kNormalizedRank = 0, class X, class Y, class Scalar, class W = None, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void rms_norm(const X& x, Y&& y, SavedStats<Scalar>& saved, const W& weight = {}, RMSNormFunctionOptions options = {}, const Device& device = {}) {
  normalize_with("rms_norm", LayerAxes<normalized_rank<X, kNormalizedRank, W, None>()>{}, rms_rule<Scalar>(options), nullptr, x, y, &saved, weight,
                 none, device);
}

/// Errors: std::invalid_argument where the channels of x cannot be split into num_groups groups.
template <class X>
GroupAxes<1> group_axes(const char* function, const X& x, Index num_groups) {
  if constexpr (require_axes<GroupAxes<1>, X>()) {
    const Call call{"tensornorm", function};
    if (num_groups < 1) fail(call, "num_groups must be >= 1, got ", num_groups);
    const auto view = view_of(x);
    if (view.shape[1] % num_groups != 0)
      fail(call, "expected the channels of x to be divisible by num_groups = ", num_groups, ", got x of shape ", view.text());
  }
  return {num_groups};
}

/// y = (x - mean) * rstd * weight + bias, with one statistic per image and group of channels.
///
/// Shapes   x, y: (N, C, ...). weight, bias: (C) or tn::none. Aliasing, Errors as layer_norm; C not divisible by num_groups.
/// Source   Wu & He 2018, arXiv:1803.08494; PyTorch's F.group_norm.
template <class X, class Y, class W = None, class B = None, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void group_norm(const X& x, Y&& y, Index num_groups, const W& weight = {}, const B& bias = {}, GroupNormFunctionOptions options = {},
                const Device& device = {}) {
  normalize_with("group_norm", group_axes("group_norm", x, num_groups), {options.eps}, nullptr, x, y, static_cast<None*>(nullptr), weight,
                 bias, device);
}
/// As group_norm(x, y, num_groups, weight, bias), and keeps mean and rstd, of shape (N, num_groups), for group_norm_backward.
template <class X, class Y, class Scalar, class W = None, class B = None, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void group_norm(const X& x, Y&& y, SavedStats<Scalar>& saved, Index num_groups, const W& weight = {}, const B& bias = {},
                GroupNormFunctionOptions options = {}, const Device& device = {}) {
  normalize_with("group_norm", group_axes("group_norm", x, num_groups), {options.eps}, nullptr, x, y, &saved, weight, bias, device);
}

/// y = (x - mean) * rstd * weight + bias, with one statistic per image and channel.
///
/// Shapes   x, y: (N, C, spatial axes), always with N: one image (C, H, W) would be C images of H channels. weight, bias: (C) or tn::none.
/// Aliasing, Errors   as layer_norm; one spatial element.
/// Source   Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022; PyTorch's F.instance_norm.
template <class X, class Y, class W = None, class B = None, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void instance_norm(const X& x, Y&& y, const W& weight = {}, const B& bias = {}, InstanceNormFunctionOptions options = {}, const Device& device = {}) {
  normalize_with("instance_norm", InstanceAxes<1>{}, {options.eps}, "Expected more than 1 spatial element", x, y,
                 static_cast<None*>(nullptr), weight, bias, device);
}
/// As instance_norm(x, y, weight, bias), and keeps mean and rstd, of shape (N, C), for instance_norm_backward.
template <class X, class Y, class Scalar, class W = None, class B = None, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void instance_norm(const X& x, Y&& y, SavedStats<Scalar>& saved, const W& weight = {}, const B& bias = {}, InstanceNormFunctionOptions options = {},
                   const Device& device = {}) {
  normalize_with("instance_norm", InstanceAxes<1>{}, {options.eps}, "Expected more than 1 spatial element", x, y, &saved, weight, bias,
                 device);
}

/// y = (x - running_mean) / sqrt(running_var + eps) * weight + bias: batch norm with its statistics given, as at inference.
///
/// Shapes   x, y: (N, C, ...). running_mean, running_var: (C), of one scalar type; weight, bias: (C) or tn::none.
/// Units    running_var is not checked: below -eps it gives NaN.
/// Aliasing, Errors   as layer_norm; y lies apart from the statistics, too.
/// Source   Ioffe & Szegedy 2015, arXiv:1502.03167; PyTorch's F.batch_norm with training = false.
template <class X, class Y, class M, class V, class W = None, class B = None, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
void batch_norm(const X& x, Y&& y, const M& running_mean, const V& running_var, const W& weight = {}, const B& bias = {},
                BatchNormFunctionOptions options = {}, const Device& device = {}) {
  using Scalar = typename parameter_scalar<X, W, B>::type;
  if constexpr (require_like<Scalar, X, Y>() && require_statistics<M, V>() && require_parameters<W, B>() && require_axes<BatchAxes<1>, X>() &&
                require_host_device<Device>()) {
    const Call call{"tensornorm", "batch_norm"};
    check_eps(call, options.eps);
    const auto in = view_of(x);
    const std::span<const Index> channels(&in.shape[1], 1);
    const auto [mean, variance] = running_data(call, running_mean, running_var, channels);
    const NormalizeContext<Scalar> context{
        call,
        {options.eps},
        {parameter_data<const Scalar>(call, "weight", weight, channels), parameter_data<const Scalar>(call, "bias", bias, channels)}};
    normalize_by_given<traits_of<X>::row_major>(context, BatchAxes<1>{}, in, view_of(y), mean, variance,
                                                static_cast<SavedStats<Scalar>*>(nullptr), device);
  }
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
