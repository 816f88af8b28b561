// SPDX-License-Identifier: MIT
// What a layer has to compute, in a number type so wide that its own rounding is far below what is judged.
//
// support/reference.hpp, in long double, is too coarse for double: it has 11 bits more, and sums of thousands of terms.
#pragma once

#include <cstdint>
#include <vector>

#include "support/reference.hpp"
#include "wide.hpp"

namespace accuracy {

using reference::Norm;

/// Elements in logical (RowMajor) order, each with the statistic and the parameter it belongs to.
struct Problem {
  explicit Problem(Norm of);

  Norm norm;
  std::vector<double> x, dy, weight, bias;
  std::vector<std::uint32_t> statistic, parameter;  // of each element
  std::size_t step = 1;                             // y and dx are judged at every step-th element

  std::size_t statistics() const { return static_cast<std::size_t>(norm.statistics()); }
};

/// The exact results; those of single elements are formed when they are asked for.
class Exact {
 public:
  explicit Exact(const Problem& problem);

  Wide norm(std::size_t i) const { return (Wide(of_.x[i]) - mean[of_.statistic[i]]) * rstd[of_.statistic[i]]; }
  Wide y(std::size_t i) const { return norm(i) * weight(i) + bias(i); }
  Wide g(std::size_t i) const { return of_.dy[i] * weight(i); }
  /// rstd * g - rstd * mean of g - rstd * norm * mean of g * norm; without the second term where the mean is pinned to
  /// 0.
  Wide dx(std::size_t i) const;
  /// The largest of these terms.
  Wide largest_term_of_dx(std::size_t i) const;
  Wide weight(std::size_t i) const { return of_.weight[of_.parameter[i]]; }
  Wide bias(std::size_t i) const { return of_.bias[of_.parameter[i]]; }
  bool is_constant(std::size_t s) const { return !of_.norm.mean_pinned_to_zero && variance[s] == 0; }

  std::vector<Wide> mean, variance, rstd;   // per statistic; the variance is biased
  std::vector<Wide> mean_of_g, mean_of_gn;  // of g, of g * norm
  std::vector<Wide> dweight, dbias;         // per parameter
  std::vector<Wide> dweight_size,
      dbias_size;  // that of the terms they are sums of: the root of the sum of their squares

 private:
  const Problem& of_;
};

}  // namespace accuracy
