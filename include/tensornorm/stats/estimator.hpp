// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <tensornorm/core/check.hpp>
#include <tensornorm/kernels/welford.hpp>

namespace tensornorm {

/// biased: m2 / n. unbiased: m2 / (n - 1). m2 = sum of (x - mean)^2.
enum class VarianceEstimator { biased, unbiased };
/// variance: 1 / sqrt(variance + eps). deviation: 1 / (sqrt(variance) + eps), as textbooks and ONNX's MeanVarianceNormalization have it.
enum class EpsAddedTo { variance, deviation };

/// How a statistic becomes the factor by which elements are multiplied.
struct StatisticsRule {
  double eps = 1e-5;
  VarianceEstimator estimator = VarianceEstimator::biased;
  EpsAddedTo eps_added_to = EpsAddedTo::variance;
  bool centered = true;  ///< false: the mean is taken to be 0 (RMSNorm)

  /// Of one m2, or of lanes of them.
  template <class S>
  TENSORNORM_INLINE S variance(S m2, Index samples) const {
    return kernels::divided(m2, samples - (estimator == VarianceEstimator::unbiased ? 1 : 0));
  }
  /// rstd; 0 where there is nothing to divide by. Of one variance, or of lanes of them. `scale`: that of x * scale, from its variance.
  template <class S>
  TENSORNORM_INLINE S rstd(S variance, S scale = S(1)) const {
    using std::sqrt;
    if (eps_added_to == EpsAddedTo::variance) return kernels::reciprocal_root(S(variance + S(eps) * scale * scale));
    return kernels::quotient_or_zero(S(1), S(sqrt(variance) + S(eps) * scale));
  }
  /// The deviation behind an rstd, 0 where it is nothing beside eps. Of one rstd, or of lanes of them. `scale`: all of x * scale.
  template <class S>
  TENSORNORM_INLINE S deviation(S rstd, S scale = S(1)) const {
    using std::sqrt;
    const bool squared = eps_added_to == EpsAddedTo::variance;
    const S root = kernels::quotient_or_zero(S(1), rstd), whole = squared ? S(root * root) : root;
    const S rest = whole - (squared ? S(S(eps) * scale * scale) : S(S(eps) * scale));
    const S noticed = kernels::or_where_zero(rest, kernels::not_below_zero(S(rest - S(0x1p-10) * whole)), S(0));
    return squared ? S(sqrt(noticed)) : noticed;
  }
  /// The factor of (x - mean) in dx, from `sum` = sum of dy * weight * (x - mean). Of one statistic, or of lanes of them.
  ///
  /// -rstd^3 / (n - c) * sum; with eps beside the deviation s, -rstd^2 / (s * (n - c)) * sum, 0 where s is 0. `scale`: all of x * scale.
  /// The sum first: of equal numbers it is 0, and the square of rstd may be infinite.
  template <class S>
  TENSORNORM_INLINE S slope(S rstd, S sum, Index samples, S scale = S(1)) const {
    const S steep = variance(sum, samples);
    if (eps_added_to == EpsAddedTo::variance) return S(0) - rstd * steep * rstd * rstd;
    const S deviation = kernels::not_below_zero(S(kernels::quotient_or_zero(S(1), rstd) - S(eps) * scale));
    return S(0) - kernels::quotient_or_zero(S(rstd * steep), deviation) * rstd;
  }
  /// What every dx of a statistic has added, from `sum` = sum of dy * weight: -rstd / n * sum.
  template <class S>
  TENSORNORM_INLINE S offset(S rstd, S sum, Index samples) const {
    return centered ? S(S(0) - rstd * kernels::divided(sum, samples)) : S(0);
  }

  /// The end of what a layer prints: the options that are not the default, but for eps.
  std::ostream& print_rest(std::ostream& out) const {
    return out << (estimator == VarianceEstimator::unbiased ? ", variance=unbiased" : "")
               << (eps_added_to == EpsAddedTo::deviation ? ", eps_added_to=deviation" : "") << ')';
  }
};

/// The rule of options that have eps, variance and eps_added_to.
template <class Options>
TENSORNORM_INLINE StatisticsRule rule_of(const Options& options) {
  return {options.eps, options.variance, options.eps_added_to, true};
}

/// That of RMS norms of parameters of Scalar, from options that have eps: where there is none, the epsilon of the accumulator, as in PyTorch.
template <class Scalar, class Options>
TENSORNORM_INLINE StatisticsRule rms_rule(const Options& options) {
  return {options.eps.value_or(epsilon_of<accumulator_t<Scalar>>()), VarianceEstimator::biased, EpsAddedTo::variance, false};
}

/// Where statistics go, or come from: flat arrays in x's storage order; null where nobody asks.
template <class S>
struct StatisticsArrays {
  S* mean = nullptr;
  S* mean_lo = nullptr;
  S* rstd = nullptr;
  S* variance = nullptr;
};

}  // namespace tensornorm
