// SPDX-License-Identifier: MIT
// The naive reference: every layer, forward and backward, in long double over logical (RowMajor) indices.
//
// It shares no code with the library, and derives the gradient another way: norm = c * d(M2) with c = x - mean and
// M2 = sum c^2, where only the scalar function d differs between the layers. So with g = dy * weight
//   dx_i = sum_j g_j * d norm_j / d x_i = d * (g_i - sum g / m) + 2 * d' * c_i * sum_j g_j * c_j,
// without the middle term where the mean is pinned to 0.
#pragma once

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
std::vector<Role> roles_of(const std::string& letters);

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
  Shape statistic_shape() const;
  Shape affine_shape() const;
  Index samples() const;
  Index statistics() const { return support::size_of(statistic_shape()); }
  Index parameters() const { return support::size_of(affine_shape()); }
  Index size() const { return support::size_of(shape); }

  /// Which statistic, and which parameter, element `flat` meets: flat RowMajor indices all.
  std::size_t statistic(std::size_t flat) const;
  std::size_t parameter(std::size_t flat) const;
};

/// Per statistic, RowMajor; the variance is biased (RMSNorm: the mean of x^2). The mean is mean + mean_lo: where it is
/// 1e6 deviations, a long double alone holds no more digits of the deviations than the results to be judged.
struct Statistics {
  Values mean, mean_lo, variance;
  Real centred(Real x, std::size_t statistic) const { return x - mean[statistic] - mean_lo[statistic]; }
};

template <class T>
Values real(const std::vector<T>& values) {
  return support::Numbers<T>::widened(values);
}

Statistics moments(const Norm& norm, const Values& x);

/// The factor d of norm = (x - mean) * d, and its derivative by M2 = samples * variance.
struct Factor {
  Real value, by_m2;
};

Factor factor(const Norm& norm, Real variance);

/// (x - mean) * d, without weight and bias.
Values normalized(const Norm& norm, const Values& x, const Statistics& statistics);

/// weight and bias may be empty.
Values forward(const Norm& norm, const Values& x, const Values& weight, const Values& bias,
               const Statistics& statistics);

struct Gradients {
  Values dx, dweight, dbias;
};

/// frozen: the statistics are constants (eval mode), not functions of x.
Gradients backward(const Norm& norm, const Values& dy, const Values& x, const Values& weight,
                   const Statistics& statistics, bool frozen);

/// The size of the terms of each dx before they cancel, of which rounding errors are fractions:
/// d * (|g| + (1 + |norm|) * max |g|), the maximum over the statistic; the two sums are at most m * max |g|.
Values terms_of_dx(const Norm& norm, const Values& dy, const Values& x, const Values& weight,
                   const Statistics& statistics);

/// The size of the terms of dweight and dbias, summed, where every norm counts as the largest one or 1: each has an
/// error of that scale.
Values terms_of_parameters(const Norm& norm, const Values& dy, const Values& norms);

}  // namespace reference
