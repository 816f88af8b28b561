// SPDX-License-Identifier: MIT
#include "reference.hpp"

#include <algorithm>
#include <cmath>

namespace reference {

namespace {

template <class Chosen>
Shape part(const Shape& shape, Chosen chosen) {
  Shape result;
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (chosen(axis)) result.push_back(shape[axis]);
  return result;
}

/// The flat RowMajor index of element `flat` among the axes for which chosen(axis).
template <class Chosen>
std::size_t index(const Shape& shape, std::size_t flat, Chosen chosen) {
  Index rest = static_cast<Index>(flat), result = 0, step = 1;
  for (std::size_t axis = shape.size(); axis-- > 0; rest /= shape[axis])
    if (chosen(axis)) {
      result += rest % shape[axis] * step;
      step *= shape[axis];
    }
  return static_cast<std::size_t>(result);
}

std::vector<Factor> factors(const Norm& norm, const Statistics& statistics) {
  std::vector<Factor> result;
  for (const Real variance : statistics.variance) result.push_back(factor(norm, variance));
  return result;
}

}  // namespace

Shape Norm::statistic_shape() const {
  return part(shape, [&](std::size_t axis) { return !is_reduced(axis); });
}
Shape Norm::affine_shape() const {
  return part(shape, [&](std::size_t axis) { return is_affine(axis); });
}
Index Norm::samples() const {
  Index result = 1;
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (is_reduced(axis)) result *= shape[axis];
  return result;
}
std::size_t Norm::statistic(std::size_t flat) const {
  return index(shape, flat, [&](std::size_t axis) { return !is_reduced(axis); });
}
std::size_t Norm::parameter(std::size_t flat) const {
  return index(shape, flat, [&](std::size_t axis) { return is_affine(axis); });
}

std::vector<Role> roles_of(const std::string& letters) {
  std::vector<Role> roles;
  for (const char letter : letters)
    roles.push_back(letter == 'k'   ? Role::kept
                    : letter == 'K' ? Role::kept_affine
                    : letter == 'r' ? Role::reduced
                                    : Role::reduced_affine);
  return roles;
}

Statistics moments(const Norm& norm, const Values& x) {
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

Factor factor(const Norm& norm, Real variance) {
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

Values normalized(const Norm& norm, const Values& x, const Statistics& statistics) {
  const std::vector<Factor> d = factors(norm, statistics);
  Values result(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t s = norm.statistic(i);
    result[i] = statistics.centred(x[i], s) * d[s].value;
  }
  return result;
}

Values forward(const Norm& norm, const Values& x, const Values& weight, const Values& bias,
               const Statistics& statistics) {
  Values y = normalized(norm, x, statistics);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t p = norm.parameter(i);
    y[i] = y[i] * (weight.empty() ? 1 : weight[p]) + (bias.empty() ? 0 : bias[p]);
  }
  return y;
}

Gradients backward(const Norm& norm, const Values& dy, const Values& x, const Values& weight,
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

Values terms_of_dx(const Norm& norm, const Values& dy, const Values& x, const Values& weight,
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

Values terms_of_parameters(const Norm& norm, const Values& dy, const Values& norms) {
  Real largest = 1;
  for (const Real value : norms) largest = std::max(largest, std::abs(value));
  Values result(static_cast<std::size_t>(norm.parameters()));
  for (std::size_t i = 0; i < dy.size(); ++i) result[norm.parameter(i)] += std::abs(dy[i]) * largest;
  return result;
}

}  // namespace reference
