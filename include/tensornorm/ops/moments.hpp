// SPDX-License-Identifier: MIT
#pragma once

#include <tensornorm/ops/normalize.hpp>

namespace tensornorm {

/// Mean and biased variance over some axes; tensors of the kept axes, in x's storage order.
template <class T>
struct Moments {
  T mean, variance;
};

/// Options of normalize() and layer_norm(): how a variance becomes a factor.
struct NormalizeOptions {
  double eps = 1e-5;  ///< finite and >= 0, in units of x^2 (of x where added to the deviation)
  VarianceEstimator variance = VarianceEstimator::biased;  ///< or unbiased, as textbook code often has it
  EpsAddedTo eps_added_to = EpsAddedTo::variance;          ///< or to the deviation, its root
};

namespace moments_of {

template <int kRank, int... kAxes>
constexpr void require_axes() {
  static_assert(ReduceAxes<kAxes...>::fits(kRank), "tensornorm: an axis of over<...> is out of range for x, or is named twice");
}

template <class X>
using Value = accumulator_t<scalar_of<X>>;
template <class X, int kReduced>
using Tensor = Eigen::Tensor<Value<X>, rank_of<X> - kReduced, traits_of<X>::row_major ? Eigen::RowMajor : Eigen::ColMajor>;

}  // namespace moments_of

inline namespace TENSORNORM_ABI {

/// mean = sum of x / n and variance = sum of (x - mean)^2 / n over the axes listed: moments(x, over<0, 2, 3>).
///
/// Shapes   the kept axes of x, their rank known at compile time; x's scalar (float for the 16-bit types) and storage order.
/// Errors   std::invalid_argument: x with a negative outer stride; std::length_error: more elements than the result's index counts. Over an
///          empty set both are NaN, as NumPy has it.
/// Accuracy as the layers', one shifted pass merged in double; the mean is rounded to the result's type. Memory   two new tensors.
/// Source   Chan, Golub & LeVeque 1979.
template <class X, int... kAxes, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
auto moments(const X& x, ReduceAxes<kAxes...> policy, const Device& device = {}) {
  if constexpr (require_readable<X>() && require_host_device<Device>()) {
    moments_of::require_axes<rank_of<X>, kAxes...>();
    using T = scalar_of<X>;
    using S = statistic_t<T>;
    using Result = moments_of::Tensor<X, int(sizeof...(kAxes))>;
    constexpr int rank = rank_of<X>;
    constexpr bool row_major = traits_of<X>::row_major;
    const auto view = view_of(x);
    const auto kept = kept_shape<ReduceAxes<kAxes...>, rank>(policy, view.shape);
    const Call call{"tensornorm", "moments"};
    check_strides(call, "x", view);
    check_countable<Result>(call, "mean", kept.size(), {kept.extents.data(), kept.rank});
    typename Result::Dimensions extents;
    if constexpr (sizeof...(kAxes) < rank) std::copy(kept.span().begin(), kept.span().end(), extents.begin());
    Moments<Result> result{Result(extents), Result(extents)};
    if (view.size() == 0) {
      result.mean.setConstant(nan_of<moments_of::Value<X>>());
      result.variance = result.mean;
      return result;
    }
    const TensorView<T, rank> no_y{nullptr, view.shape, view.stride};
    const TensorView<const T, rank> of_x{view.data, view.shape, view.stride};
    const auto& plan = forward_plan<kStatisticsOfX<ReduceAxes<kAxes...>, rank, row_major>, row_major>(call, policy, of_x, no_y, Parameters<T>{});
    ForwardOp op(plan, view.data, nullptr, {}, {}, device, 2);
    const StatisticsArrays<S> statistics{op.statistics_memory(0), nullptr, nullptr, op.statistics_memory(1)};
    op.set_statistics(statistics);
    op.run();
    for (Index k = 0; k < plan.statistics; ++k) {
      result.mean.data()[k] = static_cast<moments_of::Value<X>>(statistics.mean[k]);
      result.variance.data()[k] = static_cast<moments_of::Value<X>>(statistics.variance[k]);
    }
    return result;
  } else {
    return Moments<X>{x, x};
  }
}

/// The mean and the variance that a call is given can be read.
template <class M, class V>
constexpr bool require_statistics() {
  static_assert(traits_of<M>::readable && traits_of<V>::readable,
                "tensornorm: expected mean and variance as an Eigen Tensor, TensorMap, Matrix, Array, Map or Ref");
  return traits_of<M>::readable && traits_of<V>::readable;
}

/// y = (x - mean) / sqrt(variance + eps), or / (sqrt(variance) + eps) by options.eps_added_to, with mean and variance of the kept axes, as
/// moments(x, over<...>) returns them.
///
/// Shapes   y: x's; mean, variance: tensors of the kept axes (an Eigen vector is of rank 2), without gaps, in x's storage order from rank 2
///          on, of one scalar type, which need not be x's.
/// Units    variance is the biased one, not checked (below -eps: NaN); with options.variance unbiased, variance * n / (n - 1).
/// Aliasing y may be exactly x; any other overlap with x, mean or variance is an error.
/// Errors   std::invalid_argument before anything is written: shapes, gaps, overlaps, eps, n = 1 where an unbiased variance is asked for.
/// Accuracy that of the mean given: one rounded to float is off by half an ulp of it, which layer_norm() does not lose.
template <class X, class Y, class M, class V, int... kAxes, class Device = Eigen::DefaultDevice>
  requires(DeviceArgument<Device> && !is_over<V>)
void normalize(const X& x, Y&& y, const M& mean, const V& variance, ReduceAxes<kAxes...> policy, NormalizeOptions options = {},
               const Device& device = {}) {
  if constexpr (!traits_of<X>::readable) {
    static_cast<void>(require_readable<X>());
  } else if constexpr (require_like<scalar_of<X>, X, Y>() && require_statistics<M, V>() && require_host_device<Device>()) {
    using T = scalar_of<X>;
    constexpr int rank = rank_of<X>;
    moments_of::require_axes<rank, kAxes...>();
    constexpr int kept_rank = rank - int(sizeof...(kAxes));
    constexpr bool row_major = traits_of<X>::row_major;
    static_assert(rank_of<M> == kept_rank && rank_of<V> == kept_rank, "tensornorm: mean and variance have the kept axes of x");
    static_assert(kept_rank < 2 || (traits_of<M>::row_major == row_major && traits_of<V>::row_major == row_major),
                  "tensornorm: mean and variance have the storage order of x");
    static_assert(std::is_same_v<scalar_of<M>, scalar_of<V>>, "tensornorm: mean and variance must have the same scalar type");
    const NormalizeContext<T> context{{"tensornorm", "normalize"}, rule_of(options), {}};
    check_eps(context.call, options.eps);
    const auto in = view_of(x);
    const auto kept = kept_shape<ReduceAxes<kAxes...>, rank>(policy, in.shape);
    const auto check = [&](const char* name, const auto& given) {
      if (!std::equal(given.shape.begin(), given.shape.end(), kept.span().begin()))
        fail(context.call, name, ": expected ", ShapeText{kept.extents.data(), kept.rank}, ", got ", given.text());
      if (given.span() != given.size()) fail(context.call, name, ": expected elements without gaps");
    };
    check("mean", view_of(mean));
    check("variance", view_of(variance));
    normalize_by_given<row_major>(context, policy, in, view_of(y), mean.data(), variance.data(), static_cast<SavedStats<T>*>(nullptr), device);
  }
}

/// normalize() into a new tensor.
template <class X, class M, class V, int... kAxes, class Device = Eigen::DefaultDevice>
  requires DeviceArgument<Device>
auto normalize(const X& x, const M& mean, const V& variance, ReduceAxes<kAxes...> policy, NormalizeOptions options = {},
               const Device& device = {}) {
  auto y = make_like({"tensornorm", "normalize"}, x);
  if constexpr (require_readable<X>()) normalize(x, y, mean, variance, policy, options, device);
  return y;
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
