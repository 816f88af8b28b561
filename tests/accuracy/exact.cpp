// SPDX-License-Identifier: MIT
#include "exact.hpp"

namespace accuracy {

Problem::Problem(Norm of) : norm(std::move(of)) {
  const auto size = static_cast<std::size_t>(norm.size());
  statistic.resize(size);
  parameter.resize(size);
  for (std::size_t i = 0; i < size; ++i) {
    statistic[i] = static_cast<std::uint32_t>(norm.statistic(i));
    parameter[i] = static_cast<std::uint32_t>(norm.parameter(i));
  }
}

Exact::Exact(const Problem& problem) : of_(problem) {
  const std::size_t count = problem.statistics(), parameters = problem.weight.size(), size = problem.x.size();
  const Wide samples = static_cast<Wide>(problem.norm.samples());
  const auto& s = problem.statistic;
  for (auto* values : {&mean, &variance, &rstd, &mean_of_g, &mean_of_gn}) values->resize(count);
  for (auto* values : {&dweight, &dbias, &dweight_size, &dbias_size}) values->resize(parameters);
  if (!problem.norm.mean_pinned_to_zero) {
    // The mean of the distances to one of the elements: equal ones have exactly their own mean.
    std::vector<double> one(count);
    for (std::size_t i = 0; i < size; ++i) one[s[i]] = problem.x[i];
    for (std::size_t i = 0; i < size; ++i) mean[s[i]] += Wide(problem.x[i]) - one[s[i]];
    for (std::size_t k = 0; k < count; ++k) mean[k] = one[k] + mean[k] / samples;
  }
  for (std::size_t i = 0; i < size; ++i) {
    const Wide distance = problem.x[i] - mean[s[i]];
    variance[s[i]] += distance * distance;
  }
  for (std::size_t k = 0; k < count; ++k) {
    variance[k] /= samples;
    const Wide deviation = square_root(variance[k] + problem.norm.eps);
    rstd[k] = deviation == 0 ? Wide(0) : 1 / deviation;
  }
  std::vector<Wide> largest(count);  // norm, of whose size is the error of every one
  for (std::size_t i = 0; i < size; ++i) largest[s[i]] = std::max(largest[s[i]], magnitude(norm(i)));
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t p = problem.parameter[i];
    const Wide dy = problem.dy[i], term = dy * norm(i);
    mean_of_g[s[i]] += g(i);
    mean_of_gn[s[i]] += term * weight(i);
    dweight[p] += term;
    dbias[p] += dy;
    dweight_size[p] += dy * dy * largest[s[i]] * largest[s[i]];
    dbias_size[p] += dy * dy;
  }
  for (auto* sizes : {&dweight_size, &dbias_size})
    for (Wide& sum : *sizes) sum = square_root(sum);
  for (auto* sums : {&mean_of_g, &mean_of_gn})
    for (Wide& sum : *sums) sum /= samples;
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
