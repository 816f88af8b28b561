// SPDX-License-Identifier: MIT
// Normalization by its definition: two passes in double over a flat array, sharing nothing with the library.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace tour {

using Shape = std::vector<std::size_t>;

/// An axis that indexes the statistics: position / step, so step = C / G makes groups of channels.
struct KeptAxis {
  std::string name;
  std::size_t axis;
  std::size_t step = 1;
};

/// Which elements of a row-by-row array share one mean and variance.
struct Grouping {
  std::vector<KeptAxis> kept;

  /// extent[k] statistics along kept axis k.
  Shape extents(const Shape& shape) const {
    Shape result;
    for (const KeptAxis& axis : kept) result.push_back(shape[axis.axis] / axis.step);
    return result;
  }

  std::size_t count(const Shape& shape) const {
    std::size_t product = 1;
    for (const std::size_t extent : extents(shape)) product *= extent;
    return product;
  }

  /// The statistic that element `position` belongs to.
  std::size_t statistic_of(std::size_t position, const Shape& shape) const {
    Shape index(shape.size());
    for (std::size_t axis = shape.size(); axis-- > 0; position /= shape[axis]) index[axis] = position % shape[axis];
    const Shape extent = extents(shape);
    std::size_t statistic = 0;
    for (std::size_t k = 0; k < kept.size(); ++k)
      statistic = statistic * extent[k] + index[kept[k].axis] / kept[k].step;
    return statistic;
  }

  /// "n=0 g=1"
  std::string label(std::size_t statistic, const Shape& shape) const {
    const Shape extent = extents(shape);
    Shape index(kept.size());
    for (std::size_t k = kept.size(); k-- > 0; statistic /= extent[k]) index[k] = statistic % extent[k];
    std::string text;
    for (std::size_t k = 0; k < kept.size(); ++k)
      text.append(k == 0 ? "" : " ").append(kept[k].name).append("=").append(std::to_string(index[k]));
    return text;
  }
};

/// How the statistics become a divisor.
struct Formula {
  double eps = 1e-5;
  bool centred = true;                // RMSNorm: false, the mean is taken as 0
  bool unbiased = false;              // divide by n - 1
  bool eps_beside_deviation = false;  // deviation + eps instead of sqrt(variance + eps)

  double divisor(double variance) const {
    return eps_beside_deviation ? std::sqrt(variance) + eps : std::sqrt(variance + eps);
  }
  double variance_from(double divisor) const {
    return eps_beside_deviation ? (divisor - eps) * (divisor - eps) : divisor * divisor - eps;
  }
};

struct Statistics {
  std::vector<double> mean, variance;
};

inline Statistics statistics(std::span<const double> x, const Shape& shape, const Grouping& grouping,
                             const Formula& formula) {
  const std::size_t count = grouping.count(shape);
  Statistics result{std::vector<double>(count), std::vector<double>(count)};
  const double n = static_cast<double>(x.size()) / static_cast<double>(count);
  if (formula.centred)
    for (std::size_t i = 0; i < x.size(); ++i) result.mean[grouping.statistic_of(i, shape)] += x[i] / n;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t s = grouping.statistic_of(i, shape);
    result.variance[s] += (x[i] - result.mean[s]) * (x[i] - result.mean[s]) / (formula.unbiased ? n - 1 : n);
  }
  return result;
}

/// y = (x - mean) / sqrt(variance + eps), or the formula's variant of it.
inline std::vector<double> normalized(std::span<const double> x, const Shape& shape, const Grouping& grouping,
                                      const Formula& formula) {
  const Statistics stats = statistics(x, shape, grouping, formula);
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t s = grouping.statistic_of(i, shape);
    y[i] = (x[i] - stats.mean[s]) / formula.divisor(stats.variance[s]);
  }
  return y;
}

}  // namespace tour
