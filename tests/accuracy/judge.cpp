// SPDX-License-Identifier: MIT
#include <limits>

#include "report.hpp"

namespace accuracy {

namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

/// The largest of value(i) over the elements of each statistic.
template <class Value>
std::vector<Wide> largest_per_statistic(const Problem& problem, Value value) {
  std::vector<Wide> result(problem.statistics());
  for (std::size_t i = 0; i < problem.x.size(); i += problem.step) {
    Wide& largest = result[problem.statistic[i]];
    largest = std::max(largest, magnitude(value(i)));
  }
  return result;
}

void take_worse(double& error, double other) {
  if (!(other <= error) && !std::isnan(other)) error = other;
}

/// The worst error(i) of `count`, NaN if all are.
template <class Error>
double worst(std::size_t count, Error error, std::size_t step = 1) {
  double result = kNothing;
  for (std::size_t i = 0; i < count; i += step) take_worse(result, error(i));
  return result;
}

/// y of a constant is the bias to the last bit, rounded where x's type is narrower.
bool is_bias(const Types& types, double y, double bias) {
  return y == bias || (types.element.digits < types.parameter.digits && types.element.error(y, bias, bias) <= 0.5);
}

double error_of_y(const Types& types, const Problem& problem, const Exact& exact, const std::vector<double>& actual,
                  bool affine) {
  const auto scale = largest_per_statistic(problem, [&](std::size_t i) {
    return affine ? magnitude(exact.norm(i) * exact.weight(i)) + magnitude(exact.bias(i)) : exact.norm(i);
  });
  const auto error = [&](std::size_t i) {
    const std::size_t s = problem.statistic[i];
    if (exact.is_constant(s))
      return is_bias(types, actual[i], affine ? problem.bias[problem.parameter[i]] : 0) ? 0 : kInfinite;
    return types.element.error(actual[i], affine ? exact.y(i) : exact.norm(i), scale[s]);
  };
  return worst(actual.size(), error, problem.step);
}

/// Nothing is judged where the terms come close to the largest number: their sum may be beyond it on its way.
double error_of_dx(const Types& types, const Problem& problem, const Exact& exact, const std::vector<double>& actual) {
  const auto scale = largest_per_statistic(problem, [&](std::size_t i) { return exact.largest_term_of_dx(i); });
  const auto error = [&](std::size_t i) {
    const Wide terms = scale[problem.statistic[i]];
    return terms > Wide(types.element.largest) / 4 ? kNothing : types.element.error(actual[i], exact.dx(i), terms);
  };
  return worst(actual.size(), error, problem.step);
}

double error_of_sums(const Format& format, const std::vector<double>& actual, const std::vector<Wide>& exact,
                     const std::vector<Wide>& sizes) {
  return worst(actual.size(), [&](std::size_t p) {
    return format.error(actual[p], exact[p], std::max(magnitude(exact[p]), sizes[p]));
  });
}

/// The mean and the variance of each channel over a batch, which running statistics take in: the variance unbiased, and
/// both averaged over the images of an InstanceNorm.
struct Batch {
  std::vector<Wide> mean, variance, deviation;
  Batch(const Problem& problem, const Exact& exact, std::size_t channels)
      : mean(channels), variance(channels), deviation(channels) {
    const Wide samples = static_cast<Wide>(problem.norm.samples()),
               repeats = static_cast<Wide>(problem.statistics() / channels);
    for (std::size_t s = 0; s < problem.statistics(); ++s) {
      mean[s % channels] += exact.mean[s] / repeats;
      variance[s % channels] += exact.variance[s] * samples / (samples - 1) / repeats;
    }
    for (std::size_t c = 0; c < channels; ++c) deviation[c] = square_root(variance[c]);
  }
};

}  // namespace

Measured judge(const Types& types, std::string layer, std::string data, const Problem& problem, const Exact& exact,
               const Outcome& outcome) {
  Measured result{types, std::move(layer), std::move(data), {}, kNothing};
  const auto& values = outcome.values;
  auto& errors = result.errors;
  errors[norm] = error_of_y(types, problem, exact, values[norm], false);
  errors[y] = error_of_y(types, problem, exact, values[y], true);
  errors[dx] = error_of_dx(types, problem, exact, values[dx]);
  errors[dweight] = error_of_sums(types.parameter, values[dweight], exact.dweight, exact.dweight_size);
  errors[dweight_term] = error_of_sums(types.parameter, values[dweight], exact.dweight, exact.dweight_term);
  errors[dbias] = error_of_sums(types.parameter, values[dbias], exact.dbias, exact.dbias_term);
  if (*std::max_element(exact.rstd.begin(), exact.rstd.end()) > Wide(std::numeric_limits<double>::max())) {
    result.dweight_without_rstd = errors[dweight];
    errors[dweight] = errors[dweight_term] = kNothing;
  }
  errors[variance] = worst(values[variance].size(), [&](std::size_t s) {
    return types.statistic.error(values[variance][s], exact.variance[s], exact.variance[s]);
  });
  errors[running_mean] = errors[running_var] = kNothing;
  for (const Running& running : outcome.running) {
    const std::size_t channels = running.mean.size();
    const Batch batch(problem, exact, channels);
    const Wide f = running.momentum;
    take_worse(errors[running_mean], worst(channels, [&](std::size_t c) {
                 return types.running.error(running.mean[c], f * batch.mean[c],
                                            f * (magnitude(batch.mean[c]) + batch.deviation[c]));
               }));
    take_worse(errors[running_var], worst(channels, [&](std::size_t c) {
                 const Wide expected = 1 - f + f * batch.variance[c];
                 return types.running.error(running.variance[c], expected, expected);
               }));
  }
  return result;
}

}  // namespace accuracy
