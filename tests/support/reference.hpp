// SPDX-License-Identifier: MIT
// The naive reference: every layer, forward and backward, in long double over logical (RowMajor) indices.
//
// It shares no code with the library, and derives the gradient another way: norm = c * d(M2) with c = x - mean and
// M2 = sum c^2, where only the scalar function d differs between the layers. So with g = dy * weight
//   dx_i = sum_j g_j * d norm_j / d x_i = d * (g_i - sum g / m) + 2 * d' * c_i * sum_j g_j * c_j,
// without the middle term where the mean is pinned to 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "logical.hpp"

namespace reference {

using support::Index;
using support::Shape;
using Real = long double;
using Values = std::vector<Real>;

enum class Role { kept, kept_affine, reduced, reduced_affine };

/// One letter per axis: k / K kept without / with weight and bias, r / R reduced likewise.
inline std::vector<Role> roles_of(const std::string& letters) {
  std::vector<Role> roles;
  for (const char letter : letters)
    roles.push_back(letter == 'k'   ? Role::kept
                    : letter == 'K' ? Role::kept_affine
                    : letter == 'r' ? Role::reduced
                                    : Role::reduced_affine);
  return roles;
}

/// A normalization of data of this shape. A channel axis in groups stands here as two axes, (groups, channels /
/// groups).
struct Norm {
  Shape shape;
  std::vector<Role> roles;
  Real eps = 1e-5;  // as a double, like the layers
  bool mean_pinned_to_zero = false;
  bool unbiased = false;
  bool eps_added_to_deviation = false;

  bool is_reduced(std::size_t axis) const {
    return roles[axis] == Role::reduced || roles[axis] == Role::reduced_affine;
  }
  bool is_affine(std::size_t axis) const {
    return roles[axis] == Role::kept_affine || roles[axis] == Role::reduced_affine;
  }
  template <class Chosen>
  Shape part(Chosen chosen) const {
    Shape result;
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
      if (chosen(axis)) result.push_back(shape[axis]);
    return result;
  }
  Shape statistic_shape() const {
    return part([&](std::size_t axis) { return !is_reduced(axis); });
  }
  Shape affine_shape() const {
    return part([&](std::size_t axis) { return is_affine(axis); });
  }
  Index samples() const {
    Index result = 1;
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
      if (is_reduced(axis)) result *= shape[axis];
    return result;
  }
  Index statistics() const { return support::size_of(statistic_shape()); }
  Index parameters() const { return support::size_of(affine_shape()); }
  Index size() const { return support::size_of(shape); }

  /// The flat RowMajor index of element `flat` among the axes for which chosen(axis).
  template <class Chosen>
  std::size_t index(Index flat, Chosen chosen) const {
    Index result = 0, step = 1;
    for (std::size_t axis = shape.size(); axis-- > 0; flat /= shape[axis])
      if (chosen(axis)) {
        result += flat % shape[axis] * step;
        step *= shape[axis];
      }
    return static_cast<std::size_t>(result);
  }
  std::size_t statistic(std::size_t flat) const {
    return index(static_cast<Index>(flat), [&](std::size_t axis) { return !is_reduced(axis); });
  }
  std::size_t parameter(std::size_t flat) const {
    return index(static_cast<Index>(flat), [&](std::size_t axis) { return is_affine(axis); });
  }
};

/// Per statistic, RowMajor; the variance is biased (RMSNorm: the mean of x^2). The mean is mean + mean_lo: where it is
/// 1e6 deviations, a long double alone holds no more digits of the deviations than the results to be judged.
struct Statistics {
  Values mean, mean_lo, variance;
  Real centred(Real x, std::size_t statistic) const { return x - mean[statistic] - mean_lo[statistic]; }
};

template <class T>
Values real(const std::vector<T>& values) {
  return Values(values.begin(), values.end());
}

inline Statistics moments(const Norm& norm, const Values& x) {
  const auto count = static_cast<std::size_t>(norm.statistics());
  const auto samples = static_cast<Real>(norm.samples());
  Statistics result{Values(count), Values(count), Values(count)};
  if (!norm.mean_pinned_to_zero) {
    // The mean of the differences to one of the values: equal values have exactly their own mean.
    Values value(count), difference(count);
    for (std::size_t i = 0; i < x.size(); ++i) value[norm.statistic(i)] = x[i];
    for (std::size_t i = 0; i < x.size(); ++i) difference[norm.statistic(i)] += x[i] - value[norm.statistic(i)];
    for (std::size_t s = 0; s < count; ++s) {
      result.mean[s] = value[s] + difference[s] / samples;
      result.mean_lo[s] = (value[s] - result.mean[s]) + difference[s] / samples;
    }
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Real centred = result.centred(x[i], norm.statistic(i));
    result.variance[norm.statistic(i)] += centred * centred / samples;
  }
  return result;
}

/// The factor d of norm = (x - mean) * d, and its derivative by M2 = samples * variance.
struct Factor {
  Real value, by_m2;
};

inline Factor factor(const Norm& norm, Real variance) {
  const auto samples = static_cast<Real>(norm.samples());
  const Real divisor = norm.unbiased ? samples - 1 : samples;
  const Real estimate = variance * samples / divisor;
  if (norm.eps_added_to_deviation) {
    const Real deviation = std::sqrt(estimate);
    if (deviation + norm.eps == 0) return {0, 0};
    const Real value = 1 / (deviation + norm.eps);
    return {value, deviation == 0 ? 0 : -value * value / (2 * deviation * divisor)};
  }
  if (estimate + norm.eps == 0) return {0, 0};
  const Real value = 1 / std::sqrt(estimate + norm.eps);
  return {value, -value * value * value / (2 * divisor)};
}

inline std::vector<Factor> factors(const Norm& norm, const Statistics& statistics) {
  std::vector<Factor> result;
  for (const Real variance : statistics.variance) result.push_back(factor(norm, variance));
  return result;
}

/// (x - mean) * d, without weight and bias.
inline Values normalized(const Norm& norm, const Values& x, const Statistics& statistics) {
  const std::vector<Factor> d = factors(norm, statistics);
  Values result(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t s = norm.statistic(i);
    result[i] = statistics.centred(x[i], s) * d[s].value;
  }
  return result;
}

/// weight and bias may be empty.
inline Values forward(const Norm& norm, const Values& x, const Values& weight, const Values& bias,
                      const Statistics& statistics) {
  Values y = normalized(norm, x, statistics);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t p = norm.parameter(i);
    y[i] = y[i] * (weight.empty() ? 1 : weight[p]) + (bias.empty() ? 0 : bias[p]);
  }
  return y;
}

struct Gradients {
  Values dx, dweight, dbias;
};

/// frozen: the statistics are constants (eval mode), not functions of x.
inline Gradients backward(const Norm& norm, const Values& dy, const Values& x, const Values& weight,
                          const Statistics& statistics, bool frozen) {
  const auto count = static_cast<std::size_t>(norm.statistics());
  const auto parameters = static_cast<std::size_t>(norm.parameters());
  Gradients result{Values(x.size()), Values(parameters), Values(parameters)};
  const Values norms = normalized(norm, x, statistics);
  const std::vector<Factor> factor_of = factors(norm, statistics);
  const auto samples = static_cast<Real>(norm.samples());
  Values g(x.size()), sum_g(count), sum_gc(count);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t s = norm.statistic(i);
    const std::size_t p = norm.parameter(i);
    g[i] = dy[i] * (weight.empty() ? 1 : weight[p]);
    sum_g[s] += g[i];
    sum_gc[s] += g[i] * statistics.centred(x[i], s);
    result.dweight[p] += dy[i] * norms[i];
    result.dbias[p] += dy[i];
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t s = norm.statistic(i);
    const Factor& d = factor_of[s];
    result.dx[i] = d.value * g[i];
    if (frozen) continue;
    if (!norm.mean_pinned_to_zero) result.dx[i] -= d.value * sum_g[s] / samples;
    result.dx[i] += 2 * d.by_m2 * statistics.centred(x[i], s) * sum_gc[s];
  }
  return result;
}

/// The size of the terms of each dx before they cancel, of which rounding errors are fractions:
/// d * (|g| + (1 + |norm|) * max |g|), the maximum over the statistic; the two sums are at most m * max |g|.
inline Values terms_of_dx(const Norm& norm, const Values& dy, const Values& x, const Values& weight,
                          const Statistics& statistics) {
  const auto count = static_cast<std::size_t>(norm.statistics());
  const Values norms = normalized(norm, x, statistics);
  Values g(x.size()), largest(count);
  for (std::size_t i = 0; i < x.size(); ++i) {
    g[i] = std::abs(dy[i] * (weight.empty() ? 1 : weight[norm.parameter(i)]));
    largest[norm.statistic(i)] = std::max(largest[norm.statistic(i)], g[i]);
  }
  const std::vector<Factor> d = factors(norm, statistics);
  Values result(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t s = norm.statistic(i);
    result[i] = d[s].value * (g[i] + (1 + std::abs(norms[i])) * largest[s]);
  }
  return result;
}

/// The size of the terms of dweight and dbias, summed, where every norm counts as the largest one or 1: each has an
/// error of that scale.
inline Values terms_of_parameters(const Norm& norm, const Values& dy, const Values& norms) {
  Real largest = 1;
  for (const Real value : norms) largest = std::max(largest, std::abs(value));
  Values result(static_cast<std::size_t>(norm.parameters()));
  for (std::size_t i = 0; i < dy.size(); ++i) result[norm.parameter(i)] += std::abs(dy[i]) * largest;
  return result;
}

}  // namespace reference
