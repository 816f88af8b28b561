// SPDX-License-Identifier: MIT
#include "exact.hpp"

namespace accuracy {

namespace {

/// The strides of an array of those axes for which chosen(axis), the last one innermost; 0 for the other axes.
template <class Chosen>
Shape strides_of(const Shape& shape, Chosen chosen) {
  Shape result(shape.size());
  Index stride = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (!chosen(axis)) continue;
    result[axis] = stride;
    stride *= shape[axis];
  }
  return result;
}

template <class Real>
std::vector<Wide> wide(const std::vector<Real>& values) {
  return {values.begin(), values.end()};
}

}  // namespace

Problem::Problem(Norm of) : norm(std::move(of)) {
  const Shape& shape = norm.shape;
  statistic =
      positions<std::uint32_t>(shape, strides_of(shape, [&](std::size_t axis) { return !norm.is_reduced(axis); }));
  parameter =
      positions<std::uint32_t>(shape, strides_of(shape, [&](std::size_t axis) { return norm.is_affine(axis); }));
}

Exact::Exact(const Problem& problem, int digits) : of_(problem) {
  if (digits <= 24 && LDBL_MANT_DIG >= 64)
    add_up<long double>();
  else
    add_up<Wide>();
}

template <class Real>
void Exact::add_up() {
  const std::size_t count = of_.statistics(), parameters = of_.weight.size(), size = of_.x.size();
  const Real samples = static_cast<Real>(of_.norm.samples());
  const auto& s = of_.statistic;
  std::vector<Real> means(count), squares(count), rstds(count), sum_g(count), sum_gn(count);
  if (!of_.norm.mean_pinned_to_zero) {
    // The mean of the distances to one of the elements: equal ones have exactly their own mean.
    std::vector<double> one(count);
    for (std::size_t i = 0; i < size; ++i) one[s[i]] = of_.x[i];
    for (std::size_t i = 0; i < size; ++i) means[s[i]] += Real(of_.x[i]) - one[s[i]];
    for (std::size_t k = 0; k < count; ++k) means[k] = one[k] + means[k] / samples;
  }
  for (std::size_t i = 0; i < size; ++i) {
    const Real distance = of_.x[i] - means[s[i]];
    squares[s[i]] += distance * distance;
  }
  for (Real& sum : squares) sum /= samples;
  mean = wide(means);
  variance = wide(squares);
  for (std::size_t k = 0; k < count; ++k) {
    const Wide deviation = square_root(variance[k] + of_.norm.eps);
    rstd.push_back(deviation == 0 ? Wide(0) : 1 / deviation);
    rstds[k] = static_cast<Real>(rstd[k]);
  }
  std::vector<Real> largest(count), sum_dyn(parameters), sum_dy(parameters), term_dyn(parameters), term_dy(parameters),
      squares_dyn(parameters);
  for (std::size_t i = 0; i < size; ++i) largest[s[i]] = std::max(largest[s[i]], magnitude(of_.x[i] - means[s[i]]));
  for (std::size_t k = 0; k < count; ++k) largest[k] *= rstds[k];
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t p = of_.parameter[i];
    const Real dy = of_.dy[i], term = dy * (of_.x[i] - means[s[i]]) * rstds[s[i]], weight = of_.weight[p];
    sum_g[s[i]] += dy * weight;
    sum_gn[s[i]] += term * weight;
    sum_dyn[p] += term;
    sum_dy[p] += dy;
    const Real size_of_dy = magnitude(dy), size_of_term = size_of_dy * largest[s[i]];
    term_dyn[p] = std::max(term_dyn[p], size_of_term);
    term_dy[p] = std::max(term_dy[p], size_of_dy);
    squares_dyn[p] += size_of_term * size_of_term;
  }
  for (auto* sums : {&sum_g, &sum_gn})
    for (Real& sum : *sums) sum /= samples;
  mean_of_g = wide(sum_g);
  mean_of_gn = wide(sum_gn);
  dweight = wide(sum_dyn);
  dbias = wide(sum_dy);
  dweight_term = wide(term_dyn);
  dbias_term = wide(term_dy);
  dweight_size = wide(squares_dyn);
  for (Wide& sum : dweight_size) sum = square_root(sum);
}

Wide Exact::dx(std::size_t i) const {
  const std::size_t s = of_.statistic[i];
  const Wide shared = of_.norm.mean_pinned_to_zero ? Wide(0) : mean_of_g[s];
  return rstd[s] * (g(i) - shared - norm(i) * mean_of_gn[s]);
}

Wide Exact::largest_term_of_dx(std::size_t i) const {
  const std::size_t s = of_.statistic[i];
  const Wide shared = of_.norm.mean_pinned_to_zero ? Wide(0) : magnitude(mean_of_g[s]);
  return rstd[s] * std::max({magnitude(g(i)), shared, magnitude(norm(i) * mean_of_gn[s])});
}

}  // namespace accuracy
