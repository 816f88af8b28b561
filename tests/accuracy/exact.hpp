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
using support::Index;
using support::Shape;

/// Where each element, in logical order, is in an array of these strides.
template <class Position>
std::vector<Position> positions(const Shape& shape, const Shape& strides) {
  std::vector<Position> result;
  result.reserve(static_cast<std::size_t>(support::size_of(shape)));
  const auto walk = [&](const auto& self, std::size_t axis, Index base) -> void {
    for (Index k = 0; k < shape[axis]; ++k, base += strides[axis])
      if (axis + 1 < shape.size())
        self(self, axis + 1, base);
      else
        result.push_back(static_cast<Position>(base));
  };
  walk(walk, 0, 0);
  return result;
}

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
  /// digits: of the elements' type. A long double has 40 bits more than a float has: sums for it and for narrower ones
  /// are formed in that, in a twentieth of the time.
  Exact(const Problem& problem, int digits);

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

  std::vector<Wide> mean, variance, rstd;      // per statistic; the variance is biased
  std::vector<Wide> mean_of_g, mean_of_gn;     // of g, of g * norm
  std::vector<Wide> dweight, dbias;            // per parameter
  std::vector<Wide> dweight_term, dbias_term;  // the largest of the terms they are sums of, norm as large as any of its
                                               // statistic: none is exact beside that
  std::vector<Wide> dweight_size;              // the root of the sum of those terms' squares

 private:
  template <class Real>
  void add_up();

  const Problem& of_;
};

}  // namespace accuracy
